"""The SQLite engine: one database in a folder, one thread that writes and reads it, group commits.

Everything that arrives while a commit runs goes into the next one: a slow disk makes commits larger. There is one
connection, as SQLite before 3.51.3 can lose a WAL when two connections reset it.

While the disk is full or the file system fails, nothing is committed and `failure` says why; the same operations are
tried again until they succeed. A failed fsync is not tried again, as the kernel may have dropped what it could not
write: the engine stays broken until its gateway is restarted.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias, cast

import msgspec

from deltawire.gateway.engines.engine import EngineError, EngineMetrics, StoredStream
from deltawire.gateway.engines.schema import APPLICATION_ID, TABLES, VERSION
from deltawire.gateway.metrics.histogram import Histogram
from deltawire.gateway.streams.producers import MAX_REMEMBERED, ProducerState
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.staging import Commit, StoredState
from deltawire.protocol.framing import split_frames
from deltawire.protocol.messages import EndReason

Sync: TypeAlias = Literal["always", "interval", "off"]
"""When commits are on the disk: before their events are acked, every `sync_interval`, or when the system likes."""

FILE: Final = "deltawire.sqlite"
"""The database, in the folder."""

LOCK: Final = "deltawire.lock"
"""Locked by the process that uses the folder."""

EVENTS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
"""Buckets of the number of events in a transaction."""

RETRY: Final = 0.5
"""Seconds between two tries of a commit that fails."""

_SYNCHRONOUS: Final[dict[Sync, str]] = {"always": "FULL", "interval": "NORMAL", "off": "OFF"}
_FATAL: Final = ("SQLITE_IOERR_FSYNC", "SQLITE_IOERR_DIR_FSYNC", "SQLITE_CORRUPT", "SQLITE_NOTADB")

_FORGET_PRODUCERS: Final = """
    DELETE FROM producers WHERE stream = ? AND id IN
        (SELECT id FROM producers WHERE stream = ? ORDER BY seq DESC LIMIT -1 OFFSET ?)
