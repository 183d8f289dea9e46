"""The SQLite engine: one database in a folder, used by one process.

There is one connection, in the writer's thread, as SQLite before 3.51.3 can lose a WAL when two connections reset it.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from deltawire.gateway.engines.checksums import STREAM, of_events, of_values, teach
from deltawire.gateway.engines.engine import Done, Elsewhere, EngineError, EngineMetrics, Memory, StoredStream
from deltawire.gateway.engines.folder import FILE, lock_folder, mark, renew_epochs, sync_all, unmark
from deltawire.gateway.engines.index import Index
from deltawire.gateway.engines.listing import list_streams
from deltawire.gateway.engines.reading import read_events
from deltawire.gateway.engines.schema import APPLICATION_ID, VERSION, migrate
from deltawire.gateway.engines.writer import Job, Sync, Table, Writer
from deltawire.gateway.streams.pages import StoredPage, Wanted
from deltawire.gateway.streams.producers import MAX_REMEMBERED
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.staging import Commit

IDS: Final = 500
"""Rows deleted by one statement."""

_SYNCHRONOUS: Final[dict[Sync, str]] = {"always": "FULL", "interval": "NORMAL", "off": "OFF"}

_FORGET_PRODUCERS: Final = """
    DELETE FROM producers WHERE stream = ? AND id IN
        (SELECT id FROM producers WHERE stream = ? ORDER BY seq DESC LIMIT -1 OFFSET ?)
"""

_UPDATE: Final = """
    UPDATE streams SET messages = coalesce(?, messages), end_reason = coalesce(?, end_reason), changed_at = ?
    WHERE id = ?
