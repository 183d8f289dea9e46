"""What each worker may take of what the whole gateway may take. Pure.

Limits on connections are counted over all workers (`shared_limits`) and stay as they are. What a worker alone decides
is divided by their number.
"""

from __future__ import annotations

import os

from msgspec import structs

from deltawire.gateway.config import MIB, ConfigError, Settings


def count_workers(settings: Settings) -> int:
    """Return how many workers the settings ask for; 0 asks for one a core that this process may use."""
    if settings.workers:
        return settings.workers
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def divide(settings: Settings, workers: int) -> Settings:
    """Return the settings of one worker of several.

    Args:
        settings: of the whole gateway.
        workers: how many there are.

    Raises:
        ConfigError: a limit is too small to be divided, or a setting is not possible with several workers.
    """
    if settings.data_dir:
        raise ConfigError(f"data_dir: {workers} workers can't store streams yet: set workers to 1")
    for name, least in (("memory_limit", MIB), ("max_streams", 1), ("max_handshakes", 1)):
        if getattr(settings, name) < least * workers:
            raise ConfigError(f"{name}: expected at least {least * workers} with {workers} workers, as it is divided")
    return structs.replace(
        settings,
        memory_limit=settings.memory_limit // workers,
        max_streams=settings.max_streams // workers,
        max_handshakes=settings.max_handshakes // workers,
    )