"""

Operation: TypeAlias = Callable[[], None]


class _Job(NamedTuple):
    """Something to be done in the writer's thread.

    Attributes:
        write: what changes the database; may be done again after a rollback.
        done: called on the event loop when it is committed.
        events: that it stores.
    """

    write: Operation
    done: Callable[[], None] | None
    events: int = 0


class _Rows:
    """Where the events of one stream are: the first seq and the row of each commit, in order."""

    __slots__ = ("firsts", "id", "rows")

    def __init__(self, id_: int) -> None:
        self.id = id_
        self.firsts = array("q")
        self.rows = array("q")

    def add(self, first: int, row: int) -> None:
        self.firsts.append(first)
        self.rows.append(row)

    def cut(self, count: int) -> None:
        del self.firsts[:count], self.rows[:count]


class SqliteEngine:
    """An engine on SQLite.

    Args:
        folder: where its files are; created if it does not exist.
        sync: when commits are on the disk.
        sync_interval: seconds, for `interval`.

    Attributes:
        failure: why nothing can be committed now; None if it can.
        is_broken: nothing will be committed any more.
    """

    def __init__(self, folder: Path, sync: Sync = "always", sync_interval: float = 1.0) -> None:
        self._folder = folder
        self._sync: Sync = sync
        self._sync_interval = sync_interval
        self.failure: str | None = None
        self.is_broken = False
        self._commits = self._failures = 0
        self._events = Histogram(*EVENTS)
        self._writes: list[_Job] = []
        self._reads: list[Operation] = []
        self._is_closing = False
        self._condition = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="sqlite", daemon=True)
        self._unsynced_since: float | None = None
        self._rows: dict[tuple[str, str], _Rows] = {}
        self._next_row = 1
        self._next_stream = 1

    def metrics(self) -> EngineMetrics:
        """Return its counts."""
        names = (FILE, f"{FILE}-wal")
        size = sum(path.stat().st_size for name in names if (path := self._folder / name).exists())
        return EngineMetrics(self._commits, self._failures, self._events, size)

    def open(self, call_soon: Callable[[Callable[[], None]], object]) -> list[StoredStream]:
        """Begin; blocks until the streams are listed.

        Args:
            call_soon: has a function called on the event loop, from any thread.

        Raises:
            EngineError: the folder or the database can't be used.
        """
        self._call_soon = call_soon
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise EngineError(f"data_dir {self._folder}: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise EngineError(f"data_dir {self._folder}: another gateway uses it") from None
        try:
            streams = self._open_database()
        except (sqlite3.Error, OSError, msgspec.MsgspecError) as error:
            os.close(self._lock)
            raise EngineError(f"data_dir {self._folder}: {FILE} can't be used: {error}") from None
        except EngineError:
            os.close(self._lock)
            raise
        self._thread.start()
        return streams

    def _open_database(self) -> list[StoredStream]:
        path = self._folder / FILE
        self._database = database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        path.chmod(0o600)
        version, *_ = database.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise EngineError(
                f"data_dir {self._folder}: its schema has version {version}, newer than this gateway's {VERSION}: "
                "use the gateway that wrote it, or an empty folder"
            )
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[self._sync]}")
        if version == 0:
            database.executescript(
                f"BEGIN; {TABLES} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
            )
        return self._list()

    def _list(self) -> list[StoredStream]:
        execute = self._database.execute
        heads: dict[int, int] = {}
        by_id: dict[int, _Rows] = {}
        for row, stream, first, last in execute("SELECT id, stream, first, last FROM events ORDER BY id"):
            rows = by_id.get(stream)
            if rows is None:
                rows = by_id[stream] = _Rows(stream)
            rows.add(first, row)
            heads[stream] = last
            self._next_row = row + 1
        producers: dict[int, list[ProducerState]] = {}
        for stream, *state in execute("SELECT stream, id, generation, last, seq FROM producers ORDER BY seq"):
            producers.setdefault(stream, []).append(ProducerState(*state))
        streams = []
        for row in execute("SELECT * FROM streams ORDER BY id"):
            id_, name, epoch, settings, floor, messages, end_reason, created_at, changed_at = row
            self._next_stream = id_ + 1
            self._rows[name, epoch] = by_id.get(id_) or _Rows(id_)
            streams.append(
                StoredStream(
                    id=name,
                    epoch=epoch,
                    settings=msgspec.msgpack.decode(settings, type=StreamSettings),
                    state=StoredState(
                        floor=floor,
                        head=max(heads.get(id_, 0), floor - 1),
                        producers=producers.get(id_, ()),
                        messages=msgspec.msgpack.decode(messages, type=list[tuple[str, str | None]]),
                        end_reason=cast("EndReason | None", end_reason),
                    ),
                    created_at=created_at,
                    changed_at=changed_at,
                )
            )
        return streams

    # On the event loop

    def create(self, stream: str, epoch: str, settings: StreamSettings) -> None:
        """Store a new stream, in place of an older one with its id, before its first commit."""
        rows = _Rows(self._next_stream)
        self._next_stream += 1
        self._rows[stream, epoch] = rows
        encoded, now = msgspec.msgpack.encode(settings), time.time()

        def write() -> None:
            self._database.execute(
                "INSERT INTO streams VALUES (?, ?, ?, ?, 1, ?, NULL, ?, ?)",
                (rows.id, stream, epoch, encoded, msgspec.msgpack.encode([]), now, now),
            )

        self._hand_over(_Job(write, None))

    def commit(self, commits: Sequence[Commit], done: Callable[[], None]) -> None:
        """Store commits, all of them or none; nothing of streams that were forgotten meanwhile.

        Args:
            commits: in the order in which they were taken.
            done: called on the event loop when they are committed.
        """
        writes = [self._prepare(commit) for commit in commits]

        def write() -> None:
            for it in writes:
                it()

        self._hand_over(_Job(write, done, sum(len(commit.frames) for commit in commits)))

    def _prepare(self, commit: Commit) -> Operation:
        rows = self._rows.get((commit.stream, commit.epoch))
        if rows is None:  # it was forgotten meanwhile
            return _nothing
        row = self._next_row
        last = commit.first + len(commit.frames) - 1
        if commit.frames:
            self._next_row += 1
            rows.add(commit.first, row)
        frames = b"".join(commit.frames)
        now = time.time()

        def write() -> None:
            execute = self._database.execute
            if frames:
                execute(
                    "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)",
                    (row, rows.id, commit.first, last, zlib.crc32(frames), frames),
                )
            for it in commit.producers:
                execute("INSERT OR REPLACE INTO producers VALUES (?, ?, ?, ?, ?)", (rows.id, *it))
            if commit.messages is not None or commit.end_reason is not None:
                execute(
                    "UPDATE streams SET messages = coalesce(?, messages), end_reason = ?, changed_at = ? WHERE id = ?",
                    (
                        None if commit.messages is None else msgspec.msgpack.encode(commit.messages),
                        commit.end_reason,
                        now,
                        rows.id,
                    ),
                )

        return write

    def forget(self, stream: str, epoch: str) -> None:
        """Delete a stream."""
        rows = self._rows.pop((stream, epoch), None)
        if rows is None:
            return

        def write() -> None:
            self._database.executemany("DELETE FROM events WHERE id = ?", ((row,) for row in rows.rows))
            self._database.execute("DELETE FROM producers WHERE stream = ?", (rows.id,))
            self._database.execute("DELETE FROM streams WHERE id = ?", (rows.id,))

        self._hand_over(_Job(write, None))

    def trim(self, stream: str, epoch: str, floor: int) -> None:
        """Delete the events of a stream before a seq, as far as whole commits reach."""
        rows = self._rows.get((stream, epoch))
        if rows is None:
            return
        count = max(0, bisect_right(rows.firsts, floor) - 1)
        gone = rows.rows[:count]
        rows.cut(count)

        def write() -> None:
            self._database.executemany("DELETE FROM events WHERE id = ?", ((row,) for row in gone))
            self._database.execute("UPDATE streams SET floor = ? WHERE id = ?", (floor, rows.id))
            self._database.execute(_FORGET_PRODUCERS, (rows.id, rows.id, MAX_REMEMBERED))

        self._hand_over(_Job(write, None))

    def read(self, stream: str, epoch: str, first: int, last: int) -> list[bytes]:
        """Return the frames of events, in order; blocks.

        Raises:
            EngineError: they can't be read, or are not what was written.
        """
        rows = self._rows.get((stream, epoch))
        if rows is None:
            raise EngineError(f"stream {stream!r} can't be read: it was forgotten")
        start = max(0, bisect_right(rows.firsts, first) - 1)
        wanted = [row for at, row in zip(rows.firsts[start:], rows.rows[start:], strict=True) if at <= last]
        answer: Future[list[bytes]] = Future()

        def attempt() -> None:
            try:
                answer.set_result(self._read(stream, wanted, first, last))
            except EngineError as error:
                answer.set_exception(error)
            except Exception as error:  # noqa: BLE001 - whoever reads waits for an answer
                answer.set_exception(EngineError(f"stream {stream!r} can't be read: {error}"))

        with self._condition:
            self._reads.append(attempt)
            self._condition.notify()
        return answer.result()

    def _read(self, stream: str, rows: Sequence[int], first: int, last: int) -> list[bytes]:
        frames: list[bytes] = []
        for row in rows:
            found = self._database.execute(
                "SELECT first, last, checksum, frames FROM events WHERE id = ?", (row,)
            ).fetchone()
            if found is None:
                raise EngineError(f"stream {stream!r}: row {row} of events is missing")
            begin, end, checksum, data = found
            if zlib.crc32(data) != checksum:
                raise EngineError(f"stream {stream!r}: events {begin} to {end} are corrupt (row {row})")
            split = list(split_frames(data))
            frames += split[max(0, first - begin) : last - begin + 1]
        return frames

    def close(self) -> None:
        """Commit what was handed over and end; blocks."""
        with self._condition:
            self._is_closing = True
            self._condition.notify()
        self._thread.join()
        self._database.close()
        os.close(self._lock)

    def _hand_over(self, job: _Job) -> None:
        with self._condition:
            self._writes.append(job)
            self._condition.notify()

    # In the thread

    def _run(self) -> None:
        waiting: list[_Job] = []  # for a commit
        retry_at = 0.0
        while True:
            with self._condition:
                if not (self._reads or self._writes or self._is_closing):
                    self._condition.wait(self._pause(retry_at if waiting else None))
                reads, self._reads = self._reads, []
                waiting += self._writes
                self._writes = []
                is_closing = self._is_closing
            for read in reads:
                read()
            if waiting and not self.is_broken and (is_closing or time.monotonic() >= retry_at):
                if self._write(waiting):
                    waiting = []
                else:
                    retry_at = time.monotonic() + RETRY
            self._sync_in_time(is_closing=is_closing)
            if is_closing and not reads:
                return

    def _pause(self, retry_at: float | None) -> float | None:
        """Seconds to wait for something to do; None waits for as long as it takes."""
        dues = [] if retry_at is None or self.is_broken else [retry_at]
        if self._unsynced_since is not None:
            dues.append(self._unsynced_since + self._sync_interval)
        return max(0.0, min(dues) - time.monotonic()) if dues else None

    def _write(self, jobs: Sequence[_Job]) -> bool:
        """Write everything in one transaction; whether it is committed."""
        try:
            self._database.execute("BEGIN IMMEDIATE")
            for job in jobs:
                job.write()
            self._database.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - the thread must not end, and nothing that failed be taken for stored
            with suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            name = getattr(error, "sqlite_errorname", "")  # absent from errors of the module itself
            self.is_broken = not isinstance(error, sqlite3.Error) or name.startswith(_FATAL)
            self.failure = f"data_dir {self._folder}: {error}"
            self._failures += 1
            return False
        self.failure = None
        self._commits += 1
        self._events.observe(sum(job.events for job in jobs))
        if self._sync == "interval" and self._unsynced_since is None:
            self._unsynced_since = time.monotonic()
        if done := [job.done for job in jobs if job.done is not None]:
            self._call_soon(partial(_call_all, done))
        return True

    def _sync_in_time(self, *, is_closing: bool) -> None:
        """Have the disk store what was committed, when the interval is over."""
        since = self._unsynced_since
        if since is None or (time.monotonic() < since + self._sync_interval and not is_closing):
            return
        self._unsynced_since = None
        try:
            with open(self._folder / f"{FILE}-wal", "rb") as wal:  # noqa: PTH123 - a descriptor is needed
                os.fdatasync(wal.fileno())
        except FileNotFoundError:  # it was checkpointed, and with it synced
            pass
        except OSError as error:
            self.is_broken = True
            self.failure = f"data_dir {self._folder}: {error.strerror} (fsync)"


def _nothing() -> None:
    pass


def _call_all(functions: Sequence[Callable[[], None]]) -> None:
    for function in functions:
        function()
