"""A copy of the database, made whether or not a gateway uses it.

The copy is read by a connection of its own, within one read transaction: all of it is from one moment, between two
commits. Reading holds up no commit. The WAL grows until the copy is made, as it can't be reset under a reader;
afterwards SQLite uses its room again.

The WAL-reset bug of SQLite before 3.51.3 (3.50.7, 3.44.6) is why a gateway has only one connection: a checkpoint that
one connection begins while a commit of another resets the WAL takes frames for copied that are not. It needs a second
connection that writes or checkpoints. This one can do neither: it opens the database read-only, so it can't write to
the file, and closing it does not checkpoint either (tests try all of that).
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from deltawire.gateway import disk
from deltawire.gateway.engines.checksums import STREAM, teach
from deltawire.gateway.engines.engine import EngineError
from deltawire.gateway.engines.folder import COPIED, FILE
from deltawire.gateway.engines.schema import CHECKED
from deltawire.gateway.engines.sqlite import check_version

STEP: Final = 1024
"""Pages that are copied before the disk has to store them (4 MiB). What a gateway commits waits behind what the disk
has yet to store: for up to 0.37 s with all of 522 MB at the end, with these steps for 0.03 s, as without a copy."""

_NEW_EPOCHS: Final = f"UPDATE streams SET epoch = '{COPIED}' || lower(hex(randomblob(8))) WHERE end_reason IS NULL"  # noqa: S608 - a name of ours
"""A gateway that uses the copy appends other events than the one that went on with the database, and several gateways
may use copies of the copy: no two events may have one epoch and seq. So the first start on it gives epochs once more,
which these ask for; a gateway that does not know of this has at least these. Closed streams keep theirs."""


def back_up(folder: Path, copy: Path) -> None:
    """Copy the database of a folder, and check the copy; blocks.

    Args:
        folder: a gateway's `data_dir`.
        copy: an empty file.

    Raises:
        EngineError: the database can't be read, the copy can't be written, or is not sound.
    """
    if not (folder / FILE).is_file():
        raise EngineError(f"data_dir {folder}: has no {FILE}: name that of a gateway with stored streams")
    try:
        with closing(sqlite3.connect(copy, isolation_level=None)) as target:
            target.execute("PRAGMA journal_mode = OFF")
            target.execute("PRAGMA synchronous = OFF")  # it is nothing until it is whole
            with closing(open_to_read(folder)) as source:
                version = check_version(source, folder)
                if version == 0:
                    raise EngineError(f"data_dir {folder}: {FILE} is empty")
                source.execute("BEGIN")
                source.execute("SELECT count(*) FROM streams").fetchone()  # the copy is from this moment
                _copy(source, target, copy)
            target.execute("PRAGMA journal_mode = DELETE")  # one file, which can be opened where nothing can be written
            target.execute(_NEW_EPOCHS)
            if version >= CHECKED:
                teach(target)
                target.execute(f"UPDATE streams SET checksum = {STREAM}")  # noqa: S608 - a name of ours
            [answer, *_] = target.execute("PRAGMA quick_check").fetchone()
    except sqlite3.Error as error:
        raise EngineError(_explain(error, folder)) from None
    if answer != "ok":
        raise EngineError(f"data_dir {folder}: {FILE} is corrupt: {' '.join(answer.split())}")


def open_to_read(folder: Path) -> sqlite3.Connection:
    """A connection to the database of a folder that can neither write nor checkpoint.

    Raises:
        sqlite3.Error: there is none.
    """
    return sqlite3.connect(f"{(folder / FILE).absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)


def _copy(source: sqlite3.Connection, target: sqlite3.Connection, copy: Path) -> None:
    fd = os.open(copy, os.O_RDWR)
    try:
        source.backup(target, pages=STEP, progress=lambda *_: disk.sync(fd))
    finally:
        os.close(fd)


def _explain(error: sqlite3.Error, folder: Path) -> str:
    match getattr(error, "sqlite_errorname", ""):
        case "SQLITE_FULL" | "SQLITE_IOERR_WRITE" | "SQLITE_IOERR_TRUNCATE":
            return f"data_dir {folder}: the copy can't be written: {error}"
        case "SQLITE_CANTOPEN" | "SQLITE_READONLY" | "SQLITE_READONLY_CANTINIT" | "SQLITE_PERM":
            return f"data_dir {folder}: {FILE} can't be read: {error}: run this as the user that runs the gateway"
        case "SQLITE_CORRUPT":
            return f"data_dir {folder}: {FILE} is corrupt: {error}"
        case _:
            return f"data_dir {folder}: {FILE} can't be copied: {error}"
