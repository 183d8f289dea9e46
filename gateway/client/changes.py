"""Waiting for a state to change, in one event loop: only those wake whose condition then holds.

An `asyncio.Condition` wakes all of them, each in turn, at every change; a publisher has three, and changes often.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Changes:
    """The changes of a state that several tasks share; whoever changes it calls `notify`."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[[], object], asyncio.Future[None]]] = []

    async def wait_for(self, condition: Callable[[], object]) -> None:
        """Return when the condition holds; nothing else runs between that and the caller's next `await`."""
        while not condition():
            waiting = (condition, asyncio.get_running_loop().create_future())
            self._waiting.append(waiting)
            try:
                await waiting[1]
            finally:
                self._waiting.remove(waiting)

    def notify(self) -> None:
        """Wake those whose condition holds."""
        for condition, woken in self._waiting:
            if not woken.done() and condition():
                woken.set_result(None)
