"""What happens to a consumer that fell behind: its lag + its limits → a decision (SPEC §6).

A decision is made when a consumer could not take events for a while, never while it replays. `block` needs no decision
here: its consumers get everything, and `Stream.has_room` tells producers when to wait.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from deltawire.protocol.messages import Policy


class PolicyAction(Enum):
    """What to do with a consumer's backlog."""

    SEND = auto()
    FOLD = auto()
    SKIP = auto()
    DISCONNECT = auto()


class Lag(NamedTuple):
    """How far a consumer is behind.

    Attributes:
        cursor: the last seq it got.
        head: the newest seq.
        judged: the head at the last decision; events since then are new to it.
        waiting: events up to `judged` that it has yet to get.
        buffer: its limit, in events.
        fits_newest: the first seq from which everything up to the head fits its byte limit.
        fits_oldest: the last seq up to which everything after the cursor fits its byte limit, skipped events aside.
    """

    cursor: int
    head: int
    judged: int
    waiting: int
    buffer: int
    fits_newest: int
    fits_oldest: int

    @property
    def is_over(self) -> bool:
        """Whether a limit is exceeded."""
        return self.head - self.cursor > self.buffer or self.fits_oldest < self.head


class Decision(NamedTuple):
    """An action; `SKIP` skips the deltas of `first … last`."""

    action: PolicyAction
    first: int = 0
    last: int = 0


SEND = Decision(PolicyAction.SEND)


def decide(policy: Policy, lag: Lag) -> Decision:
    """Decide what to do with a consumer's backlog.

    Args:
        policy: the consumer's.
        lag: how far it is behind.
    """
    if not lag.is_over:
        return SEND
    match policy:
        case Policy.COALESCE:
            return Decision(PolicyAction.FOLD)
        case Policy.BLOCK:
            return SEND
        case Policy.DISCONNECT:
            return Decision(PolicyAction.DISCONNECT)
        case Policy.DROP_OLDEST:
            keep_from = max(lag.head - lag.buffer + 1, lag.fits_newest)
            return _skip(lag.cursor + 1, keep_from - 1)
        case Policy.DROP_NEWEST:
            room = max(lag.buffer - lag.waiting, 0)
            keep_to = max(lag.judged, min(lag.judged + room, lag.fits_oldest))
            return _skip(keep_to + 1, lag.head)


def _skip(first: int, last: int) -> Decision:
    return Decision(PolicyAction.SKIP, first, last) if first <= last else SEND
