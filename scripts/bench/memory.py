"""Scenario F: what an idle consumer takes, and streams that nobody reads."""

from __future__ import annotations

import time
from socket import socket

from scripts.bench.deltawire import Deltawire
from scripts.bench.effort import Effort
from scripts.bench.fan import SETTLING, Fan, connect
from scripts.bench.figures import Metrics
from scripts.bench.handshake import Door, open_all
from scripts.bench.load import Load
from scripts.bench.peer import Peer
from scripts.bench.process import Server, Spent
from scripts.bench.wire import EVENT, Template, masked

CONSUMERS = 9_000
STREAMS = (1_000, 10_000)
EVENTS = 100

PATIENCE = 20.0
"""Seconds until everything published must be acked."""

KIB = 1024
MIB = 1024 * 1024


def measure_memory(peer: Peer, effort: Effort) -> Metrics:
    """Resident memory over that of the idle process; what handshakes cost beside it."""
    metrics = _measure_consumers(peer, effort.size(CONSUMERS))
    if isinstance(peer, Deltawire):
        metrics |= _measure_streams(peer, {number: effort.size(number) for number in STREAMS})
    return metrics


def _measure_consumers(peer: Peer, consumers: int) -> Metrics:
    with peer.running() as server, Load() as load:
        idle, before, began = server.memory(), Spent.until_now(server), time.monotonic()
        connect(load, peer, server.port, Fan(streams=1, consumers=consumers, rate=1))
        took, spent = time.monotonic() - began - SETTLING, Spent.until_now(server) - before
        return {
            "consumer_kib": (server.memory() - idle) / KIB / consumers,
            "handshakes_per_s": consumers / took,
            "handshake_us": spent.server / 1000 / consumers,
            "disturbed": spent.waiting / 1e9 / took,
            "idle_mib": idle / MIB,
        }


def _measure_streams(peer: Peer, numbers: dict[int, int]) -> Metrics:
    """What so many streams take, told from as many as are wanted."""
    metrics = {}
    with peer.running() as server, Load() as load:
        idle, made = server.memory(), 0
        for number, wanted in numbers.items():
            _make_streams(load, peer, server, range(made, wanted))
            made = wanted
            metrics[f"streams_{number}_mib"] = (server.memory() - idle) / MIB * number / wanted
    return metrics


def _make_streams(load: Load, peer: Peer, server: Server, numbers: range) -> None:
    """Publish events to streams, each by a producer that then goes away."""
    batch = masked(b"[" + b",".join([EVENT] * EVENTS) + b"]")
    acked = 0

    def opened(sock: socket, _: bytes) -> None:
        producer = load.produce(sock, Template(masked(EVENT)))

        def heard() -> None:
            nonlocal acked
            if producer.acked == EVENTS:
                acked += 1
                load.sender.producers.remove(producer)
                load.forget(sock)

        producer.on_heard = heard

    doors = [Door(peer.publish_request(f"m{number}", server.port), opened, batch) for number in numbers]
    open_all(load, server.port, doors)
    if not load.run(PATIENCE, lambda: acked == len(numbers)):
        raise OSError(f"{len(numbers) - acked} of {len(numbers)} streams did not get their events")
    load.run(0.3)
