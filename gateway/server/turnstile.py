"""A turnstile: what thousands ask for in one moment is done a few at a time, in order, and others are served between.

When a network fails, thousands of connections end in one turn of the event loop. All of that at once held everybody
else up for 230 ms with 5,000 of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

A_TURN: Final = 32
"""Steps in one turn of the loop: about 2 ms."""


class Turnstile:
    """Does steps in the order in which they came, at most `A_TURN` in a turn.

    Args:
        next_turn: has a function called in the next turn of the loop, as `call_soon` does.
    """

    def __init__(self, next_turn: Callable[[Callable[[], None]], object]) -> None:
        self._next_turn = next_turn
        self._steps: deque[Callable[[], None]] = deque()
        self._is_turning = False

    def __len__(self) -> int:
        """Steps that wait."""
        return len(self._steps)

    def enter(self, step: Callable[[], None]) -> None:
        """Have a step done when its turn comes; it deals with its own failures."""
        self._steps.append(step)
        if not self._is_turning:
            self._is_turning = True
            self._next_turn(self._turn)

    def _turn(self) -> None:
        for _ in range(min(A_TURN, len(self._steps))):
            self._steps.popleft()()
        self._is_turning = bool(self._steps)
        if self._is_turning:
            self._next_turn(self._turn)
