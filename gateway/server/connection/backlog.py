"""What a producer has sent and is not processed yet, and how much of it may be in this turn (SPEC §7.2). Pure."""

from __future__ import annotations

from typing import Final

from msgspec import Raw

from deltawire.gateway.server.connection.batch import Batch
from deltawire.protocol.events import Event

EVENT_COST: Final = 256
"""Bytes, about, that an event costs while it waits for room: events are short, and at most one per producer waits."""

TURN: Final = 256
"""Events processed from one producer in a row, 2 ms of work: further ones wait until others had their turn."""

REFUSAL: Final = 8
"""Events that a refused one counts for: finding and reporting its error takes as long."""


class Backlog:
    """What waits of one producer: the rest of a batch for a turn, or one event for room.

    Attributes:
        left: events that may still be processed in this turn.
        waits_for_room: whether an event does.
    """

    __slots__ = ("_batch", "_waiting", "left", "waits_for_room")

    def __init__(self) -> None:
        self._batch: Batch | None = None
        self._waiting: tuple[int | None, Event] | None = None  # an event, and its index in its batch
        self.waits_for_room = False
        self.left = TURN

    @property
    def held_bytes(self) -> int:
        """What it costs."""
        held = 0 if self._batch is None else self._batch.held_bytes
        return held + EVENT_COST if self.waits_for_room else held

    def begin_turn(self) -> None:
        """Allow a turn's work."""
        self.left = TURN

    # A batch

    def begin_batch(self, batch: Batch) -> None:
        """Keep a batch, of which nothing is processed yet."""
        self._batch = batch

    @property
    def has_items(self) -> bool:
        """Whether items of the batch are left."""
        return bool(self._batch)

    def take_item(self) -> tuple[int, Raw]:
        """Return the index of the next item of the batch, and the item."""
        assert self._batch is not None, "it has items"
        return self._batch.take()

    def refused(self) -> bool:
        """Count the item taken last as refused; return whether to report it by itself."""
        return self._batch is None or self._batch.refused()

    def end_batch(self) -> int:
        """Forget the batch, all of which is processed; return how many refused items were not reported."""
        batch, self._batch = self._batch, None
        return 0 if batch is None else batch.untold

    # An event

    def wait_for_room(self, place: int | None, event: Event) -> None:
        """Keep an event for which the stream has no room.

        Args:
            place: its index in its batch; None if it came alone.
            event: the event.
        """
        self._waiting = (place, event)
        self.waits_for_room = True

    def take_waiting(self) -> tuple[int | None, Event] | None:
        """Return the event that waited for room, and its index in its batch."""
        waiting, self._waiting = self._waiting, None
        self.waits_for_room = False
        return waiting

    def clear(self) -> None:
        """Drop everything."""
        self._batch = self._waiting = None
        self.waits_for_room = False
