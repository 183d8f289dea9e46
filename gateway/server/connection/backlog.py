"""What a producer has sent and is not processed yet, and how much of it may be at once (SPEC §7.2). Pure."""

from __future__ import annotations

from typing import Final

from msgspec import Raw

from deltawire.gateway.server.connection.batch import Batch
from deltawire.protocol.events import Event

EVENT_COST: Final = 256
"""Bytes, about, that a decoded event costs while it waits for room: events are short, and one per producer waits."""

STEP: Final = 32
"""Events processed from one producer in a row, 0.3 ms of work, before it looks whether there is time for more."""

UNIT: Final = 512
"""Bytes of a message that count as one more event. The slowest ones, full of empty containers, take 10 µs."""

SPLIT: Final = 128
"""Items of a batch that count as one event when it is split: 10 µs."""

REFUSAL: Final = 8
"""Events that a refused one counts for: finding and reporting its error takes as long."""


class Backlog:
    """What waits of one producer: the rest of a batch for a turn, and before it a message for a turn or for room.

    Attributes:
        left: events that may still be processed before it looks whether there is time for more.
        waits_for_room: whether an event does.
    """

    __slots__ = ("_batch", "_kept", "left", "waits_for_room")

    def __init__(self) -> None:
        self._batch: Batch | None = None
        self._kept: tuple[int | None, bytes | Event] | None = None
        self.waits_for_room = False
        self.left = STEP

    @property
    def held_bytes(self) -> int:
        """What it costs."""
        held = 0 if self._batch is None else self._batch.held_bytes
        if self._kept is not None:
            item = self._kept[1]
            held += len(item) if isinstance(item, bytes) else EVENT_COST
        return held

    def clear(self) -> None:
        """Drop everything."""
        self._batch = self._kept = None
        self.waits_for_room = False

    # A message

    def keep(self, payload: bytes) -> None:
        """Keep a message of which nothing is processed yet."""
        self._kept = (None, payload)

    def wait_for_room(self, place: int | None, event: Event) -> None:
        """Keep an event for which the stream has no room.

        Args:
            place: its index in its batch; None if it came alone.
            event: the event.
        """
        self._kept = (place, event)
        self.waits_for_room = True

    def take_kept(self) -> tuple[int | None, bytes | Event] | None:
        """Return what was kept, and its index in its batch."""
        kept, self._kept = self._kept, None
        self.waits_for_room = False
        return kept

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
        self.left -= 1
        return self._batch.take()

    def refused(self) -> bool:
        """Count the item taken last as refused; return whether to report it by itself."""
        return self._batch is None or self._batch.refused()

    def end_batch(self) -> int:
        """Forget the batch, all of which is processed; return how many refused items were not reported."""
        batch, self._batch = self._batch, None
        return 0 if batch is None else batch.untold
