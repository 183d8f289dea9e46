"""The consumers of a stream that producers wait for: those of policy `block`."""

from __future__ import annotations

from deltawire.gateway.streams.log import Log
from deltawire.gateway.streams.subscription import Subscription
from deltawire.protocol.events import MAX_SEQ


class Blocking:
    """The `block` consumers of one stream, and the room they leave. Those that still replay are not waited for.

    Args:
        log: what they read.

    Attributes:
        subscriptions: who they are.
    """

    __slots__ = ("_full_at", "_log", "_slowest", "subscriptions")

    def __init__(self, log: Log) -> None:
        self.subscriptions: dict[Subscription, None] = {}
        self._log = log
        self._slowest: int | None = None  # their least cursor; None when it has to be looked for
        self._full_at = MAX_SEQ  # the head at which the first of their buffers is full

    def add(self, subscription: Subscription) -> None:
        """Wait for one more."""
        self.subscriptions[subscription] = None
        self.progressed()

    def remove(self, subscription: Subscription) -> None:
        """Wait for one no more, if it was waited for."""
        self.subscriptions.pop(subscription, None)
        self.progressed()

    def progressed(self) -> None:
        """One of them moved: the room is measured anew when it is next asked for."""
        self._slowest = None

    def has_room(self, limit: int) -> bool:
        """Whether no buffer is full.

        Args:
            limit: bytes a buffer may hold; how many events it may, the subscriptions know.
        """
        if self._slowest is None:
            waited_for = [sub for sub in self.subscriptions if not sub.is_replaying]
            self._slowest = min((sub.cursor for sub in waited_for), default=MAX_SEQ)
            self._full_at = min((sub.cursor + sub.buffer for sub in waited_for), default=MAX_SEQ)
        head = self._log.head
        return self._slowest >= head or (head < self._full_at and self._log.size(self._slowest, head) < limit)
