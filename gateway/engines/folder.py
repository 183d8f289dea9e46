"""The folder that one gateway has for its database: the lock that others respect, and whether epochs have to be new.

A crash of the machine takes what was not on the disk. With `sync` other than `always`, the lock file names the start of
the machine while a gateway uses the folder, and is empty again once everything is on the disk. A process that is killed
loses nothing, as the system still has what it wrote; so a mark of the same start of the machine means nothing, and one
of an earlier start means that commits may be missing. Their seqs must not be given to other events: readers may have
seen them. Nor must gateways on copies of one database give the same seqs to different events.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Final

from deltawire.gateway import disk
from deltawire.gateway.engines.checksums import STREAM
from deltawire.gateway.engines.engine import EngineError
from deltawire.gateway.engines.listing import list_streams
from deltawire.gateway.logs import get_logger

FILE: Final = "deltawire.sqlite"
"""The database, in the folder."""

LOCK: Final = "deltawire.lock"
"""Locked by the process that uses the folder."""

_NEW_EPOCHS: Final = f"""
    BEGIN IMMEDIATE;
    UPDATE streams SET epoch = lower(hex(randomblob(8))) WHERE end_reason IS NULL;
    UPDATE streams SET checksum = {STREAM};
    COMMIT;
"""  # noqa: S608 - a name of ours
"""Gives every open stream another epoch: no two events may have one epoch and seq. A closed stream has lost nothing, as
its end came after all its events."""

COPIED: Final = "copy-"
"""What the epoch of an open stream begins with in a copy on which no gateway has started yet."""

_WHY_NEW_EPOCHS: Final = {
    "crash": "the machine was started again before all commits were on its disk",
    "copy": "this is the first start on this backup",
}
"""What is told of new epochs."""

_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")

log = get_logger()


def lock_folder(folder: Path) -> int:
    """Make a folder if there is none, and return the descriptor that keeps others from using it.

    Raises:
        EngineError: it can't be made, or another gateway uses it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EngineError(f"data_dir {folder}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise EngineError(f"data_dir {folder}: another gateway uses it") from None
    return lock


def this_boot() -> str:
    """What names the time since the machine was started; never twice the same where that can't be told."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return os.urandom(16).hex()


def may_miss_commits(folder: Path) -> bool:
    """Whether the machine was started again while a gateway had commits in a folder that were not on the disk."""
    lock = folder / LOCK
    return lock.exists() and lock.read_text(errors="replace") not in {"", this_boot()}


def mark(folder: Path) -> None:
    """Note, on the disk, that commits may come which are not on the disk."""
    (folder / LOCK).write_text(this_boot())
    sync(folder / LOCK)


def unmark(folder: Path) -> None:
    """Note that the disk has all that a folder has."""
    (folder / LOCK).write_text("")


def sync_all(folder: Path) -> None:
    """Have the disk store all that a folder has.

    Never while this process has the database open: closing its file gives up all POSIX locks the process has on it,
    those of SQLite too. Another program that closes the database then takes itself for the last, and deletes the WAL.
    """
    for path in (folder / FILE, folder / f"{FILE}-wal", folder):
        if path.exists():
            sync(path)


def sync(path: Path) -> None:
    """Have the disk store a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        disk.sync(descriptor)
    finally:
        os.close(descriptor)


def renew_epochs(database: sqlite3.Connection, folder: Path) -> str:
    """Give every open stream of a database another epoch where they have to be new.

    Args:
        database: of the folder, migrated.
        folder: whose mark says whether commits may be missing.

    Returns:
        Why: `crash`, `copy`, or nothing if they stay.

    Raises:
        EngineError: the database is corrupt.
    """
    why = "crash" if may_miss_commits(folder) else "copy" if _is_copy(database) else ""
    if why:
        list_streams(database)  # what is corrupt must not be sealed anew
        database.executescript(_NEW_EPOCHS)
    return why


def tell_of_new_epochs(why: str) -> None:
    """Log that open streams have new epochs.

    Args:
        why: as `renew_epochs` says.
    """
    log.warning("storage.epochs_renewed", detail=f"{_WHY_NEW_EPOCHS[why]}: open streams have new epochs")


def _is_copy(database: sqlite3.Connection) -> bool:
    """Whether a database is a copy on which no gateway has started yet, and has open streams."""
    wanted = "SELECT 1 FROM streams WHERE end_reason IS NULL AND substr(epoch, 1, ?) = ? LIMIT 1"
    return database.execute(wanted, (len(COPIED), COPIED)).fetchone() is not None
