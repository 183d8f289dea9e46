"""Which idle stream to evict first when room is needed, found without looking at all of them.

A stream is added when its last user leaves. Whatever happens to it afterwards is noticed when it reaches the front of
the heap. Both parts of its rank only grow, so a stream at the front whose rank is up to date has the lowest of all.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace
from itertools import count
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from deltawire.gateway.streams.stream import Stream

_Rank: TypeAlias = tuple[bool, float]

SLACK = 64
"""Stale heap entries, of discarded streams, that are tolerated beyond one per stream; with more, all are dropped."""


class _Entry:
    """A stream's place in the heap; a discarded stream leaves an empty one behind."""

    __slots__ = ("rank", "stream", "turn")

    def __init__(self, rank: _Rank, turn: int, stream: Stream) -> None:
        self.rank = rank
        self.turn = turn
        self.stream: Stream | None = stream

    def __lt__(self, other: _Entry) -> bool:
        return (self.rank, self.turn) < (other.rank, other.turn)


class IdleStreams:
    """Open streams that nobody uses: first those that never had an event, then those unused longest."""

    __slots__ = ("_entered", "_heap", "_turn")

    def __init__(self) -> None:
        self._heap: list[_Entry] = []
        self._entered: dict[Stream, _Entry] = {}
        self._turn = count()

    def __len__(self) -> int:
        """Streams added; some may be in use again by now."""
        return len(self._entered)

    def add(self, stream: Stream) -> None:
        """Add a stream that nobody uses now; adding it twice changes nothing."""
        if stream not in self._entered:
            entry = self._entered[stream] = _Entry(_rank(stream), next(self._turn), stream)
            heappush(self._heap, entry)

    def discard(self, stream: Stream) -> None:
        """Remove a stream, if it is here."""
        if (entry := self._entered.pop(stream, None)) is not None:
            entry.stream = None
        if len(self._heap) > 2 * len(self._entered) + SLACK:
            self._heap = [entry for entry in self._heap if entry.stream is not None]
            heapify(self._heap)

    def first(self) -> Stream | None:
        """Return the stream to evict first; None if all are in use.

        Streams in use and closed streams are removed on the way: `add` them when they are idle again.
        """
        while self._heap:
            entry = self._heap[0]
            stream = entry.stream
            if stream is None:
                heappop(self._heap)
            elif not stream.is_evictable:
                heappop(self._heap)
                del self._entered[stream]
            elif (now := _rank(stream)) > entry.rank:
                entry.rank = now
                heapreplace(self._heap, entry)
            else:
                return stream
        return None


def _rank(stream: Stream) -> _Rank:
    return stream.head > 0, stream.last_active_at
