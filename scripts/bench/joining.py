"""Scenario G: joining late, when most of a long answer is out."""

from __future__ import annotations

import itertools
import time
from statistics import median

from scripts.bench.blocking import Connection
from scripts.bench.effort import Effort
from scripts.bench.figures import Metrics
from scripts.bench.peer import Peer
from scripts.bench.wire import masked

TOKENS = 20_000
JOINS = 20
BATCH = 500
"""Tokens a message; one of 64 KiB at most is taken."""

WORDS = (" the", " quick", " brown", " fox", " jumps", " over", " a", " lazy", " dog", ",", " and", " so", " on", ".")
"""Tokens of about the length a model's have: 3.9 characters."""

STREAM = "answer"


def measure_join(peer: Peer, effort: Effort) -> Metrics:
    """The time from `subscribed` to `caught_up`, and what comes in between, of a consumer that takes defaults."""
    tokens = effort.size(TOKENS)
    with peer.running() as server:
        answer(peer, server.port, tokens)
        joins = [join(peer, server.port) for _ in range(effort.size(JOINS))]
        raw = join(peer, server.port, "?policy=drop_newest")
    return {
        "join_ms": median(took for took, _ in joins),
        "join_max_ms": max(took for took, _ in joins),
        "folded_bytes": median(size for _, size in joins),
        "raw_bytes": raw[1],
        "folded_part": median(size for _, size in joins) / raw[1],
        "raw_join_ms": raw[0],
    }


def answer(peer: Peer, port: int, tokens: int, stream: str = STREAM) -> None:
    """Publish a message in progress, and wait until it is acked."""
    words = itertools.cycle(WORDS)
    events = [b'{"type":"message_start","data":{"message_id":"m1"}}']
    events += [b'{"type":"text_delta","data":{"text":"%b"}}' % next(words).encode() for _ in range(tokens)]
    with Connection(port, peer.publish_request(stream, port)) as producer:
        for first in range(0, len(events), BATCH):
            producer.send(masked(b"[" + b",".join(events[first : first + BATCH]) + b"]"))
        producer.read_until(b'"ack","seq":%d' % len(events))


def join(peer: Peer, port: int, query: str = "") -> tuple[float, int]:
    """Subscribe to `STREAM`.

    Returns:
        Milliseconds from `subscribed` to `caught_up`, and bytes in between.
    """
    with Connection(port, peer.subscribe_request(STREAM, port, query)) as consumer:
        consumer.read_until(b'"subscribed"')
        began = time.monotonic()
        consumer.read_until(b'"caught_up"')
        took = time.monotonic() - began
        first = consumer.received.find(b'"subscribed"')
        last = consumer.received.find(b'"caught_up"')
    return 1000 * took, last - first
