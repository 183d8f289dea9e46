"""What is to be reached, as ratios between systems of one run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from scripts.bench.deltawire import ENGINES, MEMORY
from scripts.bench.figures import Spread
from scripts.bench.stalled import BLOCK_TIMEOUT, POLICIES
from scripts.bench.stores import DISK

Summary = Mapping[str, Mapping[str, Mapping[str, Spread]]]
"""Figures by scenario, system and name."""

PEERS = ("Nchan", "NATS", "ws (Node)", "websockets")
"""Whom `best` means: the floor is no system anybody could use."""


class Target(NamedTuple):
    """One thing to reach.

    Attributes:
        scenario: its letter.
        metric: the figure.
        bound: what it is compared with: a number, or times the figure of `against`.
        against: a system, `best` of all, or nothing.
        sense: whether the figure is to be at most or at least that.
        system: that is to reach it.
        over: another, whose figure the bound is added to.
    """

    scenario: str
    metric: str
    bound: float
    against: str = ""
    sense: Literal["≤", "≥"] = "≤"
    system: str = "deltawire"
    over: str = ""


class Verdict(NamedTuple):
    """How it went.

    Attributes:
        target: what was to be reached.
        value: what was measured; None when it was not.
        limit: what it had to be; None when the other system was not measured.
    """

    target: Target
    value: float | None
    limit: float | None

    @property
    def ratio(self) -> float | None:
        """The value as a part of the limit."""
        return self.value / self.limit if self.value is not None and self.limit else None

    @property
    def is_reached(self) -> bool | None:
        """Whether it was; None when it can't be said."""
        if self.value is None or self.limit is None:
            return None
        return self.value <= self.limit if self.target.sense == "≤" else self.value >= self.limit


STORES = tuple(f"deltawire {engine}" for engine in ENGINES if engine != MEMORY)

TARGETS = (
    Target("A", "cpu_us", 1.0, "Nchan"),
    Target("A", "cpu_us", 0.9, "NATS"),
    Target("A", "cpu_us", 1.2, "floor (send)"),
    Target("A", "p99_ms", 0.7, "best"),
    Target("A", "cpu_us", 1 / 1.2, "SSE (deltawire)", "≥"),  # which may cost 1.2 times as much
    Target("A", "lost", 0),
    Target("B", "lost", 0),
    Target("C", "delivered_per_s", 1_990_000, sense="≥"),
    Target("C", "lost", 0),
    Target("C", "cpu_us", 1.0, "NATS"),
    Target("C", "p99_ms", 0.3, "NATS"),
    Target("D", "cpu_us", 1.0, "Nchan"),
    Target("D", "cpu_us", 0.8, "NATS"),
    Target("D", "p99_ms", 1.0, "Nchan"),
    Target("D", "p99_ms", 1.0, "NATS"),
    Target("D", "p99_ms", 5.0),
    Target("D", "lost", 0),
    Target("E", "delivered_per_s", 99_500, sense="≥"),
    Target("E", "lost", 0),
    Target("E", "unacked", 0),
    Target("E", "p99_ms", 20.0),
    Target("F", "consumer_kib", 16),
    Target("F", "streams_1000_mib", 30),
    Target("F", "streams_10000_mib", 250),
    Target("G", "join_ms", 20),
    Target("G", "folded_part", 0.05),
    *(Target("H", f"{policy}.p99_ratio", 1.25) for policy in POLICIES),
    *(Target("H", f"{policy}.lost", 0) for policy in POLICIES),
    Target("H", "block.stall_ms", 1000 * BLOCK_TIMEOUT * 1.5),
    Target("I", "events_per_s", 500_000, sense="≥"),
    Target("J", "lost", 0),
    Target("K", "not_caught_up", 0),
    Target("K", "lost", 0),
    Target("K", "doubled", 0),
    Target("K", "ack_p99_ms", 100),
    *(Target("L", metric, 0, system=system) for system in STORES for metric in ("lost", "unacked")),
    *(Target("L", "delivered_per_s", 19_900, sense="≥", system=system) for system in STORES),
    *(Target("L", "p50_ms", 2, DISK, system=system, over="deltawire") for system in STORES),
    *(Target("M", "delivered_per_s", 0.8, "deltawire", "≥", system=system) for system in STORES),
    *(Target("N", "ready_s", 3, system=system) for system in STORES),
)


def judge(target: Target, systems: Mapping[str, Mapping[str, Spread]]) -> Verdict:
    """Compare a figure with what it is to reach.

    Args:
        target: what.
        systems: the scenario's figures, by system, and the disk's.
    """
    value = _median(systems, target.system, target.metric)
    if not target.against:
        return Verdict(target, value, target.bound)
    rivals = PEERS if target.against == "best" else (target.against,)
    figures = [_median(systems, rival, target.metric) for rival in rivals if _is_sound(systems, rival)]
    known = [figure for figure in figures if figure is not None]
    base = _median(systems, target.over, target.metric) if target.over else 0.0
    return Verdict(target, value, base + min(known) * target.bound if known and base is not None else None)


def _median(systems: Mapping[str, Mapping[str, Spread]], name: str, metric: str) -> float | None:
    figure = systems.get(name, {}).get(metric)
    return None if figure is None else figure.median


def _is_sound(systems: Mapping[str, Mapping[str, Spread]], name: str) -> bool:
    """Whether a system did the work: one that lost events has no latency and no cost to compare with."""
    lost, delivered = _median(systems, name, "lost"), _median(systems, name, "delivered")
    return not lost or delivered is None or lost / (lost + delivered) < 0.01
