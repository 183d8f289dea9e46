"""Scenarios A to E and J: producers at a fixed rate, consumers that read along."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socket import socket
from typing import NamedTuple

from scripts.bench.effort import Effort
from scripts.bench.figures import Histogram, Metrics
from scripts.bench.handshake import Door, open_all
from scripts.bench.load import Load
from scripts.bench.peer import Peer
from scripts.bench.process import Server, Spent
from scripts.bench.reads import Reads, clock
from scripts.bench.schedule import Schedule, evenly, jittered

SETTLING = 0.3
"""Seconds after the last handshake, for subscriptions to be where they belong."""

GRACE = 2.0
"""Seconds after the last event; what has not come by then is lost, or so late that it makes no difference."""


ACKING = 0.05
"""Seconds after the last delivery, for its ack to come."""

IN_TIME = 0.1
"""Seconds an event may take for a rate to be called sustained."""

NOTED_PER_S = 20_000
"""Reads a second about which notes are made, at least; more would cost the load generator too much."""

STRIDES = (1, 3, 7, 11, 13, 17)
"""Primes that divide no number of consumers here."""


class Fan(NamedTuple):
    """What is published and followed.

    Attributes:
        streams: how many, each with one producer.
        consumers: of each stream.
        rate: events a second, of each stream.
        is_jittered: whether producers begin and send irregularly, as models do.
        query: of the consumers.
    """

    streams: int
    consumers: int
    rate: float
    is_jittered: bool = False
    query: str = ""

    def schedule(self, seconds: float) -> Schedule:
        """When each event is due."""
        return (jittered if self.is_jittered else evenly)(self.streams, self.rate, seconds)

    def part(self, effort: Effort) -> Fan:
        """As much of it as is asked for."""
        return self._replace(
            streams=effort.load(self.streams),
            consumers=effort.load(self.consumers),
            rate=self.rate * effort.part_of_load,
        )

    @property
    def stride(self) -> int:
        """Reads there are to one that is noted."""
        reads = self.streams * self.consumers * min(self.rate, 200)
        return max(stride for stride in STRIDES if stride == 1 or reads / stride >= NOTED_PER_S)


def connect(load: Load, peer: Peer, port: int, fan: Fan) -> None:
    """Open all consumers, then all producers."""

    def consumer(number: int) -> Callable[[socket, bytes], None]:
        return lambda sock, rest: load.consume(sock, number, rest)

    def producer(stream: str) -> Callable[[socket, bytes], None]:
        return lambda sock, _: (load.produce(sock, peer.template(stream)), None)[1]

    streams = [f"s{number}" for number in range(fan.streams)]
    open_all(
        load,
        port,
        [
            Door(
                peer.subscribe_request(stream, port, fan.query),
                consumer(index * fan.consumers + number),
                peer.greeting(stream, is_consumer=True),
            )
            for index, stream in enumerate(streams)
            for number in range(fan.consumers)
        ],
    )
    open_all(
        load,
        port,
        [
            Door(peer.publish_request(stream, port), producer(stream), peer.greeting(stream, is_consumer=False))
            for stream in streams
        ],
    )
    load.run(SETTLING)


def measure(peer: Peer, fan: Fan, effort: Effort) -> Metrics:
    """One run of one system, in a process of its own."""
    fan = fan.part(effort)
    with peer.running() as server, Load() as load:
        connect(load, peer, server.port, fan)
        publish(load, fan, fan.schedule(effort.warmup))
        return measure_connected(load, server, fan, effort.seconds)


def measure_connected(load: Load, server: Server, fan: Fan, seconds: float) -> Metrics:
    """Publish by schedule and count."""
    sent_before = sum(producer.sent for producer in load.sender.producers)
    schedule = fan.schedule(seconds)
    with _uncollected():
        began, before = clock(), Spent.until_now(server)
        in_time = publish(load, fan, schedule)
        took, spent = clock() - began, Spent.until_now(server) - before
    load.run(ACKING)
    reads = load.reads
    sent = sum(producer.sent for producer in load.sender.producers) - sent_before
    expected = sent * fan.consumers
    latencies = reads.latencies()
    return {
        "sent": sent,
        "delivered": reads.total,
        "lost": max(0, expected - reads.total),
        "unsent": len(schedule.times) - sent,
        "delivered_per_s": in_time / (schedule.duration / 1e9),
        "cpu_us": spent.server / 1000 / max(1, reads.total),
        "append_us": spent.server / 1000 / max(1, sent),
        "p50_ms": latencies.percentile(0.5),
        "p99_ms": latencies.percentile(0.99),
        "p999_ms": latencies.percentile(0.999),
        "rss_mb": server.memory() / 1e6,
        "server_busy": spent.server / took,
        "load_busy": spent.load / took,
        "load_idle": load.slept / took,
        "disturbed": spent.waiting / took,
        "reads": reads.count,
        **_acks(load),
        "lost_connections": load.lost_connections,
        **_pace(reads, fan),
    }


def publish(load: Load, fan: Fan, schedule: Schedule) -> int:
    """Publish by schedule, and wait until everything has come or `GRACE` is over.

    Returns:
        How many events came in time: before `IN_TIME` after the last was due.
    """
    expected = len(schedule.times) * fan.consumers
    start = clock() + 20_000_000
    load.start(schedule, start, stride=1 if fan.is_jittered else fan.stride)

    def done() -> bool:
        return load.reads.total >= expected and not load.sender.is_busy

    load.run((start - clock() + schedule.duration) / 1e9 + IN_TIME, done)
    in_time = load.reads.total
    load.run(GRACE, done)
    return in_time


def _acks(load: Load) -> Metrics:
    """Events not acked, by a system that acks with numbers that are counts of events."""
    producers = load.sender.producers
    if not any(producer.acked for producer in producers):
        return {}
    return {"unacked": sum(max(0, producer.sent - producer.acked) for producer in producers)}


def _pace(reads: Reads, fan: Fan) -> Metrics:
    """Time to the first token and between tokens, of jittered streams, which begin while others run."""
    if not fan.is_jittered:
        return {}
    first, between = Histogram(), Histogram()
    last: dict[int, int] = {}
    for who, when, oldest in zip(reads.who, reads.when, reads.oldest, strict=True):
        if who in last:
            between.add(when - last[who])
        elif oldest:
            first.add(when - oldest)
        last[who] = when
    return {
        "first_token_p50_ms": first.percentile(0.5),
        "first_token_p99_ms": first.percentile(0.99),
        "inter_token_p50_ms": between.percentile(0.5),
        "inter_token_p99_ms": between.percentile(0.99),
    }


@contextmanager
def _uncollected() -> Iterator[None]:
    """The load generator's own garbage collector would show in the latencies."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
