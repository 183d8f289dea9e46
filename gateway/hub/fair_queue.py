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

STEP_SLICE: Final = 0.001
"""Seconds of steps in one loop turn. The last step may exceed it, by 60 µs (the end of a connection) or one read."""


class FairQueue:
    """Runs steps in the order in which they came, for no longer than `STEP_SLICE` in a turn.

    Args:
        next_turn: calls a function in the next turn of the loop, as `call_soon` does.
        now: monotonic seconds.
    """

    def __init__(self, next_turn: Callable[[Callable[[], None]], object], now: Callable[[], float] = monotonic) -> None:
        self._next_turn = next_turn
        self._now = now
        self._steps: deque[Callable[[], None]] = deque()
        self._is_turning = False
        self._until = 0.0

    def __len__(self) -> int:
        """Steps that wait."""
        return len(self._steps)

    def has_time(self) -> bool:
        """Whether work may go on now: nobody waits, and the slice is not over. It begins with the first who asks."""
        now = self._now()
        if not self._until:
            self._until = now + STEP_SLICE
            self._turn_soon()
        return now < self._until and not self._steps

    def enter(self, step: Callable[[], None]) -> None:
        """Run a step when its turn comes; it must handle its own exceptions."""
        self._steps.append(step)
        self._turn_soon()

    def _turn_soon(self) -> None:
        if not self._is_turning:
            self._is_turning = True
            self._next_turn(self._turn)

    def _turn(self) -> None:
        self._until = self._until or self._now() + STEP_SLICE
        for _ in range(len(self._steps)):
            self._steps.popleft()()
            if self._now() >= self._until:
                break
        self._until = 0.0
        self._is_turning = False
        if self._steps:
            self._turn_soon()
