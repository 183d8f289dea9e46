"""Rate limits of one sender, of each of many, and of the frames of one connection. Pure; time is an argument.

A rate is a number per second, and a burst.
"""

from __future__ import annotations

from collections.abc import Hashable
from sys import maxsize
from typing import Final

PURGED_AT_ONCE: Final = 2
"""Keys checked for removal with each accepted one: more than one, so that a table of unused keys empties."""

JUDGED_FRAMES: Final = 256
"""Frames after which messages are judged: so rarely that it adds nothing to the cost of an event."""

MIN_BURST: Final = 4096
"""Messages a producer may send at once, whatever the rate: after a lost connection it sends everything that was in
flight again at once. If that were too much, it would be refused again and again."""

SCRAP: Final = 1024
"""Bytes under which a frame that ends no message is a scrap, and counts like a ping. Libraries that fragment a long
message send longer fragments; short ones cost as much as events, and a message may have any number of them."""

_LAST_FRAGMENT: Final = 0x80


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

    def give_back(self, key: Hashable, now: float) -> None:
        """Put a token back that was taken."""
        full_at = self._full_at.get(key, 0.0) - self._interval
        if full_at > now:
            self._full_at[key] = full_at
        else:
            self._full_at.pop(key, None)

    def _purge(self, now: float) -> None:
        for _ in range(PURGED_AT_ONCE):
            oldest = next(iter(self._full_at))
            if self._full_at[oldest] > now and len(self._full_at) <= self._capacity:
                return
            del self._full_at[oldest]
            if not self._full_at:
                return


class FloodGuard:
    """Counts the frames of one connection against its rates.

    Args:
        message_rate: messages a second; 0 is no limit.
        control_rate: pings, pongs and scraps of messages a second.
        now: monotonic seconds.
    """

    __slots__ = ("_control_rate", "_controls", "_frames", "_judged_frames", "_message_rate", "_messages")

    def __init__(self, message_rate: float, control_rate: float, now: float) -> None:
        self._message_rate = message_rate
        self._messages = TokenBucket(message_rate, max(message_rate, MIN_BURST), now)
        self._frames = 0  # since messages were last judged
        self._judged_frames = JUDGED_FRAMES if message_rate else maxsize
        self._control_rate = control_rate
        self._controls = TokenBucket(control_rate, max(2 * control_rate, 1), now)

    def judge_messages(self, count: int, now: float) -> str:
        """Count messages that came at once, or events in a message; return an error message, or an empty one."""
        self._frames += count
        if self._frames < self._judged_frames:
            return ""
        frames, self._frames = self._frames, 0
        if self._messages.take(now, frames):
            return ""
        return f"more than {self._message_rate:g} messages a second (message_rate): send fewer"

    def judge_other(self, frame: bytes, now: float) -> str:
        """Count a frame that is no whole message; return an error message, or an empty one."""
        if len(frame) >= SCRAP or frame[0] == _LAST_FRAGMENT or self._controls.take(now):
            return ""
        return f"more than {self._control_rate:g} pings, pongs and scraps of messages a second (control_rate)"
