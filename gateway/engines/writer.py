"""The thread that writes and reads the database: group commits, reads in between, faults of the disk.

Everything that arrives while a commit runs goes into the next one: a slow disk makes commits larger. Reads are answered
between two commits, a few at a time.

While the disk is full or the file system fails, nothing is committed and `failure` says why; the same jobs are tried
again until they succeed. A failed fsync is not tried again, as the kernel may have dropped what it could not write: the
writer stays broken until its gateway is restarted.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from deltawire.gateway import disk
from deltawire.gateway.engines.engine import EVENTS
from deltawire.gateway.metrics.histogram import Histogram

Sync: TypeAlias = Literal["always", "interval", "off"]
"""When commits are on the disk: before their events are acked, every `sync_interval`, or when the system likes."""

_Statement: TypeAlias = tuple[str, Sequence[Any]]

Table: TypeAlias = Literal["events", "pieces", "producers"]

COLUMNS: Final[dict[Table, tuple[str, ...]]] = {
    "events": ("id", "stream", "first", "last", "checksum", "at", "frames"),
    "pieces": ("id", "stream", "first", "last", "checksum", "at", "frames"),
    "producers": ("stream", "id", "generation", "last", "seq", "checksum"),
}
"""The columns of the rows of a `Job`, in order."""

RETRY: Final = 0.5
"""Seconds between two tries of a commit that fails."""

READS_IN_A_ROW: Final = 4
"""Pages read between two commits: a millisecond, so that an ack hardly waits for readers of old events."""

ROWS: Final = 512
"""Rows inserted by one statement, at most. A statement gives up the interpreter's lock, and may wait for it afterwards:
up to 5 ms while the event loop is busy."""

_FATAL: Final = ("SQLITE_IOERR_FSYNC", "SQLITE_IOERR_DIR_FSYNC", "SQLITE_CORRUPT", "SQLITE_NOTADB")


class Job(NamedTuple):
    """Something to be written.

    Attributes:
        rows: to be inserted, or to replace those of the same key, by table.
        statements: to be executed afterwards, with their parameters; each deletes or changes rows.
        stored: called in the writer's thread when it is committed.
        done: called on the event loop when it is committed.
        events: that it stores.
    """

    rows: Sequence[tuple[Table, tuple[Any, ...]]] = ()
    statements: Sequence[tuple[str, Iterable[Any]]] = ()
    stored: Callable[[], None] | None = None
    done: Callable[[], None] | None = None
    events: int = 0


class Writer:
    """The thread.

    Args:
        database: used by nobody else from now on.
        path: of its file.
        sync: when commits are on the disk.
        sync_interval: seconds, for `interval`.
        call_soon: has a function called on the event loop.

    Attributes:
        failure: why nothing can be committed now; None if it can.
        is_broken: nothing will be committed any more.
        commits: transactions.
        failures: transactions that failed.
        events: in a transaction.
    """

    def __init__(
        self,
        database: sqlite3.Connection,
        path: Path,
        sync: Sync,
        sync_interval: float,
        call_soon: Callable[[Callable[[], None]], object],
    ) -> None:
        self._database = database
        self._path = path
        self._sync = sync
        self._sync_interval = sync_interval
        self._call_soon = call_soon
        self.failure: str | None = None
        self.is_broken = False
        self.commits = self.failures = 0
        self.events = Histogram(*EVENTS)
        self._writes: list[Job] = []
        self._reads: deque[Callable[[], None]] = deque()
        self._is_closing = False
        self._condition = threading.Condition()
        self._unsynced_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="sqlite", daemon=True)
        self._thread.start()

    # For the event loop

    def write(self, job: Job) -> None:
        """Have something written, after everything before."""
        with self._condition:
            self._writes.append(job)
            self._condition.notify()

    def read(self, read: Callable[[], None]) -> None:
        """Have a function called in the thread, which must not raise; it may see more or less than was written."""
        with self._condition:
            self._reads.append(read)
            self._condition.notify()

    def close(self) -> None:
        """Write and read what was asked for, and end; blocks."""
        with self._condition:
            self._is_closing = True
            self._condition.notify()
        self._thread.join()

    # In the thread

    def _run(self) -> None:
        waiting: list[Job] = []  # for a commit
        retry_at = 0.0
        while True:
            with self._condition:
                if not (self._reads or self._writes or self._is_closing):
                    self._condition.wait(self._pause(retry_at if waiting else None))
                waiting += self._writes
                self._writes = []
                is_closing = self._is_closing
            if waiting and not self.is_broken and (is_closing or time.monotonic() >= retry_at):
                if self._commit(waiting):
                    waiting = []
                else:
                    retry_at = time.monotonic() + RETRY
            for _ in range(READS_IN_A_ROW):
                if self._reads:
                    self._reads.popleft()()
            self._sync_in_time(is_closing=is_closing)
            if is_closing and not self._reads:
                return

    def _pause(self, retry_at: float | None) -> float | None:
        """Seconds to wait for something to do; None waits for as long as it takes."""
        dues = [] if retry_at is None or self.is_broken else [retry_at]
        if self._unsynced_since is not None:
            dues.append(self._unsynced_since + self._sync_interval)
        return max(0.0, min(dues) - time.monotonic()) if dues else None

    def _commit(self, jobs: Sequence[Job]) -> bool:
        """Write everything in one transaction; whether it is committed."""
        try:
            statements = list(_statements(jobs))
            if len(statements) > 1:
                statements = [("BEGIN IMMEDIATE", ()), *statements, ("COMMIT", ())]
            for statement, parameters in statements:
                self._database.execute(statement, parameters)
        except Exception as error:  # noqa: BLE001 - the thread must not end, and nothing that failed be taken for stored
            with suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            name = getattr(error, "sqlite_errorname", "")  # absent from errors of the module itself
            self.is_broken = not isinstance(error, sqlite3.Error) or name.startswith(_FATAL)
            self.failure = f"data_dir {self._path.parent}: {error}"
            self.failures += 1
            return False
        self.failure = None
        self.commits += 1
        self.events.observe(sum(job.events for job in jobs))
        if self._sync == "interval" and self._unsynced_since is None:
            self._unsynced_since = time.monotonic()
        for job in jobs:
            if job.stored is not None:
                job.stored()
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
            with open(f"{self._path}-wal", "rb") as wal:  # noqa: PTH123 - a descriptor is needed
                disk.sync_data(wal.fileno())
        except FileNotFoundError:  # it was checkpointed, and with it synced
            pass
        except OSError as error:
            self.is_broken = True
            self.failure = f"data_dir {self._path.parent}: {error.strerror} (fsync)"


def _statements(jobs: Iterable[Job]) -> Iterator[_Statement]:
    """Yield what writes some jobs: as few statements as possible, as each gives up the interpreter's lock."""
    rows: dict[Table, list[tuple[Any, ...]]] = {}
    for job in jobs:
        for table, row in job.rows:
            rows.setdefault(table, []).append(row)
        if job.statements:
            yield from _insertions(rows)  # what it deletes or changes may be among them
            for statement, parameters in job.statements:
                yield statement, tuple(parameters)
    yield from _insertions(rows)


def _insertions(tables: dict[Table, list[tuple[Any, ...]]]) -> Iterator[_Statement]:
    for table, rows in tables.items():
        for at in range(0, len(rows), ROWS):
            some = rows[at : at + ROWS]
            count = 1 << (len(some) - 1).bit_length()  # few numbers, so that SQLite knows the statement
            padding = (None,) * (count - len(some)) * len(COLUMNS[table])
            yield _insertion(table, count), (*chain.from_iterable(some), *padding)
    tables.clear()


@cache
def _insertion(table: Table, count: int) -> str:
    """The statement that inserts rows, or replaces those of the same key; those without one are left out."""
    columns = COLUMNS[table]
    rows = ", ".join([f"({', '.join('?' * len(columns))})"] * count)
    return f"INSERT OR REPLACE INTO {table} ({', '.join(columns)}) SELECT * FROM (VALUES {rows}) WHERE column1 NOT NULL"  # noqa: S608


def _call_all(functions: Sequence[Callable[[], None]]) -> None:
    for function in functions:
        function()
