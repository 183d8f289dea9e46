"""Scenario H: a hundred consumers, and one more that stopped reading; each policy."""

from __future__ import annotations

import select
import socket

from scripts.bench.deltawire import Deltawire
from scripts.bench.effort import Effort
from scripts.bench.fan import Fan, connect, measure_connected, publish
from scripts.bench.figures import Metrics
from scripts.bench.handshake import Door, open_all
from scripts.bench.load import Load
from scripts.bench.process import Server
from scripts.bench.wire import EVENT

POLICIES = ("coalesce", "block", "drop_newest", "drop_oldest", "disconnect")

CONSUMERS = 100
RATE = 1_000

BLOCK_TIMEOUT = 1.0
"""Seconds, in place of the default of 10: it is a bound that is looked at, and 10 seconds of silence show no more."""

UNREAD = 200_000
"""Bytes that the sockets on both sides hold before a consumer that does not read shows."""

SOONER = 3
"""How much faster events come until the consumer stands still."""

FRAME = len(EVENT) + 50


def measure_stalled(peer: Deltawire, effort: Effort, policy: str) -> Metrics:
    """How others fare beside a consumer that stopped reading, and without it.

    Args:
        peer: the gateway.
        effort: of each of the two runs.
        policy: of all consumers.
    """
    fan = Fan(1, effort.load(CONSUMERS), RATE * effort.part_of_load, query=f"?policy={policy}")
    alone = _measure(peer, fan, effort, is_stalled=False)
    beside = _measure(peer, fan, effort, is_stalled=True)
    return {
        "alone_p99_ms": alone["p99_ms"],
        "beside_p99_ms": beside["p99_ms"],
        "p99_ratio": beside["p99_ms"] / alone["p99_ms"],
        "stall_ms": beside["stall_ms"],
        "lost": alone["lost"] + beside["lost"],
        "disturbed": max(alone["disturbed"], beside["disturbed"]),
    }


def _measure(peer: Deltawire, fan: Fan, effort: Effort, *, is_stalled: bool) -> Metrics:
    with peer.running(("--block-timeout", str(BLOCK_TIMEOUT))) as server, Load() as load:
        connect(load, peer, server.port, fan)
        if is_stalled:
            _add_stalled(load, peer, server, fan)
        faster = fan._replace(rate=SOONER * fan.rate)
        stall = 0.0
        for part, seconds in ((faster, effort.load(UNREAD) / FRAME / faster.rate), (fan, 0.5)):
            publish(load, part, part.schedule(seconds))
            stall = max(stall, load.reads.latencies().percentile(1))
        return measure_connected(load, server, fan, effort.seconds) | {"stall_ms": stall}


def _add_stalled(load: Load, peer: Deltawire, server: Server, fan: Fan) -> None:
    """Connect a consumer that never reads."""

    def opened(sock: socket.socket, _: bytes) -> None:
        load.watch(sock, lambda _: load.forget(sock), select.EPOLLHUP)

    request = peer.subscribe_request("s0", server.port, fan.query)
    open_all(load, server.port, [Door(request, opened, receive_buffer=2048)])
