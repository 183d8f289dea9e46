"""A histogram: how often a value fell into which bucket."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate


class Histogram:
    """Counts by bucket, cheap to add to.

    Args:
        bounds: upper ends of the buckets, ascending; a last one without an end is added.
    """

    __slots__ = ("_counts", "bounds", "sum")

    def __init__(self, *bounds: float) -> None:
        self.bounds = bounds
        self.sum = 0.0
        self._counts = [0] * (len(bounds) + 1)

    def observe(self, value: float, weight: int = 1) -> None:
        """Count a value.

        Args:
            value: in the histogram's unit.
            weight: how many times it occurred.
        """
        self._counts[bisect_left(self.bounds, value)] += weight
        self.sum += value * weight

    @property
    def count(self) -> int:
        """How many values were counted."""
        return sum(self._counts)

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """Each bucket's upper end, with the number of values at or under it."""
        return zip((*self.bounds, float("inf")), accumulate(self._counts), strict=True)
