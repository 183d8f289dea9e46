"""The engine that the settings choose: on a server, in a folder, or none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deltawire.gateway.config import ConfigError, Settings
from deltawire.gateway.engines.engine import Engine, EngineError, Part
from deltawire.gateway.engines.sqlite import SqliteEngine, check_folder

if TYPE_CHECKING:
    from deltawire.gateway.engines.redis.engine import RedisEngine


def open_engine(settings: Settings, part: Part | None) -> Engine | None:
    """Return the engine that the settings choose; None where events are in memory alone.

    Args:
        settings: of the gateway.
        part: of the streams; in a folder there are no others.

    Raises:
        ConfigError: the extra that it needs is not installed, or `engine_url` is malformed.
    """
    if settings.engine_url:
        return _redis_engine(settings, part)
    if not settings.data_dir:
        return None
    return SqliteEngine(Path(settings.data_dir), settings.sync, settings.sync_interval, settings.data_age)


async def check_storage(settings: Settings) -> None:
    """Check whether streams could be stored, without storing any.

    Raises:
        ConfigError: they could not.
    """
    try:
        if settings.engine_url:
            await _redis_engine(settings).check()
        elif settings.data_dir:
            check_folder(Path(settings.data_dir))
    except EngineError as error:
        raise ConfigError(str(error)) from None


def _redis_engine(settings: Settings, part: Part | None = None) -> RedisEngine:
    try:
        from deltawire.gateway.engines.redis.engine import RedisEngine  # noqa: PLC0415 - an optional extra
    except ImportError:
        raise ConfigError("setting `engine_url` needs the extra: pip install 'deltawire[redis]'") from None
    try:
        return RedisEngine(
            settings.engine_url,
            prefix=settings.engine_prefix,
            timeout=settings.engine_timeout,
            replicas=settings.engine_replicas,
            advertised=settings.advertise_url,
            part=part,
        )
    except EngineError as error:
        raise ConfigError(str(error)) from None
