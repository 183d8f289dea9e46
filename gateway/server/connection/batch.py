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

_TOO_SHORT: Final = Raw(b"0")

MAX_TOLD: Final = 64
"""Refused items of a batch that are reported one by one; further ones are reported together. As many as this project's
clients put into a batch."""


class Batch:
    """A batch, taken item by item.

    Items that are too short for a message, and whose refusal nobody is told, are not kept: a payload of nothing else
    would cost twenty times its bytes.

    Args:
        items: all items, in order.
        size: bytes of its payload.
    """

    __slots__ = ("_item_cost", "_items", "_length", "_refused", "_size")

    def __init__(self, items: list[Raw], size: int) -> None:
        self._length = len(items)
        self._size = size
        self._refused = 0
        self._item_cost: float = PLACE_COST + ITEM_COST
        if self._length > MAX_TOLD:
            items[MAX_TOLD:] = [it if len(it) >= SHORTEST else _TOO_SHORT for it in items[MAX_TOLD:]]
            self._item_cost -= ITEM_COST * items.count(_TOO_SHORT) / self._length
        items.reverse()
        self._items = items

    def __len__(self) -> int:
        """Items that are left."""
        return len(self._items)

    @property
    def held_bytes(self) -> int:
        """What it costs."""
        return self._size + int(len(self._items) * self._item_cost) if self._items else 0

    def take(self) -> tuple[int, Raw]:
        """Return the next item, and its index."""
        item = self._items.pop()
        return self._length - len(self._items) - 1, item

    def refused(self) -> bool:
        """Count the item taken last as refused; return whether to report it by itself."""
        self._refused += 1
        return self._refused <= MAX_TOLD

    @property
    def untold(self) -> int:
        """Refused items that were not reported by themselves."""
        return max(0, self._refused - MAX_TOLD)
