"""A rate limit: so many a second, some more at once. Pure; time is an argument."""

from __future__ import annotations


class TokenBucket:
    """Holds tokens, refilled at a steady rate.

    Args:
        rate: tokens a second.
        burst: tokens it holds at most, and has at first.
        now: monotonic seconds.
    """

    __slots__ = ("_burst", "_rate", "_tokens", "_updated_at")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._updated_at = now

    def take(self, now: float) -> bool:
        """Take one token; False when there is none."""
        self._tokens = min(self._burst, self._tokens + (now - self._updated_at) * self._rate)
        self._updated_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
