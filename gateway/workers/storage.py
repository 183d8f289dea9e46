"""Where each worker stores its streams: in a database of its own, as only one process may use a database."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from deltawire.gateway.config import ConfigError, Settings
from deltawire.gateway.engines.distributing import distribute
from deltawire.gateway.engines.engine import EngineError
from deltawire.gateway.engines.sqlite import lock_folder
from deltawire.gateway.logs import get_logger
from deltawire.gateway.workers.shards import worker_of

log = get_logger()


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
        moved = distribute(sources, homes(root, workers), partial(worker_of, workers=workers))
    except EngineError as error:
        raise ConfigError(str(error)) from None
    if moved:
        log.info("storage.distributed", streams=moved, workers=workers)
    return lock


def homes(root: Path, workers: int) -> list[Path]:
    """Return the folder of each worker: that of the settings for one alone, folders in it for several."""
    return [root] if workers == 1 else [root / f"worker-{worker}-of-{workers}" for worker in range(workers)]
