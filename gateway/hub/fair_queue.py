"""A fair queue: runs many short steps in order, and only for a slice of each loop turn.

When a network fails, thousands of connections end in one turn of the event loop. Ending 5,000 of them at once held up
everybody else for 230 ms; 32 consumers that replayed a long log at once did so for 350 ms.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final

STEP_SLICE: Final = 0.002
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

    @property
    def is_over(self) -> bool:
        """Whether the slice is used up, so that a step that can wait should; always true between turns."""
        return self._now() >= self._until

    def enter(self, step: Callable[[], None]) -> None:
        """Run a step when its turn comes; it must handle its own exceptions."""
        self._steps.append(step)
        if not self._is_turning:
            self._is_turning = True
            self._next_turn(self._turn)

    def _turn(self) -> None:
        self._until = self._now() + STEP_SLICE
        for _ in range(len(self._steps)):
            self._steps.popleft()()
            if self.is_over:
                break
        self._until = 0.0
        self._is_turning = bool(self._steps)
        if self._is_turning:
            self._next_turn(self._turn)
