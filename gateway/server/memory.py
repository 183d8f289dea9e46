"""What connections cost in memory, and which go when it runs out. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

T = TypeVar("T")

CONNECTION_COST: Final = 16 * 1024
"""Bytes an idle connection costs, rounded up (CPython 3.11, uvloop); what it holds beside that is counted as it is."""

SHED_OVER: Final = 2 * CONNECTION_COST
"""Bytes a connection must hold to be worth ending for: of idle ones, many would have to go for little."""

HEADROOM: Final = 1 / 16
"""Part of the limit that is free again afterwards: connections are counted now and then, and whoever publishes in
between must not be the one that finds no room."""


def choose(holdings: Iterable[tuple[int, T]], excess: int) -> list[T]:
    """Whom to end, so that enough is free again: as few as possible, those that hold most.

    Args:
        holdings: bytes each one holds, and it.
        excess: bytes to be freed.
    """
    chosen: list[T] = []
    for held, it in sorted(holdings, key=lambda holding: holding[0], reverse=True):
        if excess <= 0 or held < SHED_OVER:
            break
        chosen.append(it)
        excess -= held
    return chosen
