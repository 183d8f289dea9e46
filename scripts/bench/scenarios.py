"""What each scenario is, and how it is measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from scripts.bench.fan import Fan, Timing, measure
from scripts.bench.figures import Metrics
from scripts.bench.peers import Broadcast, Floor, Peer, Ws

Measure = Callable[[Peer, Timing], Metrics]


class Scenario(NamedTuple):
    """One kind of load.

    Attributes:
        title: what happens, in a line.
        measure: does it once to one system.
        suits: whether it can be done to a system.
        columns: the figures that matter, in the order of the table.
    """

    title: str
    measure: Measure
    suits: Callable[[Peer], bool]
    columns: tuple[str, ...]


COLUMNS = (
    "delivered_per_s",
    "lost",
    "cpu_us",
    "p50_ms",
    "p99_ms",
    "p999_ms",
    "rss_mb",
    "server_busy",
    "load_busy",
    "disturbed",
)


def _fan(title: str, fan: Fan, *unsuited: type[Peer], columns: tuple[str, ...] = COLUMNS) -> Scenario:
    return Scenario(
        title, lambda peer, timing: measure(peer, fan, timing), lambda peer: not isinstance(peer, unsuited), columns
    )


PACE = ("first_token_p50_ms", "first_token_p99_ms", "inter_token_p50_ms", "inter_token_p99_ms")

SCENARIOS = {
    "A": _fan("1 stream, 500 consumers, 200 events/s", Fan(1, 500, 200)),
    "B": _fan("1 stream, 500 consumers, 1,000 events/s", Fan(1, 500, 1000), Floor),
    "C": _fan("1 stream, 500 consumers, 4,000 events/s", Fan(1, 500, 4000), Floor, Ws, Broadcast),
    "D": _fan("250 streams, 2 consumers each, 40 events/s each", Fan(250, 2, 40), Floor),
    "E": _fan("1 stream, 1 consumer, 100,000 events/s, one a message", Fan(1, 1, 100_000), Floor),
    "J": _fan(
        "200 streams, 3 viewers each, 80 tokens/s with jitter",
        Fan(200, 3, 80, is_jittered=True),
        Floor,
        columns=("lost", "cpu_us", *PACE, "p99_ms", "server_busy", "load_busy", "disturbed"),
    ),
}
