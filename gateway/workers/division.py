"""What each worker may take of what the whole gateway may take, and where it stores its streams.

Limits on connections are counted over all workers (`shared_limits`) and stay as they are. What a worker alone decides
is divided by their number.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from msgspec import structs

from deltawire.gateway.config import MIB, ConfigError, Settings
from deltawire.gateway.engines.distributing import distribute
from deltawire.gateway.engines.engine import EngineError
from deltawire.gateway.engines.sqlite import lock_folder
from deltawire.gateway.logs import get_logger
from deltawire.gateway.workers.shards import worker_of

log = get_logger()


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
        data_dir=settings.data_dir and str(_homes(Path(settings.data_dir), workers)[worker]),
    )


def claim_storage(settings: Settings, workers: int) -> int | None:
    """Have every stored stream where the worker finds it that it lives in, if `workers` was another number before.

    Args:
        settings: of the whole gateway.
        workers: how many there are.

    Returns:
        The descriptor that keeps other gateways from using `data_dir`, for as long as any process has it; None if
        nothing is stored.

    Raises:
        ConfigError: the folder can't be used, or another gateway uses it.
    """
    if not settings.data_dir:
        return None
    root = Path(settings.data_dir)
    try:
        lock = lock_folder(root)
        sources = [root, *sorted(root.glob("worker-*-of-*/"))]
        moved = distribute(sources, _homes(root, workers), partial(worker_of, workers=workers))
    except EngineError as error:
        raise ConfigError(str(error)) from None
    if moved:
        log.info("storage.distributed", streams=moved, workers=workers)
    return lock


def _homes(root: Path, workers: int) -> list[Path]:
    """The folder of each worker: that of the settings for one alone, folders in it for several."""
    return [root] if workers == 1 else [root / f"worker-{worker}-of-{workers}" for worker in range(workers)]
