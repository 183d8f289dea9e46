"""A fair queue: runs many short steps in order, and only for a slice of each loop turn.

When a network fails, thousands of connections end in one turn of the event loop. Ending 5,000 of them at once held up
everybody else for 230 ms; 32 consumers that replayed a long log at once did so for 350 ms.

Work that is about to begin outside of the queue may be done at once, without a step, as long as `has_time`. It counts
towards the slice of the turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final

from deltawire.gateway.hub.presence import NORMAL, Presence
from deltawire.protocol.priority import RANKS

STEP_SLICE: Final = 0.0005
"""Seconds of steps of a class in one loop turn. The last one may exceed it, by 60 µs (the end of a connection) or one
read."""


class FairQueue:
    """Runs the steps of each class in the order in which they came, for no longer than its slice in a turn.

    Args:
        next_turn: calls a function in the next turn of the loop, as `call_soon` does.
        now: monotonic seconds.
        presence: which classes are in use; each has its share of `STEP_SLICE`.
    """

    def __init__(
        self,
        next_turn: Callable[[Callable[[], None]], object],
        now: Callable[[], float] = monotonic,
        presence: Presence | None = None,
    ) -> None:
        self._next_turn = next_turn
        self._now = now
        self.presence = presence or Presence()
        self._lines: tuple[deque[Callable[[], None]], ...] = tuple(deque() for _ in RANKS)
        self._is_turning = False
        self._until = [0.0] * len(RANKS)

    def __len__(self) -> int:
        """Steps that wait."""
        return sum(map(len, self._lines))

    def has_time(self, rank: int = NORMAL) -> bool:
        """Whether work of a class may go on now: nobody of it waits, and its slice is not over.

        The slice begins with the first who asks.
        """
        now = self._now()
        until = self._until[rank]
        if not until:
            until = self._until[rank] = now + self.presence.share(rank, STEP_SLICE)
            self._turn_soon()
        return now < until and not self._lines[rank]

    def enter(self, step: Callable[[], None], rank: int = NORMAL) -> None:
        """Run a step when the turn of its class and its own comes; it must handle its own exceptions."""
        self._lines[rank].append(step)
        self._turn_soon()

    def _turn_soon(self) -> None:
        if not self._is_turning:
            self._is_turning = True
            self._next_turn(self._turn)

    def _turn(self) -> None:
        for rank, line in enumerate(self._lines):
            if line:
                until = self._until[rank] or self._now() + self.presence.share(rank, STEP_SLICE)
                for _ in range(len(line)):
                    line.popleft()()
                    if self._now() >= until:
                        break
            self._until[rank] = 0.0
        self._is_turning = False
        if any(self._lines):
            self._turn_soon()
