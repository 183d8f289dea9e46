"""What a subscriber has accounted for, and which messages are news: pure.

The position moves with events and gaps, never with `subscribed`: a connection that is cut before its first event
resumes exactly where the one before it would have. Two exceptions: the first `subscribed` of all fixes where a
reader without a position starts, or a cut would move `from=now`; and `caught_up` and `stream_end` account for what
the gateway filtered out by `types`.
"""

from __future__ import annotations

from msgspec import UNSET

from deltawire.gateway.client.errors import ProtocolFault
from deltawire.protocol.events import Event
from deltawire.protocol.messages import CaughtUp, Gap, Message, StreamEnd, Subscribed
from deltawire.protocol.position import Position


class Tracker:
    """Follows one reader through all its connections.

    Args:
        position: the last seq accounted for, and its epoch; None starts where the gateway says.
        filtered: the gateway was asked for some types only, so that numbers may be missing.
    """

    def __init__(self, position: Position | None, *, filtered: bool) -> None:
        self.position = position
        self._filtered = filtered
        self._epoch = ""  # of the present connection

    def accept(self, message: Event | Message | None) -> bool:
        """Whether a message is news to the application; the position moves past it.

        Raises:
            ProtocolFault: an event is missing without a gap, or part of a frame was seen before.
        """
        match message:
            case Subscribed():
                self._start_connection(message)
            case Event():
                if message.seq is UNSET:
                    raise ProtocolFault("an event came without a seq")
                first = message.seq if message.first is UNSET else message.first
                return self._move(first, message.seq)
            case Gap(reason="epoch_changed") if self._is_new_epoch:
                self.position = Position(self._epoch, message.seq)
            case Gap():
                return self._move(message.first, message.seq)
            case CaughtUp() | StreamEnd() if self._filtered and self.position is not None and not self._is_new_epoch:
                self.position = Position(self._epoch, max(self.position.seq, message.seq))
        return True

    @property
    def _is_new_epoch(self) -> bool:
        """Whether the position is of another epoch than the connection, whose gap has not come yet."""
        return self.position is not None and self.position.epoch != self._epoch

    def _start_connection(self, message: Subscribed) -> None:
        self._epoch = message.epoch
        if self.position is None or not self.position.epoch:
            self.position = Position(message.epoch, message.after)

    def _move(self, first: int, seq: int) -> bool:
        if self.position is None or self._is_new_epoch:
            raise ProtocolFault("an event came before the gateway said where the stream stands")
        last = self.position.seq
        if seq <= last:
            return False
        if first <= last:
            raise ProtocolFault(f"events {first} to {seq} came as one frame after {last} was delivered already")
        if first > last + 1 and not self._filtered:
            raise ProtocolFault(f"events {last + 1} to {first - 1} are missing and no gap names them")
        self.position = Position(self._epoch, seq)
        return True
