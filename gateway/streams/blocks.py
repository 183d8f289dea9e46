"""The content blocks that are open on a stream: each event of a block says its kind by itself (SPEC §4.2). Pure.

A filter by kind decides about each event alone: a reader that joins in the middle of a block, or reads stored events
after a restart, gets what a reader got that was there when the block began.
"""

from __future__ import annotations

from typing import Final

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from deltawire.protocol.events import (
    IMPLIED_KINDS,
    MAX_KIND,
    ContentEnd,
    ContentStart,
    Data,
    MessageStart,
    TextDelta,
    Thinking,
    ToolDelta,
)

MAX_BLOCKS: Final = 256
"""Open blocks whose kinds are known; beyond that the oldest is forgotten, as nobody interleaves that many."""

BLOCK_COST: Final = 400
"""Bytes an open block costs (CPython 3.11): a key with two numbers, and a kind of 64 characters of four bytes each."""

_IMPLIED: Final = frozenset(IMPLIED_KINDS.values())


class Blocks:
    """The kinds of the open blocks of one stream.

    Attributes:
        has_special: whether a delta may be of another kind than its type implies.
    """

    __slots__ = ("_kinds", "has_special")

    def __init__(self) -> None:
        self._kinds: dict[tuple[int | UnsetType, int | UnsetType], str] = {}
        self.has_special = False

    @property
    def bytes(self) -> int:
        """What they cost."""
        return len(self._kinds) * BLOCK_COST

    def follow(self, data: MessageStart | ContentStart | ContentEnd) -> Data:
        """Record that a block or a message begins or a block ends; return the data with what the gateway adds to it."""
        match data:
            case MessageStart():
                self._kinds.clear()
            case ContentStart(index=index, kind=str(kind), choice=choice):
                self._kinds[index, choice] = kind[:MAX_KIND]
                if len(self._kinds) > MAX_BLOCKS:
                    del self._kinds[next(iter(self._kinds))]
            case ContentStart(index=index, choice=choice):
                self._kinds.pop((index, choice), None)
            case ContentEnd(index=index, choice=choice, kind=said):
                begun_as = self._kinds.get((index, choice))
                if begun_as is not None:
                    del self._kinds[index, choice]
                    data = data if said is not UNSET else replace(data, kind=begun_as)
        self.has_special = any(kind not in _IMPLIED for kind in self._kinds.values())
        return data

    def name(self, data: TextDelta | Thinking | ToolDelta) -> Data:
        """Return a delta with the kind of its block, if that has a special one and the delta does not say it itself."""
        kind = self._kinds.get((data.index, data.choice))
        return data if data.kind is not UNSET or kind is None or kind in _IMPLIED else replace(data, kind=kind)
