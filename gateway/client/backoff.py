"""How long to wait before reconnecting, and when to give up: pure; the clock and random numbers are arguments.

No retry library fits: they retry calls, while this retries a connection that may live for hours in between. A run of
failures begins with the first failure and ends as soon as something is delivered; `stamina` and `tenacity` count
attempts and seconds from the start of a call, and they sleep themselves.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

_MAX_DOUBLINGS = 32  # far beyond any `longest`; keeps the power of two small in endless retries


class Backoff(Struct, frozen=True, kw_only=True):
    """Waits that double from `initial` to `longest` seconds, each shortened at random by up to nine tenths.

    Randomness keeps clients that lost the same gateway from reconnecting all at once: the first reconnects almost at
    once, the last half a second later.
    """

    initial: float = 0.5
    longest: float = 5.0

    def delay(self, attempt: int, chance: float) -> float:
        """Seconds to wait.

        Args:
            attempt: number of waits before this one.
            chance: a random number from 0 to 1.
        """
        return min(self.longest, self.initial * 2.0 ** min(attempt, _MAX_DOUBLINGS)) * (1 - 0.9 * chance)


DEFAULT_BACKOFF: Final = Backoff()
"""Clients find a gateway that restarts in a second within a second, and try one that stays away every few seconds."""


class Retries:
    """One run of failures, from the first failure to the next progress.

    Args:
        backoff: the lengths of the waits.
        retry_for: maximum seconds of a run; None never gives up, 0 never retries.
    """

    def __init__(self, backoff: Backoff, retry_for: float | None) -> None:
        self._backoff = backoff
        self._retry_for = retry_for
        self._since: float | None = None
        self._attempts = 0

    def wait_after_failure(self, now: float, chance: float, told: float = 0.0) -> float | None:
        """Seconds to wait after a failure; None to give up.

        The last wait ends exactly when the run's time ends, so that one attempt follows. If the gateway asked for a
        longer wait than the time left, there is no such attempt.

        Args:
            now: seconds on any steady clock.
            chance: a random number from 0 to 1.
            told: seconds the gateway asked for (`Retry-After`); waited in full, plus up to half of it.
        """
        if self._since is None:
            self._since = now
        delay = max(self._backoff.delay(self._attempts, chance), told * (1 + chance / 2))
        self._attempts += 1
        if self._retry_for is None:
            return delay
        left = self._since + self._retry_for - now
        return max(min(delay, left), told) if left > 0 and left >= told else None

    def reset(self) -> None:
        """Note that something was delivered: the next failure begins a new run."""
        self._since = None
        self._attempts = 0
