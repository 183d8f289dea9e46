"""What is measured: percentiles over many samples, medians and spreads over few runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median

import msgspec

Metrics = dict[str, float]
"""Figures of one run by their names."""

INTERPOLATED = 4
"""Points that stand for the events of one read. Their stamps lie evenly between the first and the last."""


class Histogram:
    """Durations in buckets of ten microseconds, each sample with a weight."""

    WIDTH = 10

    def __init__(self) -> None:
        self._buckets: dict[int, float] = {}
        self._weight = 0.0

    def add(self, value: int, weight: float = 1.0) -> None:
        """Count a duration in microseconds."""
        bucket = value // self.WIDTH
        self._buckets[bucket] = self._buckets.get(bucket, 0.0) + weight
        self._weight += weight

    def add_read(self, oldest: int, newest: int, events: int) -> None:
        """Count a read of many events: their ages lie evenly between two, in microseconds."""
        if events == 1 or oldest == newest:
            self.add(oldest, events)
            return
        points = min(events, INTERPOLATED)
        step = (newest - oldest) / (points - 1)
        for point in range(points):
            self.add(int(oldest + point * step), events / points)

    def percentile(self, part: float) -> float:
        """The duration that this part (0 to 1) does not exceed, in milliseconds; 0 without samples."""
        wanted = self._weight * part
        passed = 0.0
        value = 0
        for bucket in sorted(self._buckets):
            passed += self._buckets[bucket]
            value = (bucket + 1) * self.WIDTH
            if passed >= wanted:
                break
        return value / 1000


class Spread(msgspec.Struct, frozen=True):
    """A figure over several runs."""

    median: float
    low: float
    high: float

    @property
    def noise(self) -> float:
        """Half the range, as a part of the median."""
        return (self.high - self.low) / 2 / self.median if self.median else 0.0


def spread(values: Iterable[float]) -> Spread:
    """Median and range of at least one value."""
    known = list(values)
    return Spread(median(known), min(known), max(known))


def summarize(runs: Iterable[Mapping[str, float]]) -> dict[str, Spread]:
    """Each figure of several runs of the same thing."""
    collected: dict[str, list[float]] = {}
    for run in runs:
        for name, value in run.items():
            collected.setdefault(name, []).append(value)
    return {name: spread(values) for name, values in collected.items()}