"""

_SEAL: Final = f"UPDATE streams SET checksum = {STREAM} WHERE id = ?"  # noqa: S608 - a name of ours


class SqliteEngine:
    """An engine on SQLite.

    Args:
        folder: where its files are; created if it does not exist.
        sync: when commits are on the disk.
        sync_interval: seconds, for `interval`.
        max_age: seconds that events are stored at most, whatever the retention of their stream; 0 for no limit.

    Attributes:
        reads_at_once: one thread reads.
        key: no other gateway uses the files.
    """

    reads_at_once = 1
    key = ""

    def __init__(self, folder: Path, sync: Sync = "always", sync_interval: float = 1.0, max_age: float = 0.0) -> None:
        self._folder = folder
        self._max_age = max_age
        self._sync: Sync = sync
        self._sync_interval = sync_interval
        self._why_new_epochs = ""
        self._indexes: dict[tuple[str, str], Index] = {}
        self._next_row = self._next_stream = 1

    @property
    def failure(self) -> str | None:
        """Why nothing can be committed now; None if it can."""
        return self._writer.failure

    def metrics(self) -> EngineMetrics:
        """Return its counts."""
        names = (FILE, f"{FILE}-wal")
        size = sum(path.stat().st_size for name in names if (path := self._folder / name).exists())
        return EngineMetrics(self._writer.commits, self._writer.failures, self._writer.events, size)

    def describe(self) -> dict[str, Any]:
        """Why open streams have new epochs, if they have; settings and metrics say the rest."""
        return {"new_epochs": self._why_new_epochs} if self._why_new_epochs else {}

    async def open(
        self,
        call_soon: Callable[[Callable[[], None]], object],
        memory: Memory | None = None,  # noqa: ARG002 - other engines can lose what they had
    ) -> list[StoredStream]:
        """Begin; blocks until the streams are listed.

        Args:
            call_soon: has a function called on the event loop, from any thread.
            memory: not needed.

        Raises:
            EngineError: the folder or the database can't be used.
        """
        with ExitStack() as stack:
            stack.callback(os.close, lock_folder(self._folder))
            try:
                if self._sync == "always":
                    sync_all(self._folder)  # what came with another `sync`, before the database is open
                self._database = database = connect(self._folder / FILE)
                stack.callback(database.close)
                version = check_version(database, self._folder)
                database.execute("PRAGMA journal_mode = WAL")
                database.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[self._sync]}")
                migrate(database, version)
                self._why_new_epochs = renew_epochs(database, self._folder)
                if self._sync == "always":
                    unmark(self._folder)
                else:
                    mark(self._folder)
                listed = list_streams(database, self._max_age)
            except EngineError:
                raise
            except Exception as error:  # noqa: BLE001 - a corrupt database raises anything
                raise EngineError(f"data_dir {self._folder}: {FILE} can't be used: {error}") from None
            self._opened = stack.pop_all()
        self._call_soon = call_soon
        self._indexes = listed.indexes
        self._next_row, self._next_stream = listed.next_row, listed.next_stream
        self._writer = Writer(database, self._folder / FILE, self._sync, self._sync_interval, call_soon)
        return listed.streams

    def create(self, stream: str, epoch: str, settings: StreamSettings) -> None:
        """Store a new stream, in place of an older one with its id, before its first commit."""
        index = Index(self._next_stream)
        self._next_stream += 1
        self._indexes[stream, epoch] = index
        now = time.time()
        encoded = _encode(settings)
        values = (index.id, stream, epoch, encoded, 1, _encode([]), None, now, now)
        insertion = ("INSERT INTO streams VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*values, of_values(*values)))
        self._writer.write(Job(statements=[insertion]))

    async def others(self) -> Sequence[Elsewhere]:
        """There are none."""
        return ()

    def locate(self, stream: str) -> None:
        """Return None: no other gateway uses this database."""

    @property
    def doubt(self) -> None:
        """None: no other gateway uses this database."""

    def is_sure(self, stream: str, epoch: str) -> bool:  # noqa: ARG002 - the interface
        """Whether a stream was certainly this gateway's a moment ago: it always is."""
        return True

    def commit(self, commits: Sequence[Commit], done: Done) -> None:
        """Store commits, all of them or none; nothing of streams that were forgotten meanwhile.

        Args:
            commits: in the order in which they were taken.
            done: called on the event loop with all indexes when they are committed.
        """
        now = time.time()
        rows: list[tuple[Table, tuple[object, ...]]] = []
        statements: list[tuple[str, Sequence[object]]] = []
        for commit in commits:
            index = self._indexes.get((commit.stream, commit.epoch))
            if index is None:  # it was forgotten meanwhile
                continue
            if commit.frames:
                id_ = self._take_row()
                index.add(id_, commit.first)
                rows.append(("events", _row(id_, index, commit.first, commit.frames, now)))
            rows += [("producers", (index.id, *it, of_values(index.id, *it))) for it in commit.producers]
            if commit.messages is not None or commit.end_reason is not None:
                messages = None if commit.messages is None else _encode(commit.messages)
                statements.append((_UPDATE, (messages, commit.end_reason, now, index.id)))
                statements.append((_SEAL, (index.id,)))
        all_done = partial(done, range(len(commits)))
        self._writer.write(Job(rows, statements, done=all_done, events=sum(len(commit.frames) for commit in commits)))

    def merge(self, stream: str, epoch: str, first: int, frames: Sequence[bytes]) -> None:
        """Store events that are stored in many commits again, as one piece.

        Args:
            stream: its id.
            epoch: of its log.
            first: seq of the first event.
            frames: of the events, up to the newest that is committed.
        """
        index = self._indexes.get((stream, epoch))
        if index is None:
            return
        begin = index.begins_from(first)  # memory may begin in the middle of a commit, which stays a row of its own
        frames, first = frames[begin - first :], begin
        if not frames:
            return
        piece = self._take_row()
        gone = index.merge(-piece, first, first + len(frames) - 1)
        row = _row(piece, index, first, frames, time.time())
        self._writer.write(Job([("pieces", row)], _deletions(gone), stored=partial(index.is_stored, -piece)))

    def _take_row(self) -> int:
        self._next_row += 1
        return self._next_row - 1

    def forget(self, stream: str, epoch: str) -> None:
        """Delete a stream."""
        index = self._indexes.pop((stream, epoch), None)
        if index is None:
            return
        of_stream = [
            ("DELETE FROM producers WHERE stream = ?", (index.id,)),
            ("DELETE FROM streams WHERE id = ?", (index.id,)),
        ]
        self._writer.write(Job(statements=[*_deletions(index.clear()), *of_stream]))

    def trim(self, stream: str, epoch: str, floor: int) -> None:
        """Delete the events of a stream before a seq, as far as whole rows reach."""
        index = self._indexes.get((stream, epoch))
        if index is None:
            return
        of_stream = [
            ("UPDATE streams SET floor = ? WHERE id = ?", (floor, index.id)),
            (_SEAL, (index.id,)),
            (_FORGET_PRODUCERS, (index.id, index.id, MAX_REMEMBERED)),
        ]
        self._writer.write(Job(statements=[*_deletions(index.cut(floor)), *of_stream]))

    def read(self, stream: str, epoch: str, wanted: Wanted, done: Callable[[StoredPage], None]) -> None:
        """Read events, whatever else waits to be stored.

        Args:
            stream: its id.
            epoch: of its log.
            wanted: which events.
            done: called on the event loop with the answer.
        """
        index = self._indexes.get((stream, epoch))
        if index is None:
            self._call_soon(partial(done, StoredPage(wanted.last, (), "the stream was forgotten")))
            return

        def read() -> None:
            self._call_soon(partial(done, read_events(self._database, index, wanted)))

        self._writer.read(read)

    async def give_up(self, streams: Collection[tuple[str, str]]) -> None:
        """Do nothing: there is nobody to leave streams to."""

    async def close(self) -> None:
        """Commit what was handed over and end; blocks."""
        self._writer.close()
        self._database.close()
        if self._sync != "always" and self._writer.failure is None:
            with suppress(OSError):  # then the next start gives new epochs, if the machine crashes before
                sync_all(self._folder)
                unmark(self._folder)
        self._opened.close()


