"""The consumers of a stream that producers wait for: those of policy `block`."""

from __future__ import annotations

from deltawire.gateway.streams.log import Log
from deltawire.gateway.streams.subscription import Subscription
from deltawire.protocol.events import MAX_SEQ


class Blocking:
    """The `block` consumers of one stream, and whether their buffers have room. Replaying ones are not waited for.

    Args:
        log: the log they read.

    Attributes:
        subscriptions: these consumers.
    """

    __slots__ = ("_full_at", "_log", "_slowest", "subscriptions")

    def __init__(self, log: Log) -> None:
        self.subscriptions: dict[Subscription, None] = {}
        self._log = log
        self._slowest: int | None = None  # their lowest cursor; None when it must be recomputed
        self._full_at = MAX_SEQ  # the head at which the first of their buffers becomes full

    def add(self, subscription: Subscription) -> None:
        """Make producers wait for a consumer."""
        self.subscriptions[subscription] = None
        self.progressed()

    def remove(self, subscription: Subscription) -> None:
        """Stop waiting for a consumer, if producers wait for it."""
        self.subscriptions.pop(subscription, None)
        self.progressed()

    def progressed(self) -> None:
        """Note that a consumer moved; the next `has_room` measures again."""
        self._slowest = None

    def has_room(self, limit: int) -> bool:
        """Whether no buffer is full.

        Args:
            limit: bytes a buffer may hold; its limit in events is the subscription's `buffer`.
        """
        if self._slowest is None:
            waited_for = [sub for sub in self.subscriptions if not sub.is_replaying]
            self._slowest = min((sub.cursor for sub in waited_for), default=MAX_SEQ)
            self._full_at = min((sub.cursor + sub.buffer for sub in waited_for), default=MAX_SEQ)
        head = self._log.head
        return self._slowest >= head or (head < self._full_at and self._log.size(self._slowest, head) < limit)
