"""When which producer sends: fixed before a run, so that a stall of the server delays nothing of it (open loop)."""

from __future__ import annotations

from array import array
from random import Random
from typing import NamedTuple

NS = 1_000_000_000


class Schedule(NamedTuple):
    """Events in the order of their times.

    Attributes:
        times: nanoseconds from the start.
        producers: which producer sends each.
        duration: nanoseconds it takes.
    """

    times: array[int]
    producers: array[int]
    duration: int


def evenly(producers: int, rate: float, seconds: float) -> Schedule:
    """Producers that take turns, each at the same rate.

    Args:
        producers: how many.
        rate: events a second, of each.
        seconds: for how long.
    """
    total = max(1, round(producers * rate * seconds))
    step = NS / (producers * rate)
    return Schedule(
        array("q", (int(index * step) for index in range(total))),
        array("q", (index % producers for index in range(total))),
        int(seconds * NS),
    )


def jittered(producers: int, rate: float, seconds: float, seed: int = 1) -> Schedule:
    """Producers that each begin somewhere in the first fifth, with intervals from a half to one and a half of the mean.

    Args:
        producers: how many.
        rate: events a second, of each, on average.
        seconds: for how long.
        seed: of the randomness; the same for every peer.
    """
    random = Random(seed)  # noqa: S311 - no secret
    events = []
    for producer in range(producers):
        time = random.uniform(0, seconds / 5)
        while time < seconds:
            events.append((int(time * NS), producer))
            time += random.uniform(0.5, 1.5) / rate
    events.sort()
    return Schedule(
        array("q", (time for time, _ in events)),
        array("q", (producer for _, producer in events)),
        int(seconds * NS),
    )
