"""What one connection publishes, and which ack it is owed (SPEC §7): the writer's counterpart of `subscription`. Pure.

    event ──► is_repeat ──► no ──► room? ──► yes ──► appended ──► accepted ──► ack_due: now, late
                 │  │                 └────► no: the connection waits
                 │  └─────► yes: acked again, not appended
                 └────────► refused: fenced, sequence_gap, invalid_event

A read may bring many events; they get one ack together.
"""

from __future__ import annotations

from enum import Enum, auto

from msgspec import UNSET, UnsetType

from deltawire.gateway.streams.acking import AckPacer
from deltawire.gateway.streams.producers import Verdict, Writer
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import WireError
from deltawire.protocol.messages import Ack


class AckDue(Enum):
    """When the events of a read are acknowledged."""

    NOW = auto()
    """With what is delivered of them."""

    LATE = auto()
    """A little later, with those that come meanwhile."""

    ALREADY_LATE = auto()
    """Likewise, with others that wait for it."""


class Publication:
    """What one connection has published.

    Args:
        stream: where it publishes.
        writer: what its events are judged by.

    Attributes:
        writer: likewise.
        appended: events, from this connection.
        unacked: events of this read that nothing has been decided about.
        is_urgent: the next ack can't be withheld, as a message is complete and its producer wants to know.
    """

    __slots__ = ("_numbered", "_pacer", "_producers", "_seq", "appended", "is_urgent", "unacked", "writer")

    def __init__(self, stream: Stream, writer: Writer) -> None:
        self.writer = writer
        self.appended = 0
        self.unacked = 0
        self.is_urgent = False
        self._producers = stream.producers
        self._pacer = AckPacer()
        self._seq = 0  # the last one appended from this connection
        self._numbered: int | UnsetType = UNSET  # the last producer_seq accepted from this connection

    def is_repeat(self, number: int) -> bool:
        """Whether a numbered event was appended before, so that it is only acked again.

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
        match writer.judge(number):
            case Verdict.NEW:
                return False
            case Verdict.REPEAT:
                self.accepted(number, writer.seq)
                return True
            case Verdict.HOLE:
                why = f"producer_seq {number} leaves a hole: {writer.last + 1} is expected"
                raise WireError(ProblemCode.SEQUENCE_GAP, why)

    def accepted(self, number: int | UnsetType, seq: int) -> None:
        """An event is in the log, since now or from before: it is to be acked.

        Args:
            number: its producer_seq.
            seq: its seq.
        """
        self.unacked += 1
        self._seq = max(self._seq, seq)
        if number is not UNSET:
            self.writer.accepted(number, seq)
            self._numbered = self.writer.last

    # Acks

    def ack_due(self, now: float) -> AckDue:
        """When to acknowledge the events of the read that is over.

        Args:
            now: monotonic seconds.
        """
        events, self.unacked = self.unacked, 0
        was_withholding = self._pacer.is_withholding
        if self._pacer.withholds(events, now) and not self.is_urgent:
            return AckDue.ALREADY_LATE if was_withholding else AckDue.LATE
        return AckDue.NOW

    def is_withheld_due(self, now: float) -> bool:
        """Whether a withheld ack has waited long enough."""
        return self._pacer.is_withholding and self._pacer.is_due(now)

    @property
    def is_withholding(self) -> bool:
        """Whether an ack waits to be sent late."""
        return self._pacer.is_withholding

    @property
    def owes_ack(self) -> bool:
        """Whether events are not acked yet, but for an ack that the channel sends."""
        return self.unacked > 0 or self._pacer.is_withholding

    def take_ack(self) -> Ack:
        """The ack of everything accepted so far, to be sent now."""
        self.unacked = 0
        self.is_urgent = False
        self._pacer.sent()
        return Ack(seq=self._seq, producer_seq=self._numbered)
