"""Check deadlines several times a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Protocol

from deltawire.gateway.logs import get_logger
from deltawire.gateway.metrics.tally import Tally

MAX_SWEEP_INTERVAL = 0.5
"""Seconds between sweeps at most: timeouts are seconds, so they are met within a few percent."""

log = get_logger()


class Swept(Protocol):
    """Something that has deadlines."""

    def sweep(self, now: float) -> None:
        """Act on the deadlines that have passed."""


class Deadlines:
    """The deadlines of one hub.

    Args:
        timeouts: seconds; the shortest decides how often to check.
        tally: counts lateness and failures.
        tidy: called with monotonic seconds after each sweep.
    """

    def __init__(self, timeouts: Iterable[float], tally: Tally, tidy: Callable[[float], None]) -> None:
        self._interval = min(MAX_SWEEP_INTERVAL, *(timeout / 4 for timeout in timeouts))
        self._tally = tally
        self._tidy = tidy
        self._swept: dict[Swept, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._has_let_pass = False  # whether the last sweep was skipped

    def start(self) -> None:
        """Begin to sweep, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._sweep_later()

    def stop(self) -> None:
        """Stop sweeping."""
        if self._timer is not None:
            self._timer.cancel()

    def add(self, swept: Swept) -> None:
        """Call `sweep` several times a second."""
        self._swept[swept] = None

    def remove(self, swept: Swept) -> None:
        """No longer call `sweep`."""
        self._swept.pop(swept, None)

    def _sweep_later(self) -> None:
        self._due = monotonic() + self._interval
        self._timer = self._loop.call_later(self._interval, self._sweep)

    def _is_too_late(self, lag: float) -> bool:
        """Whether to skip one sweep, as the loop was blocked: what peers sent meanwhile has not been read yet.

        Peers would seem to be late although they answered. Two sweeps in a row are never skipped; otherwise a loop that
        is always late would never check a deadline.
        """
        self._has_let_pass = lag > self._interval and not self._has_let_pass
        if self._has_let_pass:
            log.warning("loop.blocked", seconds=round(lag, 3))
        return self._has_let_pass

    def _sweep(self) -> None:
        now = self._loop.time()
        lag = max(0.0, monotonic() - self._due)
        self._tally.loop_lag.observe(lag)
        self._sweep_later()
        if self._is_too_late(lag):
            return
        for swept in tuple(self._swept):
            try:
                swept.sweep(now)
            except Exception:  # one peer's fault is not another's
                self._tally.faults += 1
                log.exception("sweep.failed", peer=type(swept).__name__)
        try:
            self._tidy(now)
        except Exception:
            self._tally.faults += 1
            log.exception("sweep.failed", peer="streams")
