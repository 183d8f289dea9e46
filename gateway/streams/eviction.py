"""Which stream goes first when room is needed: of those nobody uses, without looking at all of them.

A stream enters when nobody uses it any more and leaves when it is taken; what happens to it in between is noticed when
it comes to the front. Both of what it is ordered by only grow, so whoever is at the front with what it has now is the
least of all.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace
from itertools import count
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from deltawire.gateway.streams.stream import Stream

_Rank: TypeAlias = tuple[bool, float]

SLACK = 64
"""Entries of streams that have gone which are left where they are; with more, and more than half, all are dropped."""


class IdleStreams:
    """The open streams nobody uses: those that never had an event first, then those unused longest."""

    __slots__ = ("_entered", "_heap", "_turn")

    def __init__(self) -> None:
        self._heap: list[tuple[_Rank, int, Stream]] = []
        self._entered: dict[Stream, None] = {}
        self._turn = count()

    def __len__(self) -> int:
        """Streams that have entered; some may be used again by now."""
        return len(self._entered)

    def add(self, stream: Stream) -> None:
        """Take in a stream that nobody uses now; twice changes nothing."""
        if stream not in self._entered:
            self._entered[stream] = None
            heappush(self._heap, (_rank(stream), next(self._turn), stream))

    def discard(self, stream: Stream) -> None:
        """Let go of a stream, if it is here."""
        self._entered.pop(stream, None)
        if len(self._heap) > 2 * len(self._entered) + SLACK:
            self._heap = [entry for entry in self._heap if entry[2] in self._entered]
            heapify(self._heap)

    def first(self) -> Stream | None:
        """The stream to evict first; None when every one is in use.

        Streams that are used, or closed, are let go of on the way: `add` them when they are idle again.
        """
        while self._heap:
            rank, turn, stream = self._heap[0]
            if stream not in self._entered:
                heappop(self._heap)
            elif not stream.is_idle or stream.is_closed:
                heappop(self._heap)
                del self._entered[stream]
            elif (now := _rank(stream)) > rank:
                heapreplace(self._heap, (now, turn, stream))
            else:
                return stream
        return None


def _rank(stream: Stream) -> _Rank:
    return stream.log.head > 0, stream.last_active_at
