"""Rate limits: a number per second, and a burst. Pure; time is an argument."""

from __future__ import annotations

from collections.abc import Hashable

PURGED_AT_ONCE = 2
"""Keys checked for removal with each accepted one: more than one, so that a table of unused keys empties."""


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

    def take(self, now: float, tokens: int = 1) -> bool:
        """Take tokens; return False, and take none, if there are too few."""
        self._tokens = min(self._burst, self._tokens + (now - self._updated_at) * self._rate)
        self._updated_at = now
        if self._tokens < tokens:
            return False
        self._tokens -= tokens
        return True


class RateTable:
    """A bucket for each of many keys, in bounded memory: one number a key, and none for a key whose bucket is full.

    Args:
        rate: takes per second; 0 is no limit.
        burst: takes at once.
        capacity: keys remembered; beyond it, the key taken longest ago is forgotten and counts as new.

    Source: the generic cell rate algorithm (ITU-T I.371), which keeps the time when the bucket will be full again.
    """

    __slots__ = ("_capacity", "_full_at", "_interval", "_tolerance")

    def __init__(self, rate: float, burst: int, capacity: int) -> None:
        self._interval = 1 / rate if rate else 0.0
        self._tolerance = burst * self._interval
        self._capacity = capacity
        self._full_at: dict[Hashable, float] = {}  # the key taken longest ago first

    def __len__(self) -> int:
        """Keys remembered."""
        return len(self._full_at)

    def take(self, key: Hashable, now: float) -> float:
        """Take one token of a key's bucket.

        Returns:
            0 if there was one; otherwise the seconds after which there will be one, and nothing was taken.
        """
        if not self._interval:
            return 0.0
        full_at = max(self._full_at.pop(key, now), now) + self._interval
        wait = full_at - self._tolerance - now
        if wait > 1e-9:  # tolerates the rounding of added intervals
            self._full_at[key] = full_at - self._interval
            return wait
        self._full_at[key] = full_at
        self._purge(now)
        return 0.0

    def _purge(self, now: float) -> None:
        for _ in range(PURGED_AT_ONCE):
            oldest = next(iter(self._full_at))
            if self._full_at[oldest] > now and len(self._full_at) <= self._capacity:
                return
            del self._full_at[oldest]
            if not self._full_at:
                return
