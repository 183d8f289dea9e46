"""The interface of an engine, and what it gives back after a restart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from deltawire.gateway.metrics.histogram import Histogram
from deltawire.gateway.streams.pages import StoredPage, Wanted
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.staging import Commit, StoredState
from deltawire.protocol.errors import DeltawireError


class EngineError(DeltawireError):
    """An engine can't be opened; the message says why and what to do."""


class StoredStream(NamedTuple):
    """A stream as it was committed last.

    Attributes:
        id: of the stream.
        epoch: of its log.
        settings: it was created with.
        state: everything else but its events; the times of its history are seconds since 1970.
        created_at: seconds since 1970.
        changed_at: when a message last began or ended, or the stream ended, likewise.
    """

    id: str
    epoch: str
    settings: StreamSettings
    state: StoredState
    created_at: float
    changed_at: float


class EngineMetrics(NamedTuple):
    """Counts of an engine, since it was opened.

    Attributes:
        commits: transactions.
        failures: transactions that failed.
        events: in a transaction.
        stored_bytes: of its files, now.
    """

    commits: int
    failures: int
    events: Histogram
    stored_bytes: int


class Engine(Protocol):
    """Where committed events live. Its methods are called on the event loop, and return at once unless they "block"."""

    @property
    def failure(self) -> str | None:
        """Why nothing can be committed now; None if it can. What was handed over is tried again."""

    def metrics(self) -> EngineMetrics:
        """Return its counts."""

    def open(self, call_soon: Callable[[Callable[[], None]], object]) -> list[StoredStream]:
        """Begin; blocks until the streams are listed.

        Args:
            call_soon: has a function called on the event loop, from any thread.

        Raises:
            EngineError: it can't be used.
        """

    def create(self, stream: str, epoch: str, settings: StreamSettings) -> None:
        """Store a new stream, in place of an older one with its id, before its first commit."""

    def commit(self, commits: Sequence[Commit], done: Callable[[], None]) -> None:
        """Store commits, all of them or none.

        Args:
            commits: in the order in which they were taken.
            done: called on the event loop when they are committed.
        """

    def forget(self, stream: str, epoch: str) -> None:
        """Delete a stream."""

    def trim(self, stream: str, epoch: str, floor: int) -> None:
        """Delete the events of a stream before a seq."""

    def merge(self, stream: str, epoch: str, first: int, frames: Sequence[bytes]) -> None:
        """Store events that are stored in many commits again, as one piece, if that makes reading them faster.

        Args:
            stream: its id.
            epoch: of its log.
            first: seq of the first event.
            frames: of the events, up to the newest that is committed.
        """

    def read(self, stream: str, epoch: str, wanted: Wanted, done: Callable[[StoredPage], None]) -> None:
        """Read events, whatever else waits to be stored.

        Args:
            stream: its id.
            epoch: of its log.
            wanted: which events.
            done: called on the event loop with the answer.
        """

    def close(self) -> None:
        """Commit what was handed over and end; blocks."""
