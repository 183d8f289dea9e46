"""When to acknowledge: at once, unless the producer has shown that it does not wait for it.

An ack is a write of its own, which costs as much as a delivery to a consumer. A producer that goes on sending is served
as well by one for several reads. One that stands still until its ack comes must have it at once. Which of the two it
is shows when an ack is withheld: the first goes on meanwhile, the second does not.

    at once ── so many reads later ──► withheld ── it went on sending ──► withheld
       ▲                                   │
       └────── it stood still; next time after twice as many reads ──────┘

Pure; time is an argument.
"""

from __future__ import annotations

WITHHELD_FOR = 0.025
"""Seconds an ack is withheld at least before it is sent late; the timer that sends them doubles it at most."""

STEADY = WITHHELD_FOR / 2
"""Seconds between the first and the last read of a withheld ack that show that the producer went on: a window of
several messages that is sent at once takes far less."""

MAX_WITHHELD = 64
"""Events one ack may keep waiting: far fewer than any producer's window has."""

FIRST_READS = 16
"""Reads acknowledged at once before an ack is withheld for the first time."""

MAX_READS = 4096
"""The same after it did not work out again and again: a trial every few thousand reads costs nothing."""


class AckPacer:
    """Decides about the acks of one producer's connection."""

    __slots__ = ("_events", "_first_at", "_last_at", "_reads", "_reads_left")

    def __init__(self) -> None:
        self._reads = FIRST_READS
        self._reads_left = FIRST_READS  # that are acknowledged at once
        self._events = 0  # withheld
        self._first_at = 0.0
        self._last_at = 0.0

    @property
    def is_withholding(self) -> bool:
        """Whether an ack has yet to be sent."""
        return self._events > 0

    def withholds(self, events: int, now: float) -> bool:
        """So many events came in one read.

        Args:
            events: appended, at least one.
            now: monotonic seconds.

        Returns:
            Whether their ack can wait; not when it is to be sent with this read.
        """
        if self._reads_left:
            self._reads_left -= 1
            return False
        if not self._events:
            self._first_at = now
        self._last_at = now
        self._events += events
        return self._events < MAX_WITHHELD

    def is_due(self, now: float) -> bool:
        """Whether a withheld ack has waited long enough."""
        return now - self._first_at >= WITHHELD_FOR

    def sent(self) -> None:
        """An ack was sent, which settles everything withheld."""
        if not self._events:
            return
        if self._events >= MAX_WITHHELD or self._last_at - self._first_at >= STEADY:
            self._reads = FIRST_READS
        else:
            self._reads_left = self._reads
            self._reads = min(2 * self._reads, MAX_READS)
        self._events = 0
