"""What each worker may take of what the whole gateway may take. Pure.

Limits on connections are counted over all workers (`shared_limits`) and stay as they are. What a worker alone decides
is divided by their number.
"""

from __future__ import annotations

import os
from pathlib import Path

from msgspec import structs

from deltawire.gateway.config import MIB, ConfigError, Settings
from deltawire.gateway.workers.storage import homes


def count_workers(settings: Settings) -> int:
    """Return how many workers the settings ask for; 0 asks for one a core that this process may use."""
    if settings.workers:
        return settings.workers
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def divide(settings: Settings, worker: int, workers: int) -> Settings:
    """Return the settings of one worker.

    Args:
        settings: of the whole gateway.
        worker: its number.
        workers: how many there are.

    Raises:
        ConfigError: a limit is too small to be divided.
    """
    for name, least in (("memory_limit", MIB), ("max_streams", 1), ("max_handshakes", 1)):
        if getattr(settings, name) < least * workers:
            raise ConfigError(f"{name}: expected at least {least * workers} with {workers} workers, as it is divided")
    return structs.replace(
        settings,
        memory_limit=settings.memory_limit // workers,
        max_streams=settings.max_streams // workers,
        max_handshakes=settings.max_handshakes // workers,
        data_limit=settings.data_limit and max(1, settings.data_limit // workers),
        data_dir=settings.data_dir and str(homes(Path(settings.data_dir), workers)[worker]),
    )
