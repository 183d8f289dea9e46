"""The interface of an engine, and what it gives back after a restart."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from deltawire.gateway.metrics.histogram import Histogram
from deltawire.gateway.streams.cursor import Fork
from deltawire.gateway.streams.pages import StoredPage, Wanted
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.staging import Commit, Recalled, StoredState
from deltawire.protocol.errors import DeltawireError

EVENTS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
"""Buckets of the number of events in a transaction."""

Done: TypeAlias = Callable[[Iterable[int]], None]

Merge: TypeAlias = Callable[[str, str, int, Sequence[bytes]], None]
"""Stores events that are stored in many commits again, as one piece: the id of a stream, the epoch of its log, the seq
of the first event, and the frames of the events, up to the newest that is committed."""


class EngineError(DeltawireError):
    """An engine can't be opened; the message says why and what to do."""


class EngineAwayError(EngineError):
    """An engine can't be opened, as its server does not answer; it may later."""


class StoredStream(NamedTuple):
    """A stream as it was committed last.

    Attributes:
        id: of the stream.
        epoch: of its log.
        settings: it was created with.
        state: everything else but its events; the times of its history are seconds since 1970.
        created_at: seconds since 1970.
        changed_at: when a message last began or ended, or the stream ended, likewise.
        lineage: earlier epochs, the newest first, each with the last seq that its successor has from it.
    """

    id: str
    epoch: str
    settings: StreamSettings
    state: StoredState
    created_at: float
    changed_at: float
    lineage: Sequence[Fork] = ()


class Elsewhere(NamedTuple):
    """A stream that another gateway serves.

    Attributes:
        why: in words, for a client.
        url: where that gateway is reached; empty if it does not say.
        key: by which it believes what another gateway relays to it; empty if it takes nothing of that kind.
    """

    why: str
    url: str = ""
    key: str = ""


class Part(NamedTuple):
    """The part of a gateway's streams that one of its processes has.

    Attributes:
        owns: whether a stream is among them, by its id; all of a gateway's requests about it come to this process.
        key: by which others know that they may relay to this gateway: the same in all of its processes.
    """

    owns: Callable[[str], bool]
    key: str


class Memory(Protocol):
    """What an engine asks of its gateway."""

    def recall(self, stream: str, epoch: str) -> Recalled | None:
        """Return what memory holds of the committed part of a stream, which an engine has lost; None if it is gone."""

    def found(self, stored: StoredStream) -> None:
        """Take a stream over whose gateway has gone."""

    def lost(self, stream: str, epoch: str, why: str) -> None:
        """Drop a stream that another gateway has taken over: nothing of it can be committed here any more."""


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
    """Where committed events live. Its methods are called on the event loop, and return at once unless they "block".

    Attributes:
        reads_at_once: streams whose pages it can read at a time.
        key: by which others know that they may relay to this gateway: a secret; empty where there are none.
    """

    reads_at_once: int
    key: str

    @property
    def failure(self) -> str | None:
        """Why nothing can be committed now; None if it can. What was handed over is tried again."""

    @property
    def doubt(self) -> str | None:
        """Why this gateway's streams may be another one's by now; None if they can't, or there are no others."""

    @property
    def merge(self) -> Merge | None:
        """How to store many commits again as one; None if that makes reading no faster."""

    def metrics(self) -> EngineMetrics:
        """Return its counts."""

    def describe(self) -> dict[str, Any]:
        """What was found when it was opened, for the log; empty if there is nothing to tell."""

    async def open(
        self, call_soon: Callable[[Callable[[], None]], object], memory: Memory | None = None
    ) -> list[StoredStream]:
        """Begin; returns when the streams are listed.

        Args:
            call_soon: has a function called on the event loop, from any thread.
            memory: of the gateway.

        Raises:
            EngineError: it can't be used.
        """

    def create(self, stream: str, epoch: str, settings: StreamSettings) -> None:
        """Store a new stream, in place of an older one with its id, before its first commit."""

    def locate(self, stream: str) -> Awaitable[StoredStream | Elsewhere | None] | None:
        """Find a stream that this gateway does not have, and take it over if nobody else serves it.

        Returns:
            None where no other gateway can have it. Otherwise what is awaited for: the stream, who serves it, or None
            if there is none.
        """

    async def others(self) -> Sequence[Elsewhere]:
        """The other gateways that are there and say where.

        Raises:
            EngineError: it can't be told.
        """

    def is_sure(self, stream: str, epoch: str) -> bool:
        """Whether a stream was certainly this gateway's a moment ago; if not, that is found out."""

    def commit(self, commits: Sequence[Commit], done: Done) -> None:
        """Store commits, each of them as a whole; those of one stream in order.

        Args:
            commits: in the order in which they were taken.
            done: called on the event loop, as often as it takes, with the indexes of those that are committed.
        """

    def forget(self, stream: str, epoch: str) -> None:
        """Delete a stream."""

    def trim(self, stream: str, epoch: str, floor: int) -> None:
        """Delete the events of a stream before a seq."""

    def read(self, stream: str, epoch: str, wanted: Wanted, done: Callable[[StoredPage], None]) -> None:
        """Read events, whatever else waits to be stored.

        Args:
            stream: its id.
            epoch: of its log.
            wanted: which events.
            done: called on the event loop with the answer.
        """

    async def give_up(self, streams: Collection[tuple[str, str]]) -> None:
        """Leave streams, of which everything is committed, to other gateways, and take none over any more.

        What is stored of them can still be read. Where there are no other gateways, nothing is done.

        Args:
            streams: their ids and epochs.
        """

    async def close(self) -> None:
        """Commit what was handed over and end."""
