"""The speed at which a recorded answer is replayed."""

from __future__ import annotations

import asyncio
from contextlib import suppress

LATEST = 1.0
"""Seconds of delay that a schedule makes up for; after a longer stall of the input, it restarts."""


class Pace:
    """A schedule with a fixed rate of deltas, without drift: each is due by the clock, not relative to the last one.

    Args:
        rate: deltas per second; None or 0 means as fast as possible.
    """

    def __init__(self, rate: float | None) -> None:
        self._gap = 1 / rate if rate else 0.0
        self._due = 0.0

    def delay(self, now: float) -> float:
        """Take the next delta of the schedule; return the seconds from `now` until it is due."""
        if self._due < now - LATEST:
            self._due = now
        delay = max(0.0, self._due - now)
        self._due += self._gap
        return delay

    async def wait_due(self, hurry: asyncio.Event) -> None:
        """Wait until the next delta is due, or `hurry` is set.

        Args:
            hurry: ends the wait.
        """
        if not self._gap:
            return
        delay = self.delay(asyncio.get_running_loop().time())
        if delay > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await hurry.wait()
