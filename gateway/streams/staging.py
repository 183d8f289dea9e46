"""Events that are appended to a stream and not committed yet: no reader sees them, and no producer has an ack. Pure.

    append ──► staged ──► taken: one commit a stream and loop turn ──► committed: in the log

Seqs are assigned when an event is staged. Commits of one stream are taken and committed in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from deltawire.gateway.streams.coalesce import Kind
from deltawire.gateway.streams.history import History
from deltawire.gateway.streams.log import EVENT_OVERHEAD
from deltawire.gateway.streams.producers import ProducerState, Writer
from deltawire.protocol.messages import EndReason

MAX_STAGED: Final = 1024 * 1024
"""Bytes of a stream that may wait for the engine before its producers have to: seconds of any model's output."""


class OpenMessage(NamedTuple):
    """A message in progress.

    Attributes:
        id: of the message.
        producer: id of the producer it belongs to; None if that has none.
        digest_from: seq of the event from which on all text of the stream is its own; 0 if some is not.
    """

    id: str
    producer: str | None
    digest_from: int = 0


class StoredState(NamedTuple):
    """What an engine has of a stream, but for its events.

    Attributes:
        history: which events it has.
        producers: those remembered.
        messages: in progress.
        end_reason: why the stream ended; None if it is open.
    """

    history: History
    producers: Sequence[ProducerState]
    messages: Sequence[OpenMessage]
    end_reason: EndReason | None


class Commit(NamedTuple):
    """What an engine stores of one stream at a time, all of it or nothing.

    Attributes:
        stream: id of the stream.
        epoch: of its log.
        first: seq of the first event.
        kinds: of the events.
        frames: the events framed in JSON, in order.
        producers: those whose state changed.
        messages: in progress; None if unchanged.
        end_reason: why the stream ended; None if it did not.
        cost: bytes of the events, counted as in a log.
    """

    stream: str
    epoch: str
    first: int
    kinds: Sequence[Kind]
    frames: Sequence[bytes]
    producers: Sequence[ProducerState]
    messages: Sequence[OpenMessage] | None
    end_reason: EndReason | None
    cost: int = 0


class Recalled(NamedTuple):
    """What memory has of a stream, all of it committed: enough to store it again.

    Attributes:
        first: seq of the first event that memory holds; one more than the head if it holds none.
        head: seq of the newest event that is committed.
        frames: of the events from `first` on, framed in JSON.
        producers: those remembered.
        messages: in progress.
        end_reason: why the stream ended; None if it is open.
    """

    first: int
    head: int
    frames: Sequence[bytes]
    producers: Sequence[ProducerState]
    messages: Sequence[OpenMessage]
    end_reason: EndReason | None


class Staging:
    """The uncommitted events of one stream.

    Args:
        head: seq of the newest committed event.

    Attributes:
        head: seq of the newest event, committed or not.
        bytes: of the events that are not committed.
        in_flight: commits taken and not committed.
    """

    __slots__ = ("_cost", "_ended", "_frames", "_kinds", "_writers", "bytes", "has_new_messages", "head", "in_flight")

    def __init__(self, head: int) -> None:
        self.head = head
        self.bytes = 0
        self.in_flight = 0
        self.has_new_messages = False  # a message began or ended since the last commit was taken
        self._cost = 0  # of what is in no commit yet
        self._kinds: list[Kind] = []
        self._frames: list[bytes] = []
        self._writers: dict[Writer, None] = {}
        self._ended: EndReason | None = None

    def __len__(self) -> int:
        """Events that are not in a commit yet."""
        return len(self._frames)

    @property
    def is_settled(self) -> bool:
        """Whether everything is committed."""
        return not (self._frames or self.in_flight or self._ended or self._writers)

    @property
    def has_room(self) -> bool:
        """Whether more may be staged."""
        return self.bytes < MAX_STAGED

    def add(self, kind: Kind, frame: bytes, writer: Writer | None) -> int:
        """Stage an event; returns its seq."""
        self._kinds.append(kind)
        self._frames.append(frame)
        cost = len(frame) + EVENT_OVERHEAD
        self._cost += cost
        self.bytes += cost
        if writer is not None and writer.id is not None:
            self._writers[writer] = None
        self.head += 1
        return self.head

    def remember(self, writer: Writer) -> None:
        """Stage what is remembered of a producer, though it has appended nothing."""
        self._writers[writer] = None

    def end(self, reason: EndReason) -> None:
        """Stage the end of the stream."""
        self._ended = reason

    def take(self, stream: str, epoch: str, messages: Callable[[], Sequence[OpenMessage]]) -> Commit | None:
        """Return everything staged, as one commit; None if there is nothing.

        Args:
            stream: id of the stream.
            epoch: of its log.
            messages: lists those in progress.
        """
        if not self._frames and self._ended is None and not self._writers:
            return None
        commit = Commit(  # by position: this is done for each event of most streams
            stream,
            epoch,
            self.head - len(self._frames) + 1,
            self._kinds,
            self._frames,
            [ProducerState(it.id or "", it.generation, it.last, it.seq) for it in self._writers]
            if self._writers
            else (),
            messages() if self.has_new_messages else None,
            self._ended,
            self._cost,
        )
        self._kinds, self._frames, self._ended, self._cost = [], [], None, 0
        if self._writers:
            self._writers = {}
        self.has_new_messages = False
        self.in_flight += 1
        return commit

    def committed(self, commit: Commit) -> None:
        """Record that the oldest commit in flight is committed."""
        self.in_flight -= 1
        self.bytes -= commit.cost
