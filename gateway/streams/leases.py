"""Messages in progress, and how long a lost producer has to come back and finish them (SPEC §7.5).

    message_start ──► open ──► message_stop
                       │  ▲
      its producer lost│  │one with the same id is back
                       ▼  │
                     leased ──► expired: the gateway ends the message itself

A producer without an id counts as the same as every other one without.
"""

from __future__ import annotations

MAX_OPEN = 64
"""Messages a stream may have in progress; the one begun first is forgotten, as nobody interleaves that many."""

MAX_OPEN_BYTES = 16 * 1024
"""Bytes their ids may have together: 64 of 256 characters, where a message's id could be as long as a message."""

OPEN_COST = 128
"""Bytes a message in progress costs beside its id's characters (CPython 3.11)."""


class Leases:
    """The messages in progress on one stream, by the producer that began them."""

    __slots__ = ("_deadlines", "_open", "bytes")

    def __init__(self) -> None:
        self._open: dict[str, str | None] = {}  # message id → producer id
        self._deadlines: dict[str | None, float] = {}  # lost producer → when its lease is over
        self.bytes = 0  # what the messages in progress cost

    def begin(self, message_id: str, producer_id: str | None) -> None:
        """A producer began a message; those begun first are forgotten where it is one too many, or too long."""
        self.end(message_id)
        self._open[message_id] = producer_id
        self.bytes += _cost(message_id)
        while len(self._open) > MAX_OPEN or self.bytes > MAX_OPEN_BYTES:
            self.end(next(iter(self._open)))

    def end(self, message_id: str) -> None:
        """A message has ended, whoever ended it."""
        if message_id in self._open:
            del self._open[message_id]
            self.bytes -= _cost(message_id)

    def lost(self, producer_id: str | None, deadline: float) -> bool:
        """The last connection of a producer is gone.

        Args:
            producer_id: its id, if it had one.
            deadline: monotonic seconds when its lease is over.

        Returns:
            Whether it left a message in progress, so that there is a lease.
        """
        if producer_id not in self._open.values():
            return False
        self._deadlines.setdefault(producer_id, deadline)  # one that was lost before gains nothing
        return True

    def returned(self, producer_id: str | None) -> None:
        """A producer with this id connected: its messages are its own again."""
        self._deadlines.pop(producer_id, None)

    def expire(self, now: float) -> list[str]:
        """The messages whose lease is over, which nobody will finish any more."""
        over = {producer for producer, deadline in self._deadlines.items() if deadline <= now}
        for producer in over:
            del self._deadlines[producer]
        lost = [message for message, producer in self._open.items() if producer in over]
        for message in lost:
            self.end(message)
        return lost

    @property
    def is_running(self) -> bool:
        """Whether a lease is running."""
        return bool(self._deadlines)


def _cost(message_id: str) -> int:
    return len(message_id.encode()) + OPEN_COST
