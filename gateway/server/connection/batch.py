"""The rest of a batch: items of a producer's array that have yet to be processed (SPEC §7.2). Pure."""

from __future__ import annotations

from typing import Final

from msgspec import Raw

ITEM_COST: Final = 64
"""Bytes an item costs while it waits, beside its share of the payload (CPython 3.11)."""

MAX_TOLD: Final = 64
"""Refused items of a batch that are reported one by one; further ones are reported together. As many as this project's
clients put into a batch."""


class Batch:
    """A batch, taken item by item.

    Args:
        items: all items, in order.
        size: bytes of its payload.
    """

    __slots__ = ("_items", "_length", "_refused", "_size")

    def __init__(self, items: list[Raw], size: int) -> None:
        self._length = len(items)
        self._size = size
        self._refused = 0
        items.reverse()
        self._items = items

    def __len__(self) -> int:
        """Items that are left."""
        return len(self._items)

    @property
    def held_bytes(self) -> int:
        """What it costs."""
        return self._size + len(self._items) * ITEM_COST if self._items else 0

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
