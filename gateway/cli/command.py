"""The command line: which commands there are, and the exit status of whatever goes wrong."""

from __future__ import annotations

import importlib
import os
import sys
from importlib import metadata
from typing import Any, NamedTuple

import click

from deltawire.gateway.cli.ending import Failure, Status, discard_output, explain, say
from deltawire.gateway.cli.interrupts import ending_at_once
from deltawire.gateway.cli.options import examples
from deltawire.protocol.errors import DeltawireError


class Offer(NamedTuple):
    """A command, as long as nobody has asked for it.

    Attributes:
        module: of this package, which has it.
        summary: the first sentence of its help, lest a list of the commands imports them all.
    """

    module: str
    summary: str


COMMANDS = {
    "serve": Offer("serve", "Run a gateway until SIGTERM or SIGINT (Ctrl-C), then drain it."),
    "publish": Offer("publish", "Publish standard input, or what COMMAND prints, to STREAM."),
    "tail": Offer("tail", "Follow STREAM until it ends."),
    "streams": Offer("streams", "List, inspect, create and close streams."),
    "check-config": Offer(
        "check_config", "Check all settings, and print them as a TOML file that says where each value comes from."
    ),
    "token": Offer("token", "Print a token, or make a key for some."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used; help needs none, so it comes five times as soon."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the order they are met."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command with this name, None if there is none."""
        del ctx
        offer = COMMANDS.get(cmd_name)
        if offer is None:
            return None
        with ending_at_once():
            command: click.Command = importlib.import_module(f".{offer.module}", __package__).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands as click does, from their summaries."""
        del ctx
        room = formatter.width - 6 - max(map(len, COMMANDS))
        stubs = [click.Command(name, help=offer.summary) for name, offer in COMMANDS.items()]
        with formatter.section("Commands"):
            formatter.write_dl([(str(it.name), it.get_short_help_str(room)) for it in stubs])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, with what can go wrong outside it turned into an exit status."""
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
    except OSError as error:
        say(f"error: {explain(error)}")
        return Status.FAILED
    except click.Abort:
        return Status.INTERRUPTED


def _open_missing_streams() -> None:
    """Put /dev/null where the caller closed a standard stream (`2>&-`), lest the first socket take its place."""
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            setattr(sys, name, open(fd, mode, closefd=False))  # noqa: SIM115 - lives as long as the process
