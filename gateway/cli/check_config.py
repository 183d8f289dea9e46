"""`deltawire check-config`: the settings of a gateway, where each comes from, and whether they are valid."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import click
import msgspec
from click.core import ParameterSource

from deltawire.gateway.cli.ending import StartFailure, say
from deltawire.gateway.cli.options import SettingsCommand, examples, settings_options
from deltawire.gateway.config import ConfigError, Settings, grouped_settings
from deltawire.gateway.configuring import make_settings, tell_unadvertised
from deltawire.gateway.server import Gateway
from deltawire.gateway.server.accepting.listening import find_addresses
from deltawire.gateway.workers import count_workers, divide

ORIGINS: Final = {
    ParameterSource.COMMANDLINE: "flag",
    ParameterSource.ENVIRONMENT: "environment",
    ParameterSource.DEFAULT_MAP: "file",
}
"""The name of each source of a value; a value from any other source is a default."""


@click.command(
    "check-config",
    cls=SettingsCommand,
    epilog=examples("deltawire check-config --config deltawire.toml", "deltawire check-config --host 0.0.0.0"),
)
@settings_options
@click.pass_context
def command(ctx: click.Context, /, **values: Any) -> None:
    """Check all settings, and print them as a TOML file that says where each value comes from.

    Takes the same options as `deltawire serve`, and reads the files that settings name, but does not listen. Secrets
    in URLs are not printed. The exit status is 0 if `serve` could start with these settings. Otherwise it is 2, and
    only the error is printed.
    """
    try:
        settings = make_settings(values)
    except ConfigError as error:
        raise StartFailure(str(error)) from None
    try:
        asyncio.run(_check(settings))
    except ConfigError as error:
        raise StartFailure(str(error)) from None
    except OSError as error:
        raise StartFailure(f"host {settings.host}: {error.strerror}") from None
    except UnicodeError:
        raise StartFailure(f"host {settings.host}: not a host name") from None
    click.echo("\n".join(_lines(ctx, settings)))
    if warning := tell_unadvertised(settings):
        say(f"warning: {warning}")
    say("these settings are good")


async def _check(settings: Settings) -> None:
    """Perform the steps of a start that come before listening."""
    divide(settings, 0, count_workers(settings))
    await Gateway(settings).check_storage()
    await find_addresses(settings)


def _lines(ctx: click.Context, settings: Settings) -> Iterator[str]:
    values = msgspec.to_builtins(settings)
    for heading, names in grouped_settings().items():
        yield f"# {heading}"
        for name in names:
            value = msgspec.json.encode(redact(values[name])).decode()  # JSON scalars are valid TOML
            yield f"{name} = {value}  # {_origin(ctx, name)}"
        yield ""


def _origin(ctx: click.Context, name: str) -> str:
    source = ctx.get_parameter_source(name)
    return "default" if source is None else ORIGINS.get(source, "default")


def redact(value: Any) -> Any:
    """A value without its possible secrets: the user and the query string of a URL."""
    if not isinstance(value, str) or "://" not in value:
        return value
    parts = urlsplit(value)
    host = f"[redacted]@{parts.netloc.rpartition('@')[2]}" if "@" in parts.netloc else parts.netloc
    return urlunsplit((parts.scheme, host, parts.path, "redacted" if parts.query else "", ""))
