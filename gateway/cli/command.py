"""The command line: the list of commands, and the exit status of each kind of failure."""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import nullcontext
from typing import Any, Final, NamedTuple

import click
from click.shell_completion import CompletionItem

from deltawire import __version__
from deltawire.gateway.cli.ending import Failure, StartFailure, Status, discard_output, explain, is_output_full, say
from deltawire.gateway.cli.interrupts import ending_at_once
from deltawire.gateway.cli.options import examples
from deltawire.gateway.cli.unneeded import without
from deltawire.gateway.requirements import UnmetRequirementError
from deltawire.protocol.errors import DeltawireError


class Listed(NamedTuple):
    """A command as the list of commands has it.

    Attributes:
        module: the module it is in.
        summary: the first sentence of its help.
        is_plain: whether it draws nothing, and needs no rich.
    """

    module: str
    summary: str
    is_plain: bool = False


COMMANDS: Final = {
    "serve": Listed("serve", "Run a gateway until SIGTERM or SIGINT (Ctrl-C), then drain it.", is_plain=True),
    "publish": Listed("publish.command", "Publish standard input, or the output of COMMAND, to STREAM."),
    "tail": Listed("tail.command", "Follow STREAM until it ends."),
    "proxy": Listed(
        "proxy", "Pass requests on to a provider, and its streamed answers to a gateway as well.", is_plain=True
    ),
    "streams": Listed("streams", "List, inspect, create and close streams."),
    "top": Listed(
        "top.command",
        "Watch the streams of a gateway: events and bytes per second, producers, consumers, the first token.",
    ),
    "bench": Listed("bench.command", "Measure how fast the gateway at URL is, from here."),
    "export": Listed("export", "Write the events of STREAM as lines of JSON, which `deltawire import` reads."),
    "import": Listed("import_", "Publish what `deltawire export` wrote to FILE, or to standard input."),
    "backup": Listed(
        "backup", "Copy what a gateway stores in DATA_DIR to the new file TARGET, whether the gateway runs or not."
    ),
    "check-config": Listed(
        "check_config", "Check all settings, and print them as a TOML file that says where each value comes from."
    ),
    "token": Listed("token", "Print a token, or make a key that signs tokens."),
    "completion": Listed("completion", "Print a script that lets a shell complete commands, options and values."),
}


class LazyGroup(click.Group):
    """A group that imports a command when it is used, and none to list them: a shell waits for that at each Tab."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands, in the order in which users need them."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command with this name, None if there is none; one that lacks a requirement only says so."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        try:
            listed = COMMANDS[cmd_name]
            # Where rich is installed, structlog imports it for tracebacks that no command prints: a fifth of a start.
            with ending_at_once(), without("rich") if listed.is_plain else nullcontext():
                module = importlib.import_module(f".{listed.module}", __package__)
        except UnmetRequirementError as error:
            return _stand_in(cmd_name, str(error))
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, listed.summary) for name, listed in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """The commands that begin so, or the group's own options."""
        names = [CompletionItem(name, help=it.summary) for name, it in COMMANDS.items() if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)  # not `Group`'s, which imports them all

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn failures from outside the program into an exit status."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            discard_output()
            return Status.READER_GONE
        except DeltawireError as error:
            raise Failure(str(error)) from None


def _stand_in(name: str, why: str) -> click.Command:
    """A command in place of one that can't be imported, which says why."""

    def fail() -> None:
        raise StartFailure(why)

    return click.Command(
        name,
        callback=fail,
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )


def _print_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - click's call
    if wanted and not ctx.resilient_parsing:  # a shell that completes the line after --version asks for nothing
        click.echo(f"deltawire {__version__}")
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
        if is_output_full(error):
            discard_output()
        return Status.FAILED
    except click.Abort:
        return Status.INTERRUPTED


def _open_missing_streams() -> None:
    """Open /dev/null for each standard stream that the caller closed (`2>&-`), so that no socket takes its number."""
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
            setattr(sys, name, open(fd, mode, closefd=False))  # noqa: SIM115 - lives as long as the process
