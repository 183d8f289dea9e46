"""A mirror: a copy of a stream that another gateway owns, for the consumers that have reached this one.

    owner's log ──► frames, as they are ──► mirror's log ──► cursors of the consumers here

Its events have the epoch, the seqs and the bytes that they have at the owner, so that a consumer can't tell the two
apart. It takes no events of producers, and nobody finds it by the id of its stream. What it can't tell exactly it
leaves to the owner: it sends no gap of its own.
"""

from __future__ import annotations

from collections.abc import Callable

from deltawire.gateway.streams.coalesce import kind_of
from deltawire.gateway.streams.durable import held_of
from deltawire.gateway.streams.log import Ledger, Log
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.addresses import SubscribeRequest
from deltawire.protocol.events import Event, EventType
from deltawire.protocol.messages import Policy


class Mirror(Stream):
    """A copy of one stream in one epoch.

    Args:
        stream_id: its id.
        epoch: of its log.
        settings: of the stream, at its owner.
        after: position after which its events begin.
        now: monotonic seconds.
        ledger: counts its bytes together with those of streams.
        overrun: called when a consumer needs events that are not held here any more.

    Attributes:
        consumers_elsewhere: that follow the stream at other gateways.
        is_over: it is not kept up to date any more.
    """

    __slots__ = ("_floor", "_overrun", "consumers_elsewhere", "is_over")

    def __init__(  # noqa: PLR0913, PLR0917 - what its follow knows of it
        self,
        stream_id: str,
        epoch: str,
        settings: StreamSettings,
        after: int,
        now: float,
        ledger: Ledger,
        overrun: Callable[[], None],
    ) -> None:
        super().__init__(stream_id, epoch, settings, now, ledger, held=held_of(settings.retention))
        self.log.restore(after + 1, after)
        self._floor = after + 1
        self._overrun = overrun
        self.consumers_elsewhere = 0
        self.is_over = False

    # What is mirrored

    def take(self, event: Event, frame: bytes, now: float) -> None:
        """Append an event of the owner.

        Args:
            event: that follows the head.
            frame: the same, as it is in the owner's log.
            now: monotonic seconds.
        """
        kind = kind_of(event.data, event.urgent is True)
        if kind.type is EventType.MESSAGE_START:
            self.measure_at = 0.0
            self.log.message_start = self.log.head + 1
        elif kind.type is EventType.MESSAGE_STOP:
            self.measure_at = 0.0
        self.last_active_at = now
        self.log.append(kind, frame, now)

    def skip_to(self, seq: int) -> None:
        """Begin anew after a seq, as the owner does not have what comes before."""
        self.log.unload()
        self.log.restore(seq + 1, seq)

    def tell_floor(self, floor: int) -> None:
        """Drop what the owner does not hold any more.

        Args:
            floor: seq of the oldest event that can be read there.
        """
        self._floor = floor
        self.log.trim_to(floor)

    # What can be read

    def serves(self, request: SubscribeRequest) -> bool:
        """Whether a consumer gets everything here that it would get from the owner, which otherwise serves it itself.

        Not one of policy `block`, for which producers have to wait; not from a position before the events that are
        here, or after them, or in another epoch.
        """
        position = request.position
        if (request.policy or self.settings.policy) is Policy.BLOCK:
            return False
        if position is None:
            return request.start == "now" or self.log.floor == 1
        return position.epoch in ("", self.epoch) and self.log.floor - 1 <= position.seq <= self.log.head

    @property
    def has_latest_message(self) -> bool:
        """Whether the latest message is here from its beginning."""
        return 0 < self.log.floor <= self.log.message_start

    @property
    def floor(self) -> int:
        """Seq of the oldest event that can be read at the owner, as far as that is known."""
        return min(self._floor, self.log.head + 1)

    @property
    def audience(self) -> int:
        """How many consumers follow the stream, at all gateways."""
        return self.consumers + self.consumers_elsewhere

    def readable_after(self, cursor: int, *, folded: bool) -> int:  # noqa: ARG002 - as elsewhere
        """The cursor: what is not here is at the owner."""
        return cursor

    def is_stored(self, seq: int) -> bool:  # noqa: ARG002 - as elsewhere
        """Whether an event that the log has dropped may be at the owner: any may."""
        return True

    def page_with(self, seq: int) -> Log | None:  # noqa: ARG002 - as elsewhere
        """Nothing: who needs it has to read it at the owner."""
        self._overrun()
        return None

    # Memory

    def shrink(self) -> bool:
        """Drop what no policy needs; whether there was anything to drop."""
        before = self.log.bytes
        self.log.shrink(self.settings.buffer_bytes)
        return self.log.bytes < before

    def give_back(self, size: int) -> None:
        """Drop the oldest events, of as many bytes: who has yet to read them reads them at the owner."""
        self.log.shrink(max(self.log.bytes - size, 0))
