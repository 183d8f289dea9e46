"""Which faults happen when: drawn before anything else."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final, NamedTuple

BEGIN: Final = 4.0
END: Final = 16.0
"""Seconds between which faults begin: not before each node has renewed its session once, and knows of the others."""

LONGEST: Final = 18.0
"""Seconds that one lasts at most: longer than a session."""


class Fault(NamedTuple):
    """A fault.

    Attributes:
        at: seconds.
        lasts: seconds; of what happens at once, until it is mended.
        name: of what happens.
        node: that it happens to.
        share: from 0 to 1: how much of it.
    """

    at: float
    lasts: float
    name: str
    node: int
    share: float


OF_NODES: Final = ("crash", "vanish", "leave", "pause", "cut", "mute", "break", "part", "jump")
"""End of the process, known at once or not; a wanted end; a pause; a cut link to the server; a lost reply; a broken
connection; a cut link to another node; a wall clock that jumps."""

OF_SERVER: Final = ("restart", "stall", "shift")
"""A restart with all data; a pause; a wall clock that jumps."""

LOSING: Final = ("rollback", "promote", "empty", "flush")
"""An older state after a restart, or on another machine; a restart with nothing; all keys deleted."""

HARMLESS: Final = (*LOSING, "restart", "jump")
"""After these alone, every owner is there and appends what the server has lost again: nothing is lost."""


def plan(draw: Random, nodes: int) -> list[Fault]:
    """Draw what happens."""
    if draw.random() < 0.2:
        return _worst(draw, nodes)
    kinds = draw.choice([(*OF_NODES, *OF_SERVER), (*OF_NODES, *OF_SERVER, *LOSING), HARMLESS, (*LOSING, "pause")])
    faults = []
    for _ in range(draw.randint(1, 4)):
        at = draw.uniform(BEGIN, END)
        for _ in range(draw.choice([1, 1, 2])):  # some of them together
            lasts = draw.choice([draw.uniform(0.05, 2.0), draw.uniform(2.0, LONGEST)])
            faults.append(
                Fault(at + draw.uniform(0, 0.5), lasts, draw.choice(kinds), draw.randrange(nodes), draw.random())
            )
    return sorted(faults)


def _worst(draw: Random, nodes: int) -> list[Fault]:
    """The server has an older state, and whoever could have filled it up again is gone or can't."""
    at, lasts = draw.uniform(BEGIN, END / 2), draw.uniform(0.5, 3.0)
    faults = [Fault(at, lasts, draw.choice(["rollback", "promote"]), 0, 0.0)]
    for node in range(nodes):
        if draw.random() < 0.8:
            name = draw.choice(["crash", "vanish", "pause", "cut"])
            lasting = draw.uniform(0.1, 3.0) if name in {"crash", "vanish"} else draw.uniform(11.0, LONGEST)
            faults.append(Fault(at + lasts - draw.uniform(0.0, 0.2), lasting, name, node, 0.0))
    return sorted(faults)


def may_lose(faults: Sequence[Fault]) -> bool:
    """Whether acked events may be lost; readers are told which, even then."""
    names = {it.name for it in faults}
    return bool(names & set(LOSING)) and not names <= set(HARMLESS)
