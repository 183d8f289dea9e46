"""How a gateway goes away: in which batches its peers are sent home. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

T = TypeVar("T")

CLOSES_A_SECOND: Final = 1000
"""Peers told to leave in a second. They reconnect as fast, here or at another gateway, and one core takes about as many
handshakes with TLS. Spreading the closes works with every client, even one that would ignore a delay it was told."""

TICK: Final = 0.02
"""Seconds between two batches."""

SPREAD_SHARE: Final = 0.5
"""Part of the time there is in which the last peer is sent home: what is left, it has for taking what is left."""


def batches(peers: Sequence[T], seconds: float) -> Iterator[tuple[float, Sequence[T]]]:
    """Peers in the batches in which they are sent home.

    Args:
        peers: all of them.
        seconds: how long the whole drain may take.

    Yields:
        Seconds to wait after the batch, and the batch. A single one, without a wait, is the rule for a few peers.
    """
    spread = min(len(peers) / CLOSES_A_SECOND, seconds * SPREAD_SHARE)
    count = max(1, math.floor(spread / TICK))
    size = math.ceil(len(peers) / count)
    for start in range(0, len(peers), max(1, size)):
        batch = peers[start : start + size]
        yield (TICK if start + size < len(peers) else 0.0), batch
