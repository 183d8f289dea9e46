"""Scenario K: thousands of consumers lose their connection at once and resume, while the answer goes on."""

from __future__ import annotations

import select
from collections.abc import Callable
from socket import socket

import httpx

from scripts.bench.deltawire import Deltawire
from scripts.bench.effort import Effort
from scripts.bench.fan import Fan, connect
from scripts.bench.figures import Histogram, Metrics
from scripts.bench.handshake import Door, Opening
from scripts.bench.load import Load
from scripts.bench.process import Server, Spent
from scripts.bench.reads import clock
from scripts.bench.schedule import Schedule, evenly

CONSUMERS = 5_000
RATE = 20
"""Events a second: with 5,000 consumers, 100,000 deliveries a second."""

BEFORE = 1.0
"""Seconds everybody is connected before the storm."""

SECONDS = 40.0
"""Seconds the producer would go on; it is stopped when the storm is over."""

AFTER = 0.5


class Acks:
    """When each event was acked."""

    def __init__(self, schedule: Schedule, start: int) -> None:
        self._schedule = schedule
        self._start = start
        self._acked_at: list[int] = []

    def note(self, acked: int) -> None:
        """All events up to one are acked now."""
        self._acked_at.extend([clock()] * (acked - len(self._acked_at)))

    def latencies(self, since: int, until: int) -> Histogram:
        """From the scheduled time to the ack, of events that were due between two times in nanoseconds."""
        histogram = Histogram()
        for due, acked_at in zip(self._schedule.times, self._acked_at, strict=False):
            if since <= self._start + due <= until:
                histogram.add((acked_at - self._start - due) // 1000)
        return histogram


def measure_storm(peer: Deltawire, effort: Effort) -> Metrics:
    """Time until everybody is caught up, what was lost or came twice, and how long the producer waited for acks."""
    consumers = effort.size(CONSUMERS)
    fan = Fan(streams=1, consumers=consumers, rate=RATE)
    with peer.running() as server, Load() as load:
        connect(load, peer, server.port, fan)
        query = f"?epoch={_epoch(peer, server.port)}&after="
        schedule, start = evenly(1, RATE, SECONDS), clock()
        acks = Acks(schedule, start)
        producer = load.sender.producers[0]
        producer.on_heard = lambda: acks.note(producer.acked)
        load.start(schedule, start)
        load.run(BEFORE)
        began, before = clock(), Spent.until_now(server)
        caught_up = _reconnect(load, peer, server, query)
        load.run(SECONDS - BEFORE - AFTER - 1, lambda: caught_up[0] == consumers)
        ended, spent = clock(), Spent.until_now(server) - before
        load.sender.stop()
        load.run(AFTER)
        load.run(2.0, lambda: load.reads.total >= producer.sent * consumers)
        counts = load.reads.by_consumer()
        latencies = acks.latencies(began, ended)
    return {
        "storm_s": (ended - began) / 1e9,
        "not_caught_up": consumers - caught_up[0],
        "lost": sum(max(0, producer.sent - counts.get(name, 0)) for name in range(consumers)),
        "doubled": sum(max(0, count - producer.sent) for count in counts.values()),
        "ack_p50_ms": latencies.percentile(0.5),
        "ack_p99_ms": latencies.percentile(0.99),
        "reconnects_per_s": consumers / ((ended - began) / 1e9),
        "reconnect_us": spent.server / 1000 / consumers,
        "disturbed": spent.waiting / (ended - began),
    }


def _reconnect(load: Load, peer: Deltawire, server: Server, query: str) -> list[int]:
    """Drop every consumer and have all come back at once, where it left off.

    Returns:
        A list with the number of those that have caught up, which grows.
    """
    caught_up = [0]
    doors = []
    for name, seen in load.drop_consumers().items():
        request = peer.subscribe_request("s0", server.port, f"{query}{seen}")
        doors.append(Door(request, _resume(load, name, caught_up)))
    Opening(load, server.port, doors, window=len(doors))
    return caught_up


def _resume(load: Load, name: int, caught_up: list[int]) -> Callable[[socket, bytes], None]:
    """What to do with a connection that resumes: read until it has caught up, then as everybody."""

    def opened(sock: socket, rest: bytes) -> None:
        got = bytearray(rest)

        def finish() -> bool:
            if b'"caught_up"' not in got:
                return False
            caught_up[0] += 1
            load.consume(sock, name, bytes(got))
            return True

        def hear(_: int) -> None:
            data = sock.recv(65536)
            if not data:
                load.forget(sock)
                return
            got.extend(data)
            finish()

        if not finish():
            load.watch(sock, hear, select.EPOLLIN)

    return opened


def _epoch(peer: Deltawire, port: int) -> str:
    headers = {"Authorization": f"Bearer {peer.token}"} if peer.token else {}
    return str(httpx.get(f"http://127.0.0.1:{port}/v1/streams/s0", headers=headers).raise_for_status().json()["epoch"])
