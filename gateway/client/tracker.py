"""The position of a subscriber, and which messages are new to it: pure.

Events and gaps advance the position, `subscribed` does not: after a connection that is lost before its first event, the
next one resumes at the same position. There are three exceptions. The very first `subscribed` sets the position of a
reader that has none; otherwise a lost connection would move `from=now`. And `caught_up` and `stream_end` advance the
position past events that the gateway filtered out. And a `subscribed` that says `recovered` moves the
position into the epoch that continues its own.
"""

from __future__ import annotations

from msgspec import UNSET

from deltawire.gateway.client.errors import ProtocolFault
from deltawire.protocol.events import Event
from deltawire.protocol.messages import CaughtUp, Gap, Message, StreamEnd, Subscribed
from deltawire.protocol.position import Position


class Tracker:
    """Tracks one reader over all its connections.

    Args:
        position: the last known seq and its epoch; None starts where the gateway says.
        filtered: whether the reader asked for some events only, so that numbers may be missing.
    """

    def __init__(self, position: Position | None, *, filtered: bool) -> None:
        self.position = position
        self._filtered = filtered
        self._epoch = ""  # of the current connection
        self._after = 0  # where it goes on
        self._may_leave_hole = False  # what came last was of an unknown type, and may have been an event

    def accept(self, message: Event | Message | None) -> bool:
        """Whether a message is new to the application; advances the position.

        Raises:
            ProtocolFault: an event is missing without a gap, or a frame repeats some of its events.
        """
        match message:
            case None:
                self._may_leave_hole = True
            case Subscribed():
                self._start_connection(message)
            case Event():
                if message.seq is UNSET:
                    raise ProtocolFault("an event came without a seq")
                first = message.seq if message.first is UNSET else message.first
                return self._move(first, message.seq)
            case Gap(reason="epoch_changed") if self._is_new_epoch:
                # a new epoch that continues the old one goes on where they part; the gap is what came after in the old
                is_continued = message.first == self._after + 1 > 1
                self.position = Position(self._epoch, self._after if is_continued else message.seq)
            case Gap():
                return self._move(message.first, message.seq)
            case CaughtUp() | StreamEnd() if self._filtered and self.position is not None and not self._is_new_epoch:
                self.position = Position(self._epoch, max(self.position.seq, message.seq))
        return True

    @property
    def _is_new_epoch(self) -> bool:
        """Whether the position belongs to another epoch than the connection, and the gap has not arrived yet."""
        return self.position is not None and self.position.epoch != self._epoch

    def _start_connection(self, message: Subscribed) -> None:
        self._epoch, self._after = message.epoch, message.after
        self._may_leave_hole = False
        continues = message.recovered and self.position is not None and message.after == self.position.seq
        if self.position is None or not self.position.epoch or continues:
            self.position = Position(message.epoch, message.after)

    def _move(self, first: int, seq: int) -> bool:
        if self.position is None or self._is_new_epoch:
            raise ProtocolFault("an event came before the gateway said where the stream stands")
        last = self.position.seq
        if seq <= last:
            return False
        if first <= last:
            raise ProtocolFault(f"events {first} to {seq} came as one frame after {last} was delivered already")
        if first > last + 1 and not self._filtered and not self._may_leave_hole:
            raise ProtocolFault(f"events {last + 1} to {first - 1} are missing and no gap names them")
        self._may_leave_hole = False
        self.position = Position(self._epoch, seq)
        return True
