"""How fast a recorded answer is played back."""

from __future__ import annotations

import asyncio
from contextlib import suppress

LATEST = 1.0
"""Seconds a schedule may be behind and catch up; after a longer stall of the input it begins anew."""


class Pace:
    """A schedule of so many deltas a second, without drift: each is due by the clock, not after the last.

    Args:
        rate: deltas a second; None or 0 is as fast as possible.
    """

    def __init__(self, rate: float | None) -> None:
        self._gap = 1 / rate if rate else 0.0
        self._due = 0.0

    def delay(self, now: float) -> float:
        """Seconds from `now` to when the next delta is due, which is thereby taken."""
        if self._due < now - LATEST:
            self._due = now
        delay = max(0.0, self._due - now)
        self._due += self._gap
        return delay

    async def wait_due(self, hurry: asyncio.Event) -> None:
        """Wait until the next delta is due, or there is no time for that any more.

        Args:
            hurry: when set, nothing waits.
        """
        if not self._gap:
            return
        delay = self.delay(asyncio.get_running_loop().time())
        if delay > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await hurry.wait()
