"""The rest of a batch: items of a producer's array that have yet to be processed (SPEC §7.2). Pure."""

from __future__ import annotations

from typing import Final

from msgspec import Raw

PLACE_COST: Final = 8
"""Bytes an item's place in the list costs."""

ITEM_COST: Final = 56
"""Bytes an item costs while it waits, beside its place and its share of the payload (CPython 3.11)."""

SHORTEST: Final = 11
"""Bytes of the shortest message there is: a `ping` as MessagePack."""

MAX_TOLD: Final = 64
"""Refused items of a batch that are reported one by one; further ones are reported together. As many as this project's
clients put into a batch."""


class Batch:
    """A batch, taken item by item.

    Where they can't all be messages, as the payload is too small for that, items too short for one are not kept but
    counted as refused: they would cost twenty times their bytes, and microseconds each. The first `MAX_TOLD` are kept,
    as it is told of each what is wrong.

    Args:
        items: all items, in order.
        size: bytes of its payload.
    """

    __slots__ = ("_items", "_left_out", "_places", "_refused", "_size", "_taken")

    def __init__(self, items: list[Raw], size: int) -> None:
        self._size = size
        self._refused = self._left_out = self._taken = 0
        self._places: list[int] | None = None  # of the items that are kept, if not all are
        if len(items) > MAX_TOLD and len(items) * (SHORTEST + 1) > size:
            self._places = [at for at, it in enumerate(items) if len(it) >= SHORTEST or at < MAX_TOLD]
            self._left_out = len(items) - len(self._places)
            items = [items[at] for at in self._places]
        items.reverse()
        self._items = items

    def __len__(self) -> int:
        """Items that are left."""
        return len(self._items)

    @property
    def held_bytes(self) -> int:
        """What it costs."""
        return self._size + len(self._items) * (PLACE_COST + ITEM_COST) if self._items else 0

    def take(self) -> tuple[int, Raw]:
        """Return the next item, and its index."""
        at = self._taken
        self._taken = at + 1
        return at if self._places is None else self._places[at], self._items.pop()

    def refused(self) -> bool:
        """Count the item taken last as refused; return whether to report it by itself."""
        self._refused += 1
        return self._refused <= MAX_TOLD

    @property
    def untold(self) -> int:
        """Refused items that were not reported by themselves."""
        return max(0, self._refused - MAX_TOLD) + self._left_out
