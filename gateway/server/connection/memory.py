"""What connections cost in memory, and which to end when memory runs out. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from typing import Final, TypeVar

T = TypeVar("T")

CONNECTION_COST: Final = 16 * 1024
"""Bytes an idle connection costs, rounded up from 14 KiB (resident, measured with 1,500 on CPython 3.11 and uvloop).
What it holds beside that is counted as it is."""

TLS_COST: Final = 32 * 1024
"""Bytes more with TLS: 39 KiB in all."""

TLS_READING_COST: Final = 32 * 1024
"""Bytes more for a peer that sends over TLS, as its reads go through buffers that stay: 61 KiB in all after messages of
2 KiB, 87 KiB after some of 20 KiB."""

SHED_OVER: Final = 16 * 1024
"""Bytes a connection must hold beside its cost to be worth ending: ending many idle ones would free little."""

HEADROOM: Final = 1 / 16
"""Share of the limit to keep free: connections are counted only now and then, and a producer that publishes in between
must find room. Long answers do not get it."""


def headroom(limit: int) -> int:
    """Bytes of a memory limit to keep free."""
    return int(limit * HEADROOM)


def connection_cost(*, has_tls: bool, sends: bool) -> int:
    """Bytes a connection costs while it holds nothing.

    Sockets whose request is incomplete are not counted: `max_handshakes` bounds them, and no stream should be evicted
    for them (12 KiB each, 67 KiB with TLS).

    Args:
        has_tls: whether it is encrypted.
        sends: whether its peer publishes.
    """
    if not has_tls:
        return CONNECTION_COST
    return CONNECTION_COST + TLS_COST + (TLS_READING_COST if sends else 0)


def choose(holdings: Iterable[tuple[int, T]], excess: int) -> list[T]:
    """Pick the fewest connections that free enough memory, largest first.

    Args:
        holdings: per connection: bytes it holds beside what it costs when idle, and the connection.
        excess: bytes to free.
    """
    chosen: list[T] = []
    for beside, it in sorted(holdings, key=itemgetter(0), reverse=True):
        if excess <= 0 or beside < SHED_OVER:
            break
        chosen.append(it)
        excess -= beside
    return chosen
