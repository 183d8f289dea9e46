"""The command line: the list of commands, and the exit status of each kind of failure."""

from __future__ import annotations

import importlib
import os
import sys
from importlib import metadata
from typing import Any

import click

from deltawire.gateway.cli.ending import Failure, Status, discard_output, explain, say
from deltawire.gateway.cli.interrupts import ending_at_once
from deltawire.gateway.cli.options import examples
from deltawire.protocol.errors import DeltawireError

COMMANDS = {  # name: module
    "serve": "serve",
    "publish": "publish",
    "tail": "tail",
    "streams": "streams",
    "check-config": "check_config",
    "token": "token",
}


class LazyGroup(click.Group):
    """A group that imports a command only when it is used, which halves the time a command takes to start."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands, in the order in which users need them."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command with this name, or None."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        with ending_at_once():
            command: click.Command = importlib.import_module(f".{COMMANDS[cmd_name]}", __package__).command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn failures from outside the program into an exit status."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            discard_output()
            return Status.READER_GONE
        except DeltawireError as error:
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


def run(arguments: list[str] | None) -> int:
    """Run the command line.

    Args:
        arguments: the arguments after the command's name; None uses those of the process.

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
    except OSError as error:
        say(f"error: {explain(error)}")
        return Status.FAILED
    except click.Abort:
        return Status.INTERRUPTED


def _open_missing_streams() -> None:
    """Open /dev/null for each standard stream that the caller closed (`2>&-`), so that no socket takes its number."""
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
            setattr(sys, name, open(fd, mode, closefd=False))  # noqa: SIM115 - lives as long as the process
