"""What one connection publishes, and which ack it is owed (SPEC §7): the writer's counterpart of `subscription`. Pure.

    event ──► is_repeat ──► no ──► room? ──► yes ──► appended ──► accepted ──► acked: now or late
                 │  │                 └────► no: the connection waits
                 │  └─────► yes: acked again, not appended
                 └────────► refused: fenced, sequence_gap, invalid_event

The events of a read share one ack. An ack is a write of its own and costs as much as a delivery to a consumer. A
producer that keeps sending does as well with one ack for several reads; a producer that waits for its ack must get it
at once. Withholding an ack shows which of the two it is: the first keeps sending meanwhile.

    at once ── after N reads ────────► withheld ── it kept sending ─────► withheld
       ▲                                   │
       └────── it waited for the ack; next time after 2 N reads ─────────┘
"""

from __future__ import annotations

from collections import deque

from msgspec import UNSET, UnsetType

from deltawire.gateway.streams.producers import Writer
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import WireError
from deltawire.protocol.messages import Ack

WITHHELD_FOR = 0.025
"""Least seconds for which an ack is withheld; the timer that sends late acks can at most double it."""

STEADY = WITHHELD_FOR / 2
"""Seconds between the first and the last read of a withheld ack that show that the producer kept sending: a window of
several messages that is sent at once takes far less."""

MAX_WITHHELD = 64
"""Events that may wait for one ack: far fewer than the window of any producer."""

FIRST_READS = 16
"""Reads acknowledged at once before an ack is withheld for the first time."""

MAX_READS = 4096
"""The same, at most, after withholding has failed repeatedly: a trial every few thousand reads costs nothing."""


class AckPacer:
    """Decides which acks of one producer's connection to withhold."""

    __slots__ = ("_events", "_first_at", "_last_at", "_reads", "_reads_left")

    def __init__(self) -> None:
        self._reads = FIRST_READS
        self._reads_left = FIRST_READS  # to acknowledge at once before the next trial
        self._events = 0  # withheld
        self._first_at = 0.0
        self._last_at = 0.0

    @property
    def is_withholding(self) -> bool:
        """Whether an ack has yet to be sent."""
        return self._events > 0

    def withholds(self, events: int, now: float) -> bool:
        """Decide about the ack of the events of one read.

        Args:
            events: how many were appended, at least one.
            now: monotonic seconds.

        Returns:
            Whether the ack can wait; False if it is to be sent with this read.
        """
        if self._reads_left:
            self._reads_left -= 1
            return False
        if not self._events:
            self._first_at = now
        self._last_at = now
        self._events += events
        return self._events < MAX_WITHHELD

    def is_due(self, now: float) -> bool:
        """Whether a withheld ack has waited long enough."""
        return now - self._first_at >= WITHHELD_FOR

    def sent(self) -> None:
        """Record that an ack was sent; it covers everything withheld."""
        if not self._events:
            return
        if self._events >= MAX_WITHHELD or self._last_at - self._first_at >= STEADY:
            self._reads = FIRST_READS
        else:
            self._reads_left = self._reads
            self._reads = min(2 * self._reads, MAX_READS)
        self._events = 0


class Publication:
    """What one connection has published.

    Args:
        stream: where it publishes.
        writer: what its events are judged by.

    Attributes:
        writer: likewise.
        appended: events appended from this connection.
        unacked: events accepted in this read whose ack has not been decided yet.
        is_urgent: the next ack can't wait, as a message is complete and its producer wants to know.
        pacer: decides which acks wait.
    """

    __slots__ = ("_held", "_numbered", "_producers", "_seq", "appended", "is_urgent", "pacer", "unacked", "writer")

    def __init__(self, stream: Stream, writer: Writer) -> None:
        self.writer = writer
        self.appended = 0
        self.unacked = 0
        self.is_urgent = False
        self.pacer = AckPacer()
        self._producers = stream.producers
        self._held: deque[int | UnsetType] = deque()  # numbers of the events that middleware holds back
        self._seq = 0  # the highest seq accepted from this connection
        self._numbered: int | UnsetType = UNSET  # the last producer_seq accepted from this connection

    def is_repeat(self, number: int) -> bool:
        """Whether a numbered event was appended before and is only to be acked again.

        Args:
            number: its producer_seq.

        Raises:
            WireError: fenced, a later connection of its producer continues the numbers; invalid_event, it has no
                producer id; sequence_gap, events before it are missing.
        """
        writer = self.writer
        if not self._producers.is_latest(writer):
            why = f"a later connection of producer {writer.id!r} goes on with its numbers"
            raise WireError(ProblemCode.FENCED, why)
        if writer.id is None:
            raise WireError(ProblemCode.INVALID_EVENT, "`producer_seq` needs a producer id: connect with ?producer=…")
        if number > writer.last + writer.held + 1:
            why = f"producer_seq {number} leaves a hole: {writer.expected} is expected"
            raise WireError(ProblemCode.SEQUENCE_GAP, why)
        if number <= writer.last:
            self.accepted(number, writer.seq)
            return True
        return number <= writer.last + writer.held  # it is acked when it is let out

    def accepted(self, number: int | UnsetType, seq: int) -> None:
        """Record that an event is in the log, newly or from before, and is to be acked.

        Args:
            number: its producer_seq.
            seq: its seq.
        """
        self.unacked += 1
        if seq > self._seq:  # noqa: PLR1730 - `max` is a call, for each event
            self._seq = seq
        if number is not UNSET:
            writer = self.writer
            if number > writer.last:
                writer.last, writer.seq = number, seq
            self._numbered = writer.last

    def hold(self, number: int | UnsetType) -> None:
        """Record that middleware holds an event back, and that it is to be acked later.

        Args:
            number: its producer_seq.
        """
        self._held.append(number)
        self.writer.held += number is not UNSET

    def released(self, seq: int) -> int | UnsetType:
        """Record that all that became of the oldest event held back is in the log; return its producer_seq.

        Args:
            seq: of the last event that it became, or one before.
        """
        number = self._held.popleft()
        self.writer.held -= number is not UNSET
        self.accepted(number, seq)
        return number

    # Acks

    def is_ack_due(self, now: float) -> bool:
        """Whether the read that is over is to be acked together with its delivery, not late.

        Args:
            now: monotonic seconds.
        """
        events, self.unacked = self.unacked, 0
        return not self.pacer.withholds(events, now) or self.is_urgent

    @property
    def owes_ack(self) -> bool:
        """Whether accepted events are unacked, apart from those whose ack the channel is about to send."""
        return self.unacked > 0 or self.pacer.is_withholding

    def take_ack(self) -> Ack:
        """Return the ack of everything accepted so far; the caller must send it now."""
        self.unacked = 0
        self.is_urgent = False
        self.pacer.sent()
        return Ack(seq=self._seq, producer_seq=self._numbered)
