"""What connections cost in memory, and which go when it runs out. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

T = TypeVar("T")

CONNECTION_COST: Final = 16 * 1024
"""Bytes an idle connection costs, rounded up from 14 KiB (resident, of 1,500 on CPython 3.11 and uvloop). What it holds
beside that is counted as it is."""

TLS_COST: Final = 32 * 1024
"""Bytes more with TLS: 39 KiB in all."""

TLS_READING_COST: Final = 32 * 1024
"""Bytes more of who sends over TLS, whose reads go through buffers that stay: 61 KiB in all after messages of 2 KiB, 87
KiB after some of 20 KiB."""

SHED_OVER: Final = 16 * 1024
"""Bytes a connection must hold beside its cost to be worth ending: of idle ones, many would have to go for little."""

HEADROOM: Final = 1 / 16
"""Part of the limit that is free again afterwards: connections are counted now and then, and whoever publishes in
between must not be the one that finds no room."""


def connection_cost(*, has_tls: bool, sends: bool) -> int:
    """Bytes a connection costs while it holds nothing.

    Those that have asked for nothing yet are not counted: `max_handshakes` bounds them, and no stream should have to go
    for them (12 KiB each, with TLS 67).

    Args:
        has_tls: whether it is encrypted.
        sends: whether its peer publishes.
    """
    if not has_tls:
        return CONNECTION_COST
    return CONNECTION_COST + TLS_COST + (TLS_READING_COST if sends else 0)


def choose(holdings: Iterable[tuple[int, int, T]], excess: int) -> list[T]:
    """Whom to end, so that enough is free again: as few as possible, those that hold most.

    Args:
        holdings: bytes each one costs idle, bytes it holds beside that, and it.
        excess: bytes to be freed.
    """
    chosen: list[T] = []
    for cost, beside, it in sorted(holdings, key=lambda holding: holding[1], reverse=True):
        if excess <= 0 or beside < SHED_OVER:
            break
        chosen.append(it)
        excess -= cost + beside
    return chosen
