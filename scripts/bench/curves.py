"""Scale curves: what a delivery, an append and a join cost as numbers grow. What should be constant must not grow."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from scripts.bench.blocking import Connection
from scripts.bench.deltawire import Deltawire
from scripts.bench.effort import Effort
from scripts.bench.fan import Fan, connect, measure, measure_connected, publish
from scripts.bench.figures import Metrics
from scripts.bench.joining import answer, join
from scripts.bench.load import Load
from scripts.bench.memory import KIB
from scripts.bench.peer import Peer
from scripts.bench.peers import Nats, Nchan
from scripts.bench.process import Spent

DELIVERIES = 50_000
"""A second, about, however many consumers there are."""

APPENDS = 2_000
"""A second, however many streams there are."""

JOINS = 20


class Curve(NamedTuple):
    """One thing that grows.

    Attributes:
        title: what.
        values: the numbers it takes.
        measure: one run with such a number.
        suits: whether it can be done to a system.
        figures: what is drawn, each in a panel.
    """

    title: str
    values: tuple[int, ...]
    measure: Callable[[Peer, int, Effort], Metrics]
    suits: Callable[[Peer], bool]
    figures: tuple[str, ...]


def _along_load(peer: Peer, rate: int, effort: Effort) -> Metrics:
    return measure(peer, Fan(1, 500, rate), effort)


def _along_consumers(peer: Peer, consumers: int, effort: Effort) -> Metrics:
    fan = Fan(1, consumers, min(1_000, max(10, DELIVERIES / consumers)))
    with peer.running() as server, Load() as load:
        idle, before = server.memory(), server.cpu()
        connect(load, peer, server.port, fan)
        handshake = (server.cpu() - before) / 1000 / consumers
        kib = (server.memory() - idle) / KIB / consumers
        publish(load, fan, fan.schedule(effort.warmup))
        figures = measure_connected(load, server, fan, effort.seconds)
        return figures | {"handshake_us": handshake, "consumer_kib": kib}


def _along_streams(peer: Peer, streams: int, effort: Effort) -> Metrics:
    return measure(peer, Fan(streams, 0, APPENDS / streams), effort)


def _along_backlog(peer: Peer, backlog: int, effort: Effort) -> Metrics:
    """Appends to a stream that holds so much already, and joins at its head."""
    with peer.running() as server, Load() as load:
        answer(peer, server.port, backlog, "s0")
        fan = Fan(1, 1, APPENDS, query="?from=now")
        connect(load, peer, server.port, fan)
        publish(load, fan, fan.schedule(effort.warmup))
        figures = measure_connected(load, server, fan, effort.seconds)
        before = Spent.until_now(server)
        for _ in range(JOINS):
            with Connection(server.port, peer.subscribe_request("s0", server.port, "?from=now")) as consumer:
                consumer.read_until(b'"caught_up"')
        spent = Spent.until_now(server) - before
        return figures | {"join_us": spent.server / 1000 / JOINS}


def _along_answer(peer: Peer, tokens: int, effort: Effort) -> Metrics:
    """Late joins into an answer of so many tokens."""
    del effort
    with peer.running() as server:
        answer(peer, server.port, tokens)
        before = Spent.until_now(server)
        joins = sorted(join(peer, server.port) for _ in range(JOINS))
        spent = Spent.until_now(server) - before
        return {
            "join_ms": joins[JOINS // 2][0],
            "join_us": spent.server / 1000 / JOINS,
            "folded_bytes": joins[JOINS // 2][1],
        }


def _is_known(peer: Peer) -> bool:
    return isinstance(peer, (Deltawire, Nchan, Nats))


def _is_own(peer: Peer) -> bool:
    return isinstance(peer, Deltawire)


CURVES = {
    "load": Curve(
        "events a second to 500 consumers",
        (100, 200, 500, 1_000, 2_000, 4_000),
        _along_load,
        _is_known,
        ("p99_ms", "cpu_us"),
    ),
    "consumers": Curve(
        "consumers of one stream",
        (1, 10, 100, 1_000, 3_000, 9_000),
        _along_consumers,
        _is_known,
        ("cpu_us", "consumer_kib", "handshake_us"),
    ),
    "streams": Curve(
        "streams, each with a producer", (1, 10, 100, 1_000, 10_000), _along_streams, _is_own, ("append_us",)
    ),
    "backlog": Curve(
        "events held of a stream", (1, 100, 1_000, 10_000, 50_000), _along_backlog, _is_own, ("append_us", "join_us")
    ),
    "answer": Curve(
        "tokens of an answer",
        (100, 1_000, 5_000, 20_000, 50_000),
        _along_answer,
        _is_own,
        ("join_us", "join_ms", "folded_bytes"),
    ),
}
