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


class Leases:
    """The messages in progress on one stream, by the producer that began them."""

    __slots__ = ("_deadlines", "_open")

    def __init__(self) -> None:
        self._open: dict[str, str | None] = {}  # message id → producer id
        self._deadlines: dict[str | None, float] = {}  # lost producer → when its lease is over

    def begin(self, message_id: str, producer_id: str | None) -> None:
        """A producer began a message."""
        self._open[message_id] = producer_id
        if len(self._open) > MAX_OPEN:
            del self._open[next(iter(self._open))]

    def end(self, message_id: str) -> None:
        """A message has ended, whoever ended it."""
        self._open.pop(message_id, None)

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
            del self._open[message]
        return lost

    @property
    def is_running(self) -> bool:
        """Whether a lease is running."""
        return bool(self._deadlines)
