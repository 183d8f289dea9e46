"""Where each worker stores its streams: in a database of its own, as only one process may use a database."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from deltawire.gateway.config import ConfigError, Settings
from deltawire.gateway.engines.backup import back_up
from deltawire.gateway.engines.distributing import distribute
from deltawire.gateway.engines.engine import EngineError
from deltawire.gateway.engines.folder import FILE, lock_folder, tell_of_new_epochs
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
        moved = distribute(folders(root), homes(root, workers), partial(worker_of, workers=workers))
    except EngineError as error:
        raise ConfigError(str(error)) from None
    if moved.streams:
        log.info("storage.distributed", streams=moved.streams, workers=workers)
    for why in moved.new_epochs:
        tell_of_new_epochs(why)
    return lock


def back_up_all(root: Path, copy: Path) -> None:
    """Copy what all workers of a gateway store into one database, that any number of workers can use; blocks.

    Args:
        root: a gateway's `data_dir`.
        copy: an empty file. Beside it there must be room for twice as much for a while, if there are several workers.

    Raises:
        EngineError: a database can't be read, the copy can't be written, or is not sound.
    """
    stored = [folder for folder in folders(root) if (folder / FILE).is_file()]
    if len(stored) < 2:
        back_up(stored[0] if stored else root, copy)
        return
    with TemporaryDirectory(prefix=".deltawire-", dir=copy.parent) as name:
        parts = [Path(name, folder.name) for folder in stored]
        for folder, part in zip(stored, parts, strict=True):
            part.mkdir()
            (part / FILE).touch()
            back_up(folder, part / FILE)
        whole = Path(name, "all-workers")
        distribute(parts, [whole], lambda _: 0)
        back_up(whole, copy)


def folders(root: Path) -> list[Path]:
    """Return the folders in which streams may be, whatever the number of workers was."""
    return [root, *sorted(root.glob("worker-*-of-*/"))]


def homes(root: Path, workers: int) -> list[Path]:
    """Return the folder of each worker: that of the settings for one alone, folders in it for several."""
    return [root] if workers == 1 else [root / f"worker-{worker}-of-{workers}" for worker in range(workers)]
