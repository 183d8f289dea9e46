"""The workers as their supervisor sees them: who runs, who is due to start, when to give up on one. Pure."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

FIRST_PAUSE: Final = 0.25
"""Seconds until a worker is started again that died twice in a row. After its first death it is started at once."""

LONGEST_PAUSE: Final = 10.0

PROVEN_AFTER: Final = 60.0
"""Seconds after which a worker that runs has shown that it can: its next death is a first one again."""

HUNG_AFTER: Final = 30.0
"""Seconds without a beat after which a worker is taken for hung, and killed: what a watchdog of systemd waits here."""


class State(Enum):
    """Of a worker."""

    ABSENT = auto()
    STARTING = auto()
    READY = auto()
    LEAVING = auto()


class Place:
    """The place of one worker, in which one process after the other may be.

    Args:
        worker: its number.

    Attributes:
        state: of the process in it.
        restarts: how often a process died in it, and another one took its place.
        due_at: monotonic seconds when the next process is to be started, if none runs.
    """

    def __init__(self, worker: int) -> None:
        self.worker = worker
        self.state = State.ABSENT
        self.restarts = 0
        self.due_at = 0.0
        self._deaths = 0  # in a row
        self._ready_at = 0.0
        self._beat_at = 0.0
        self._is_given_up = False

    def started(self) -> None:
        """A process was started."""
        self.state = State.STARTING
        self._is_given_up = False

    def is_ready(self, now: float) -> None:
        """Its process serves."""
        self.state = State.READY
        self._ready_at = self._beat_at = now

    def beat(self, now: float) -> None:
        """Its process has shown that it runs."""
        self._beat_at = now

    def is_hung(self, now: float) -> bool:
        """Whether its process has not shown for long that it runs; to start may take longer, and block."""
        is_watched = self.state in (State.READY, State.LEAVING) and not self._is_given_up
        return is_watched and now - self._beat_at >= HUNG_AFTER

    def given_up(self) -> None:
        """Its process is killed, which takes a moment."""
        self._is_given_up = True

    def leaves(self) -> None:
        """Its process was asked to make room for the next one."""
        self.state = State.LEAVING

    def left(self, now: float) -> None:
        """Its process ended as it was asked to; the next one is due."""
        self.state = State.ABSENT
        self.due_at = now

    def died(self, now: float) -> None:
        """Its process died; the next one is due, later each time."""
        if self.state is State.READY and now - self._ready_at >= PROVEN_AFTER:
            self._deaths = 0
        self.due_at = now + (min(FIRST_PAUSE * 2 ** (self._deaths - 1), LONGEST_PAUSE) if self._deaths else 0.0)
        self._deaths += 1
        self.restarts += 1
        self.state = State.ABSENT

    def is_due(self, now: float) -> bool:
        """Whether a process is to be started in it."""
        return self.state is State.ABSENT and now >= self.due_at
