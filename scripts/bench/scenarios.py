"""What each scenario is, and how it is measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from scripts.bench.deltawire import Deltawire
from scripts.bench.effort import Effort
from scripts.bench.fan import Fan, measure
from scripts.bench.figures import Metrics
from scripts.bench.inprocess import EVENTS, measure_in_process
from scripts.bench.joining import measure_join
from scripts.bench.memory import STREAMS, measure_memory
from scripts.bench.peer import Peer
from scripts.bench.peers import Broadcast, Floor, JetStream, Ws
from scripts.bench.process import SERVER_CORE
from scripts.bench.stages import EVENTS as SCREENED
from scripts.bench.stages import STAGES, measure_stages
from scripts.bench.stalled import POLICIES, measure_stalled
from scripts.bench.stores import measure_start
from scripts.bench.storm import measure_storm


class Scenario(NamedTuple):
    """One kind of load.

    Attributes:
        title: what happens, in a line.
        measure: does it once to one system.
        suits: whether it can be done to a system.
        columns: the figures that matter, in the order of the table.
        variants: beginnings of the names of figures, with a row each in the table, where there is more than one.
    """

    title: str
    measure: Callable[[Peer, Effort], Metrics]
    suits: Callable[[Peer], bool]
    columns: tuple[str, ...]
    variants: tuple[str, ...] = ()

    @property
    def metrics(self) -> list[str]:
        """The names of the figures in the table."""
        return [f"{variant}.{column}".lstrip(".") for variant in self.variants or ("",) for column in self.columns]


LATENCY = ("p50_ms", "p99_ms", "p999_ms")
HOW_BUSY = ("server_busy", "load_busy", "disturbed")
COLUMNS = ("delivered_per_s", "lost", "cpu_us", *LATENCY, "rss_mb", *HOW_BUSY)
PACE = ("first_token_p50_ms", "first_token_p99_ms", "inter_token_p50_ms", "inter_token_p99_ms")


def _fan(title: str, fan: Fan, *unsuited: type[Peer], columns: tuple[str, ...] = COLUMNS) -> Scenario:
    return Scenario(
        title, lambda peer, effort: measure(peer, fan, effort), lambda peer: not isinstance(peer, unsuited), columns
    )


def _own(
    title: str,
    measure: Callable[[Deltawire, Effort], Metrics],
    *columns: str,
    variants: tuple[str, ...] = (),
    is_durable: bool = False,
) -> Scenario:
    """A scenario of what only this gateway does, or only with a store."""

    def measure_own(peer: Peer, effort: Effort) -> Metrics:
        assert isinstance(peer, Deltawire), "it suits no other"
        return measure(peer, effort)

    def suits(peer: Peer) -> bool:
        return isinstance(peer, Deltawire) and peer.is_durable >= is_durable

    return Scenario(title, measure_own, suits, columns, variants)


def _measure_policies(peer: Deltawire, effort: Effort) -> Metrics:
    return {
        f"{policy}.{name}": value
        for policy in POLICIES
        for name, value in measure_stalled(peer, effort, policy).items()
    }


UNSTORED = "ABCDEFGHIJK"
"""Scenarios of systems that store nothing."""

STORED = "ACDEGKLMN"
"""Scenarios in which stores show."""

SCENARIOS = {
    "A": _fan("1 stream, 500 consumers, 200 events/s", Fan(1, 500, 200)),
    "B": _fan("1 stream, 500 consumers, 1,000 events/s", Fan(1, 500, 1000), Floor),
    "C": _fan("1 stream, 500 consumers, 4,000 events/s", Fan(1, 500, 4000), Ws, Broadcast),
    "D": _fan("250 streams, 2 consumers each, 40 events/s each", Fan(250, 2, 40), Floor),
    "E": _fan("1 stream, 1 consumer, 100,000 events/s, one a message", Fan(1, 1, 100_000), Floor),
    "F": Scenario(
        "memory: 9,000 idle consumers; 1,000 and 10,000 streams of 100 events",
        measure_memory,
        lambda peer: not isinstance(peer, (Floor, JetStream)),
        (
            "idle_mib",
            "consumer_kib",
            *(f"streams_{number}_mib" for number in STREAMS),
            "handshakes_per_s",
            "handshake_us",
            "disturbed",
        ),
    ),
    "G": _own(
        "late join into an answer of 20,000 tokens",
        measure_join,
        *("join_ms", "join_max_ms", "folded_bytes", "raw_bytes", "folded_part", "raw_join_ms"),
    ),
    "H": _own(
        "100 consumers at 1,000 events/s, alone and beside one that stopped reading",
        _measure_policies,
        *("alone_p99_ms", "beside_p99_ms", "p99_ratio", "stall_ms", "lost", "disturbed"),
        variants=POLICIES,
    ),
    "I": _own(
        "in process: append and read without sockets",
        lambda peer, effort: measure_in_process(peer.root, SERVER_CORE, effort.size(EVENTS)),
        *("events_per_s", "bytes_an_event"),
    ),
    "J": _fan(
        "200 streams, 3 viewers each, 80 tokens/s with jitter",
        Fan(200, 3, 80, is_jittered=True),
        Floor,
        columns=("lost", "cpu_us", *PACE, "p99_ms", *HOW_BUSY),
    ),
    "K": _own(
        "5,000 consumers reconnect at once and resume, at 20 events/s",
        measure_storm,
        *(
            "storm_s",
            "not_caught_up",
            "lost",
            "doubled",
            "ack_p50_ms",
            "ack_p99_ms",
            "reconnects_per_s",
            "reconnect_us",
            "disturbed",
        ),
    ),
    "L": _fan("250 streams, 1 consumer each, 80 events/s each: 20,000 a second", Fan(250, 1, 80), Floor),
    "M": _fan("250 streams, 2 consumers each, 320 events/s each: 80,000 a second", Fan(250, 2, 320), Floor),
    "N": _own(
        "start with 10,000 stored streams of 100 events, a row each",
        measure_start,
        *("ready_s", "fill_s", "rss_mb"),
        is_durable=True,
    ),
    "R": _own(
        "in process: one event through no, one and five stages of middleware",
        lambda peer, effort: measure_stages(peer.root, SERVER_CORE, effort.size(SCREENED)),
        *("event_us", "stages_us"),
        variants=STAGES,
    ),
}
