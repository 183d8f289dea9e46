"""Settings from names and values, which may be those of a TOML file. What contradicts each other is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from deltawire.gateway.config import ConfigError, Settings
from deltawire.gateway.files import read_file
from deltawire.protocol.messages import Policy
from deltawire.protocol.priority import parse_classes

_OF_ENGINE = ("engine_timeout", "engine_replicas", "engine_prefix", "advertise_url")
"""Settings that mean nothing without `engine_url`."""

_SCHEMES = tuple(f"{scheme}{kind}://" for scheme in ("redis", "rediss") for kind in ("", "+sentinel", "+cluster"))
"""What an `engine_url` may begin with."""


def make_settings(values: dict[str, Any]) -> Settings:
    """Make settings from names and values; text is converted to a number where one is expected.

    Raises:
        ConfigError: a name is unknown, a value is out of bounds, or two settings contradict each other.
    """
    settings = _convert(values)
    if settings.drain_delay and settings.drain_delay >= settings.drain_timeout:
        raise ConfigError("drain_delay is a part of drain_timeout and must be smaller")
    if settings.policy is Policy.BLOCK and not settings.allow_block:
        raise ConfigError("policy: `block` can't be the default while allow_block is off")
    try:
        parse_classes(settings.stream_classes)
    except ValueError as error:
        raise ConfigError(f"stream_classes: {error}") from None
    if settings.engine_url:
        if settings.data_dir:
            raise ConfigError("engine_url: streams are stored there or in data_dir, not in both")
        if not settings.engine_url.startswith(_SCHEMES):
            raise ConfigError("engine_url: expected redis://…, rediss://…, redis+sentinel://… or redis+cluster://…")
        if settings.advertise_url and not _is_address(settings.advertise_url):
            raise ConfigError("advertise_url: expected ws://HOST[:PORT] or wss://…, without a user or a query")
    elif ignored := [name for name in _OF_ENGINE if getattr(settings, name) != getattr(Settings(), name)]:
        raise ConfigError(f"{ignored[0]}: it needs engine_url, without which no server is used")
    return settings


def tell_unadvertised(settings: Settings) -> str:
    """What is told of a gateway on a server that does not say where it is; empty if it does, or has no server."""
    if not settings.engine_url or settings.advertise_url:
        return ""
    return (
        "advertise_url is not set: other gateways on the server of engine_url can't relay requests about this one's "
        "streams, and refuse them; set it to where they reach this one (ws://HOST:PORT), unless there is no other"
    )


def _is_address(url: str) -> bool:
    """Whether a URL says where a gateway is, and nothing else."""
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or brackets
        return False
    has_more = "@" in parts.netloc or parts.query or parts.fragment
    return parts.scheme in {"ws", "wss"} and has_host and not has_more


def _convert(values: dict[str, Any]) -> Settings:
    """Settings that are each valid on their own."""
    try:
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(str(error).replace("Object contains unknown field", "unknown setting")) from None


def read_config_file(path: Path) -> dict[str, Any]:
    """Read names and values from a TOML file and check that they are settings.

    Raises:
        ConfigError: the file can't be read, is not TOML, or has an unknown or invalid setting.
    """
    try:
        values = msgspec.toml.decode(read_file(path))
    except OSError as error:
        raise ConfigError(f"config file {path}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path}: not valid TOML: {error}") from None
    try:
        settings = _convert(values)  # each alone: a flag may supply the settings they depend on
    except ConfigError as error:
        raise ConfigError(f"config file {path}: {error}") from None
    return {name: getattr(settings, name) for name in values}
