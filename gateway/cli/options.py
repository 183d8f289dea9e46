"""Command-line options: those of `serve` made from `Settings`, those that several commands share.

Each value is looked for in the same places, first found wins: flag, `DELTAWIRE_*` environment, TOML file, default.
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
from deltawire.gateway.config import ConfigError, Settings, grouped_settings, read_config_file
from deltawire.protocol.addresses import check_producer_id, check_stream_id
from deltawire.protocol.events import EventType, parse_event_type
from deltawire.protocol.messages import Policy
from deltawire.protocol.position import parse_seq

DEFAULT_URL = "ws://127.0.0.1:8765"

Command = TypeVar("Command", bound=Callable[..., Any])


class EnumChoice(click.Choice[str]):
    """The values of an enum, and the aliases its lookup knows.

    Args:
        enum: the enum; its values are text.
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
    """An integer within bounds, which what is none is told."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The integer."""
        try:
            int(value)
        except ValueError:
            self.fail(f"expected an integer{_bounds(self)}, got {value!r}", param, ctx)
        return super().convert(value, param, ctx)


class FiniteRange(click.FloatRange):
    """A number within bounds; neither infinite nor "not a number", which no bound keeps out."""

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
    """Text as one of the wire contract's parsers reads it.

    Args:
        name: what it is, as help shows it.
        parse: raises ValueError, saying what is expected.
    """

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """What the parser makes of the text."""
        if not isinstance(value, str):  # a default, which needs no parsing
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _parse_types(text: str) -> frozenset[EventType]:
    return frozenset(parse_event_type(name) for name in text.split(","))


def _parse_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("ws", "wss") or not parts.hostname or parts.port == 0 or parts.query or parts.fragment:
        raise ValueError(f"expected ws://HOST:PORT or wss://HOST:PORT, got {text!r}")
    return text.rstrip("/")


def examples(*lines: str) -> str:
    """Command lines as the end of a command's help, one each, unwrapped."""
    return "\n  ".join(("\b\nExamples:", *lines))


STREAM_ID = Parsed("stream", check_stream_id)
SEQ = Parsed("seq", parse_seq)
PRODUCER_ID = Parsed("id", check_producer_id)
EVENT_TYPES = Parsed("types", _parse_types)
POLICY = EnumChoice(Policy)


def _warn_of_variables(ctx: click.Context, _param: click.Parameter, url: str) -> str:
    if ctx.resilient_parsing:  # a shell completes the line: a warning would land in the middle of it
        return url
    for name, known in unknown_variables(os.environ).items():
        if known:
            say(f"warning: variable {name} is unknown; did you mean {known}?")
    return url


stream_argument = click.argument("stream", type=STREAM_ID)
url_option = click.option(
    "--url",
    type=Parsed("url", _parse_url),
    default=DEFAULT_URL,
    envvar="DELTAWIRE_URL",
    callback=_warn_of_variables,  # every command that connects has this option
    show_default=True,
    show_envvar=True,
    help="Address of the gateway.",
)


def _use_config_file(ctx: click.Context, param: click.Parameter, path: Path | None) -> None:
    """Make a TOML file the place click looks at after flags and environment."""
    if path is None:
        return
    try:
        ctx.default_map = read_config_file(path)
    except ConfigError as error:
        raise click.BadParameter(str(error), ctx, param) from None


class SettingsCommand(click.Command):
    """A command that takes all settings: its help shows them in their groups, and it refuses variables it can't use."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it, unless there is a variable that looks like a setting and is none."""
        if unknown := unknown_variables(os.environ):
            names = (f"`{name}`" + (f"; did you mean {known}?" if known else "") for name, known in unknown.items())
            raise StartFailure(f"environment: unknown setting {', '.join(names)}")
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options, then each group of settings."""
        records = {it.name: record for it in self.get_params(ctx) if (record := it.get_help_record(ctx)) is not None}
        groups = [(heading, [records.pop(name) for name in names]) for heading, names in grouped_settings().items()]
        for heading, rows in [("Options", list(records.values())), *groups]:
            with formatter.section(heading):
                formatter.write_dl(rows)


def settings_options(command: Command) -> Command:
    """Give a command `--config` and one option for every setting."""
    fields = inspect.type_info(Settings)
    assert isinstance(fields, inspect.StructType)
    for field in reversed(fields.fields):
        command = _option_of(field)(command)
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        is_eager=True,  # read before any option looks for its value there
        expose_value=False,
        envvar="DELTAWIRE_CONFIG",
        show_envvar=True,
        callback=_use_config_file,
        help="TOML file of settings, named as the options with _ for -; unknown names are refused.",
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
    """How click reads, checks and describes a setting of this type."""
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
