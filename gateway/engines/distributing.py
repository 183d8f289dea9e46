"""Moving stored streams between folders: gateways of several processes have a database for each of them.

A stream is copied before it is deleted, and all streams of one database that belong to another in one transaction. So
an interruption at any point loses nothing, and the next try goes on: what was copied already is found by its epoch.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from deltawire.gateway.engines.checksums import EVENTS, PRODUCER, STREAM
from deltawire.gateway.engines.engine import EngineError
from deltawire.gateway.engines.folder import FILE, LOCK, renew_epochs, sync, unmark
from deltawire.gateway.engines.listing import list_streams
from deltawire.gateway.engines.schema import migrate
from deltawire.gateway.engines.sqlite import check_version, connect

_BELONGS: Final = """
    home_of(name) = :home AND NOT EXISTS
        (SELECT 1 FROM main.streams AS known WHERE known.name = s.name AND known.epoch = s.epoch)
"""

_TWICE: Final = """
    SELECT name FROM source.streams AS s JOIN main.streams AS known USING (name) WHERE s.epoch <> known.epoch LIMIT 1
"""

_ROWS: Final = ("events", "pieces")
"""Tables with a number of their own for each row; a number is in one of the two alone."""


class Distributed(NamedTuple):
    """What was done.

    Attributes:
        streams: how many were moved.
        new_epochs: why those that are open have new epochs, if they do; as `renew_epochs` says.
    """

    streams: int
    new_epochs: frozenset[str]


def distribute(sources: Iterable[Path], homes: Sequence[Path], home_of: Callable[[str], int]) -> Distributed:
    """Move every stream that is stored in some folders to the folder where it belongs.

    Nobody else may use any of these folders.

    Args:
        sources: folders where streams may be; those that are homes stay as they are.
        homes: where streams are to be; made if they do not exist.
        home_of: the number of a stream's home, by its id.

    Raises:
        EngineError: a database or a folder can't be used, or a stream is stored twice.
    """
    moved = 0
    whys = set()
    for source in sources:
        if source not in homes and (source / FILE).exists():
            try:
                whys.add(_renew(source))
                moved += _move_all(source, homes, home_of)
            except EngineError:
                raise
            except Exception as error:  # noqa: BLE001 - a corrupt database raises anything
                raise EngineError(f"data_dir {source}: streams of {FILE} can't be moved: {error}") from None
    return Distributed(moved, frozenset(whys - {""}))


def _renew(source: Path) -> str:
    """Make a database ready to be moved; return why its open streams have new epochs, if they do."""
    with closing(connect(source / FILE)) as database:
        migrate(database, check_version(database, source))
        list_streams(database)  # what is corrupt must not be sealed anew
        why = renew_epochs(database, source)
    if why:  # the next try must find what was copied already by its epoch
        unmark(source)
        sync(source / LOCK)
    return why


def _move_all(source: Path, homes: Sequence[Path], home_of: Callable[[str], int]) -> int:
    moved = sum(_copy(source, home, number, home_of) for number, home in enumerate(homes))
    for home in homes:
        for folder in (home, home.parent):
            sync(folder)
    for name in (f"{FILE}-wal", f"{FILE}-shm", FILE):  # the database last: without it, nothing is tried again
        (source / name).unlink(missing_ok=True)
    sync(source)
    return moved


def _copy(source: Path, home: Path, number: int, home_of: Callable[[str], int]) -> int:
    """Copy the streams of one folder that belong to another; return how many."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with closing(connect(home / FILE)) as database:
        execute = database.execute
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        migrate(database, check_version(database, home))
        database.create_function("home_of", 1, home_of, deterministic=True)
        execute("ATTACH ? AS source", (str(source / FILE),))
        execute("BEGIN IMMEDIATE")
        twice = execute(_TWICE).fetchone()
        if twice is not None:
            raise EngineError(
                f"stream {twice[0]!r} is stored in {source} and in {home}, and they are not the same: "
                "move one of the two folders to another place"
            )
        execute(f"CREATE TEMP TABLE moving AS SELECT id FROM source.streams AS s WHERE {_BELONGS}", {"home": number})  # noqa: S608 - names of ours
        streams = execute("SELECT coalesce(max(id), 0) FROM main.streams").fetchone()[0]
        rows = max(execute(f"SELECT coalesce(max(id), 0) FROM main.{table}").fetchone()[0] for table in _ROWS)  # noqa: S608 - likewise
        _insert(database, "streams", {"id": f"id + {streams}"}, "id")
        _insert(database, "producers", {"stream": f"stream + {streams}"}, "stream")
        for table in _ROWS:
            _insert(database, table, {"id": f"id + {rows}", "stream": f"stream + {streams}"}, "stream")
            execute(f"UPDATE main.{table} SET checksum = {EVENTS} WHERE id > {rows}")  # noqa: S608 - names of ours
        execute(f"UPDATE main.streams SET checksum = {STREAM} WHERE id > {streams}")  # noqa: S608 - likewise
        execute(f"UPDATE main.producers SET checksum = {PRODUCER} WHERE stream > {streams}")  # noqa: S608 - likewise
        moved: int = execute("SELECT count(*) FROM moving").fetchone()[0]
        execute("COMMIT")
    return moved


def _insert(database: sqlite3.Connection, table: str, changed: dict[str, str], key: str) -> None:
    """Copy the rows of the streams that move.

    Args:
        database: of their new home, with that of the old one attached.
        table: of both.
        changed: columns whose value changes, with an expression.
        key: column with the number of a stream.
    """
    columns = [row[1] for row in database.execute(f"PRAGMA main.table_info({table})")]
    values = ", ".join(changed.get(column, f'"{column}"') for column in columns)
    names = ", ".join(f'"{column}"' for column in columns)
    database.execute(
        f"INSERT INTO main.{table} ({names}) SELECT {values} FROM source.{table} WHERE {key} IN moving"  # noqa: S608 - names of ours
    )
