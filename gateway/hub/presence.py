"""Which classes of streams are in use, and how much of a turn each of them gets.

A class has a slice of its own in each turn, the most urgent first, so none of them starves. Below the most urgent class
that is in use, the slice is a fraction: what urgent streams wait for is short. Where all streams are of one class, as
they are by default, it has all of the slice.
"""

from __future__ import annotations

from typing import Final

from deltawire.protocol.priority import RANKS, StreamClass

YIELDED: Final = 8
"""A class below the most urgent one in use has an eighth of a slice: it goes on at a tenth of the core or more, and an
urgent event waits half a millisecond for it, and for the step that is under way."""

NORMAL: Final = RANKS[StreamClass.NORMAL]


class Presence:
    """The connections and readers of each class.

    Attributes:
        top: rank of the most urgent class in use; that of `normal` if none is.
    """

    __slots__ = ("_counts", "top")

    def __init__(self) -> None:
        self._counts = [0] * len(RANKS)
        self.top = NORMAL

    def add(self, rank: int, count: int = 1) -> None:
        """Count users of streams of a class that have come; a negative number that have left."""
        self._counts[rank] += count
        self.top = next((rank for rank, count in enumerate(self._counts) if count), NORMAL)

    def share(self, rank: int, seconds: float) -> float:
        """How much of a slice a class has."""
        return seconds if rank <= self.top else seconds / YIELDED
