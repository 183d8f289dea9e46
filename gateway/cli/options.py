"""Command-line options: those of `serve`, made from `Settings`, and those that several commands share.

Every value comes from the first of these sources that has it: flag, `DELTAWIRE_*` environment, TOML file, default.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import Enum
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click
import msgspec
from msgspec import inspect

from deltawire.gateway.cli.ending import StartFailure, say
from deltawire.gateway.cli.environment import unknown_variables
from deltawire.gateway.config import ConfigError, Settings, grouped_settings
from deltawire.gateway.configuring import read_config_file
from deltawire.protocol.addresses import check_producer_id, check_stream_id
from deltawire.protocol.filters import parse_extensions, parse_kinds, parse_numbers, parse_types, parse_urgent
from deltawire.protocol.messages import Policy
from deltawire.protocol.position import parse_seq

DEFAULT_URL = "ws://127.0.0.1:8765"

Command = TypeVar("Command", bound=Callable[..., Any])


class EnumChoice(click.Choice[str]):
    """A choice of the values of an enum, and of the aliases that its lookup accepts.

    Args:
        enum: an enum whose values are text.
    """

    def __init__(self, enum: type[Enum]) -> None:
        super().__init__([member.value for member in enum])
        self._enum = enum

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The member with this value or alias."""
        try:
            return self._enum(value)
        except ValueError:
            return super().convert(value, param, ctx)


class WholeRange(click.IntRange):
    """An integer within bounds; the error for other input names the bounds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The integer."""
        try:
            int(value)
        except ValueError:
            self.fail(f"expected an integer{_bounds(self)}, got {value!r}", param, ctx)
        return super().convert(value, param, ctx)


class FiniteRange(click.FloatRange):
    """A finite number within bounds; bounds alone would let infinity and NaN through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        try:
            is_finite = isfinite(float(value))
        except ValueError:
            is_finite = False
        if not is_finite:
            self.fail(f"expected a finite number{_bounds(self)}, got {value!r}", param, ctx)
        return super().convert(value, param, ctx)


def _bounds(numbers: click.IntRange | click.FloatRange) -> str:
    low = "" if numbers.min is None else f" {'over' if numbers.min_open else 'from'} {numbers.min:g}"
    high = "" if numbers.max is None else f" up to {numbers.max}"
    return low + high


class Parsed(click.ParamType[Any, Any]):
    """Text that a parser of the wire contract converts.

    Args:
        name: the name of the type in help texts.
        parse: the parser; raises ValueError with a message that says what is expected.
    """

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The parsed value."""
        if not isinstance(value, str):  # a default, which is parsed already
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _parse_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("ws", "wss") or not parts.hostname or parts.port == 0 or parts.query or parts.fragment:
        raise ValueError(f"expected ws://HOST:PORT or wss://HOST:PORT, got {text!r}")
    return text.rstrip("/")


def examples(*lines: str) -> str:
    """The examples at the end of a command's help, one unwrapped command line each."""
    return "\n  ".join(("\b\nExamples:", *lines))


URL = Parsed("url", _parse_url)
STREAM_ID = Parsed("stream", check_stream_id)
SEQ = Parsed("seq", parse_seq)
PRODUCER_ID = Parsed("id", check_producer_id)
EVENT_TYPES = Parsed("types", parse_types)
NUMBERS = Parsed("numbers", parse_numbers)
URGENT = Parsed("types", parse_urgent)
KINDS = Parsed("kinds", parse_kinds)
EXTENSIONS = Parsed("extensions", parse_extensions)
POLICY = EnumChoice(Policy)


def _warn_of_variables(ctx: click.Context, _param: click.Parameter, url: str) -> str:
    if ctx.resilient_parsing:  # a shell completes the line: a warning would land in the middle of it
        return url
    for name, known in unknown_variables(os.environ).items():
        if known:
            say(f"warning: variable {name} is unknown; did you mean {known}?")
    return url


stream_argument = click.argument("stream", type=STREAM_ID)
url_argument = click.argument("url", type=URL, default=DEFAULT_URL, envvar="DELTAWIRE_URL", callback=_warn_of_variables)
url_option = click.option(
    "--url",
    type=URL,
    default=DEFAULT_URL,
    envvar="DELTAWIRE_URL",
    callback=_warn_of_variables,  # every command that connects has this option, or the argument
    show_default=True,
    show_envvar=True,
    help="Address of the gateway.",
)


def _use_config_file(ctx: click.Context, param: click.Parameter, path: Path | None) -> None:
    """Make click take values from a TOML file, after flags and environment."""
    if path is None:
        return
    try:
        ctx.default_map = read_config_file(path)
    except ConfigError as error:
        raise click.BadParameter(str(error), ctx, param) from None


class SettingsCommand(click.Command):
    """A command with all settings as options; its help groups them, and it refuses unknown `DELTAWIRE_` variables."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, unless the environment has an unknown setting."""
        if unknown := unknown_variables(os.environ):
            names = (f"`{name}`" + (f"; did you mean {known}?" if known else "") for name, known in unknown.items())
            raise StartFailure(f"environment: unknown setting {', '.join(names)}")
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options of the command itself, then each group of settings."""
        records = {it.name: record for it in self.get_params(ctx) if (record := it.get_help_record(ctx)) is not None}
        groups = [(heading, [records.pop(name) for name in names]) for heading, names in grouped_settings().items()]
        for heading, rows in [("Options", list(records.values())), *groups]:
            with formatter.section(heading):
                formatter.write_dl(rows)


def settings_options(command: Command) -> Command:
    """Add `--config` and one option per setting to a command."""
    fields = inspect.type_info(Settings)
    assert isinstance(fields, inspect.StructType)
    for field in reversed(fields.fields):
        command = _option_of(field)(command)
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        is_eager=True,  # read before the other options, which may take their values from it
        expose_value=False,
        envvar="DELTAWIRE_CONFIG",
        show_envvar=True,
        callback=_use_config_file,
        help="TOML file with settings, named like the options but with _ for -; unknown names are refused.",
    )(command)


def _option_of(field: inspect.Field) -> Callable[[Command], Command]:
    assert isinstance(field.type, inspect.Metadata)
    description = (field.type.extra_json_schema or {})["description"]
    default = field.default
    flag = f"--{field.name.replace('_', '-')}"
    return click.option(
        f"{flag}/--no-{flag[2:]}" if isinstance(field.type.type, inspect.BoolType) else flag,
        type=_click_type(field.type.type),
        default=default.value if isinstance(default, Enum) else default,
        envvar=f"DELTAWIRE_{field.name.upper()}",
        show_default=True,
        show_envvar=True,
        help=f"{description}.",
    )


def _click_type(wanted: inspect.Type) -> click.ParamType[Any, Any]:
    """The click type that parses, checks and describes a setting of this type."""
    match wanted:
        case inspect.IntType():
            return WholeRange(wanted.ge, wanted.le)
        case inspect.FloatType(gt=None):
            return FiniteRange(wanted.ge, wanted.le)
        case inspect.FloatType():
            return FiniteRange(wanted.gt, wanted.le, min_open=True)
        case inspect.EnumType():
            return EnumChoice(wanted.cls)
        case inspect.LiteralType():
            return click.Choice([str(value) for value in wanted.values])
        case inspect.StrType() | inspect.BoolType():
            return click.BOOL if isinstance(wanted, inspect.BoolType) else click.STRING
        case _:
            raise msgspec.ValidationError(f"no option can be made of {wanted}")
