"""How long to wait before asking again, and when to give up: pure, with the clock and the dice as arguments.

Not a library's: what is retried is not a call but a connection, which may live for hours in between. A run of failures
begins with the first one and ends as soon as something is delivered, where `stamina` and `tenacity` count attempts and
seconds from the beginning of a call; and they sleep by themselves.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

_MAX_DOUBLINGS = 32  # far past any `longest`; keeps the power of two small when retrying for ever


class Backoff(Struct, frozen=True, kw_only=True):
    """Waits that double from `initial` to `longest` seconds, each shortened at random by up to nine tenths.

    The dice keep clients that lost the same gateway from coming back all at once: the first of them comes at once, the
    last one half a second later.
    """

    initial: float = 0.5
    longest: float = 5.0

    def delay(self, attempt: int, chance: float) -> float:
        """Seconds to wait.

        Args:
            attempt: how many waits came before this one.
            chance: a random number from 0 to 1.
        """
        return min(self.longest, self.initial * 2.0 ** min(attempt, _MAX_DOUBLINGS)) * (1 - 0.9 * chance)


DEFAULT_BACKOFF: Final = Backoff()
"""A gateway that restarts in a second is found again in one; one that is away for long is asked every few seconds."""


class Retries:
    """One run of failures, from the first one to the next progress.

    Args:
        backoff: how long the waits are.
        retry_for: seconds a run may last; None never gives up, 0 never retries.
    """

    def __init__(self, backoff: Backoff, retry_for: float | None) -> None:
        self._backoff = backoff
        self._retry_for = retry_for
        self._since: float | None = None
        self._attempts = 0

    def wait_after_failure(self, now: float, chance: float, told: float = 0.0) -> float | None:
        """Seconds to wait after a failure; None to give up.

        The last wait ends when the run's time does, so that there is one attempt at its very end; not so where the
        gateway told to stay away for longer.

        Args:
            now: seconds on any steady clock.
            chance: a random number from 0 to 1.
            told: seconds the gateway asked for. They are waited whole, and up to half of them more.
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
        """Something was delivered: the next failure is the first of a new run."""
        self._since = None
        self._attempts = 0