def connect(path: Path) -> sqlite3.Connection:
    """Open a database that this user alone may read, or make an empty one."""
    database = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)  # tried again by us
    try:
        path.chmod(0o600)
    except OSError:
        database.close()
        raise
    database.execute("PRAGMA fullfsync = ON")  # macOS: wait for the disk, and not only for its cache
    teach(database)
    return database


def check_folder(folder: Path) -> None:
    """Check whether a folder can be used, without using it; another gateway may.

    Raises:
        EngineError: it can't.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise EngineError(f"data_dir {folder}: {existing} is no folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise EngineError(f"data_dir {folder}: no permission to write in {existing}")
    path = folder / FILE
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            check_version(database, folder)
    except sqlite3.Error as error:
        raise EngineError(f"data_dir {folder}: {FILE} can't be used: {error}") from None


def check_version(database: sqlite3.Connection, folder: Path) -> int:
    """Return the version of the schema; 0 for an empty database.

    Args:
        database: whose version it is.
        folder: where it is, for messages.

    Raises:
        EngineError: it is not one of deltawire's, or newer than this gateway.
    """
    version: int = database.execute("PRAGMA user_version").fetchone()[0]
    application: int = database.execute("PRAGMA application_id").fetchone()[0]
    has_tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] > 0
    if has_tables and application != APPLICATION_ID:
        raise EngineError(f"data_dir {folder}: {FILE} belongs to another program: use an empty folder")
    if version > VERSION:
        raise EngineError(
            f"data_dir {folder}: its schema has version {version}, newer than this gateway's {VERSION}: "
            "use the gateway that wrote it, or an empty folder"
        )
    return version


_encode = msgspec.msgpack.encode


def _row(id_: int, index: Index, first: int, frames: Sequence[bytes], now: float) -> tuple[object, ...]:
    data, last = b"".join(frames), first + len(frames) - 1
    return (id_, index.id, first, last, of_events(id_, index.id, first, last, data), now, data)


def _deletions(rows: Sequence[int]) -> list[tuple[str, Sequence[int]]]:
    """Statements that delete rows: commits, or pieces where the id is negative."""
    found = [("events", [id_ for id_ in rows if id_ > 0]), ("pieces", [-id_ for id_ in rows if id_ < 0])]
    return [
        (f"DELETE FROM {table} WHERE id IN ({', '.join('?' * len(some))})", some)  # noqa: S608 - names of ours
        for table, ids in found
        for at in range(0, len(ids), IDS)
        if (some := ids[at : at + IDS])
    ]
