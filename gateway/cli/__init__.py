"""The `deltawire` command.

Tour: `options` — flags, made from `Settings` where they are settings · `environment` — variables that are none of
ours · `stdio` — standard input and output that hold nothing up · `beside` — jobs that run meanwhile · `reconnecting` —
what is said while the gateway is away · `ending` — how every command ends · `trust` — TLS of commands that connect ·
`credentials` — the token they show · one file a command: `serve` (with `systemd`, `collector`), `publish` (with
`publication`, `sources`, `pace`, `child`), `tail` (with `render`, `keyboard`), `streams`, `token`, `check_config`.

What a person or a program asked for goes to standard output, everything else to standard error. A command ends with
0 when it did its work, 1 when it could not, 2 when it was asked wrongly (for `serve`: or could not start), 130 after
Ctrl-C, 141 when the reader of its output went away. `publish -- COMMAND` ends with the status of the command.
"""

from __future__ import annotations

import importlib
import os
import sys
from importlib import metadata
from typing import Any

import click

from gateway.cli.ending import Failure, Status, discard_output, say
from gateway.cli.options import examples
from protocol.errors import DeltawireError

COMMANDS = {
    "serve": "gateway.cli.serve",
    "publish": "gateway.cli.publish",
    "tail": "gateway.cli.tail",
    "streams": "gateway.cli.streams",
    "check-config": "gateway.cli.check_config",
    "token": "gateway.cli.token",
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used: a command starts in half the time for it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the order they are met."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command with this name, None if there is none."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name]).command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, with what can go wrong outside it turned into an exit status."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            discard_output()
            return Status.READER_GONE
        except (DeltawireError, OSError) as error:
            raise Failure(str(error)) from None


def _print_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - click's call
    if wanted:
        try:
            version = metadata.version("deltawire")
        except metadata.PackageNotFoundError:  # run from a source tree
            version = "(not installed)"
        click.echo(f"deltawire {version}")
        ctx.exit()


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "deltawire serve",
        "some-command | deltawire publish demo --format text",
        "deltawire publish demo --format text -- some-command",
        "deltawire tail demo",
        "deltawire streams list",
    ),
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Stream LLM answers from a producer to everyone who follows them."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the command's name; None takes the process's own.

    Returns:
        The exit status.
    """
    _open_missing_streams()
    try:
        return int(cli.main(arguments, prog_name="deltawire", standalone_mode=False) or Status.DONE)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        say(f"error: {error.format_message()}")
        return error.exit_code
    except click.Abort:
        return Status.INTERRUPTED


def _open_missing_streams() -> None:
    """Put /dev/null where the caller closed a standard stream (`2>&-`), lest the first socket take its place."""
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            setattr(sys, name, open(fd, mode, closefd=False))  # noqa: SIM115 - lives as long as the process
