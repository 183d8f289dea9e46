"""Draining: in which order and batches a gateway that shuts down tells its peers to leave. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeVar

from deltawire.gateway.server.connection.consumer import Consumer
from deltawire.gateway.server.connection.following import FollowingNode

T = TypeVar("T")

CLOSES_A_SECOND: Final = 1000
"""Peers told to leave per second. They reconnect as fast, here or at another gateway, and one core takes about as many
TLS handshakes. Spreading the closes works with every client, even one that would ignore a delay it was told."""

TICK: Final = 0.02
"""Seconds between two batches."""

SPREAD_SHARE: Final = 0.5
"""Share of the drain time after which the last peer is told to leave; then it has the rest to read what it lacks."""


def in_leaving_order(peers: Iterable[T]) -> list[T]:
    """Sort peers: consumers are told last.

    Producers bring no new events from then on, and other gateways that follow a stream go on with its next owner,
    where their consumers wait for what it takes now.
    """
    return sorted(peers, key=lambda it: isinstance(it, Consumer) and not isinstance(it, FollowingNode))


def batches(peers: Sequence[T], seconds: float) -> Iterator[tuple[float, Sequence[T]]]:
    """Yield the batches in which peers are told to leave.

    Args:
        peers: all peers.
        seconds: how long the whole drain may take.

    Yields:
        Seconds to wait after the batch, and the batch. Few peers usually make a single batch, without a wait.
    """
    spread = min(len(peers) / CLOSES_A_SECOND, seconds * SPREAD_SHARE)
    count = max(1, math.floor(spread / TICK))
    size = math.ceil(len(peers) / count)
    for start in range(0, len(peers), max(1, size)):
        batch = peers[start : start + size]
        yield (TICK if start + size < len(peers) else 0.0), batch
