"""What the producers of a stream wait for: its consumers of policy `block`, and its middleware."""

from __future__ import annotations

from deltawire.gateway.streams.log import Log
from deltawire.gateway.streams.subscription import Subscription
from deltawire.protocol.events import MAX_SEQ


class Blocking:
    """The `block` consumers of one stream, and whether their buffers have room. Replaying ones are not waited for.

    Middleware makes producers wait, too, while it has work for more than one turn of the loop.

    Args:
        log: the log they read.

    Attributes:
        subscriptions: these consumers.
        is_held: whether middleware makes producers wait.
        is_free: whether nothing could make producers wait.
    """

    __slots__ = ("_full_at", "_log", "_slowest", "is_free", "is_held", "subscriptions")

    def __init__(self, log: Log) -> None:
        self.subscriptions: dict[Subscription, None] = {}
        self.is_held = False
        self.is_free = True
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

    def hold(self, *, is_held: bool) -> None:
        """Make producers wait for middleware, or no longer."""
        self.is_held = is_held
        self.progressed()

    def progressed(self) -> None:
        """Note that a consumer moved; the next `has_room` measures again."""
        self._slowest = None
        self.is_free = not self.subscriptions and not self.is_held

    def has_room(self, limit: int) -> bool:
        """Whether no buffer is full, and middleware has no work.

        Args:
            limit: bytes a buffer may hold; its limit in events is the subscription's `buffer`.
        """
        if self.is_held:
            return False
        if self._slowest is None:
            waited_for = [sub for sub in self.subscriptions if not sub.is_replaying]
            self._slowest = min((sub.cursor for sub in waited_for), default=MAX_SEQ)
            self._full_at = min((sub.cursor + sub.buffer for sub in waited_for), default=MAX_SEQ)
        head = self._log.head
        return self._slowest >= head or (head < self._full_at and self._log.size(self._slowest, head) < limit)
