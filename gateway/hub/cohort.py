"""A cohort: consumers of one view that stand at the head, and are given the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from deltawire.gateway.streams.subscription import Subscription
from deltawire.gateway.streams.view import View
from deltawire.protocol.codes import ProblemCode

COHORT_SIZE = 256
"""Consumers served in one go, a millisecond of writes: between cohorts other streams get their turn."""


class Outlet(Protocol):
    """Where a subscription's bytes go."""

    @property
    def subscription(self) -> Subscription:
        """What it reads."""

    def pump(self) -> None:
        """Take what there is, as far as it goes."""

    @property
    def write(self) -> Callable[[bytes], object]:
        """Accepts whole frames; its outlet may leave its cohort in doing so."""

    def write_failed(self) -> None:
        """`write` raised what is being handled."""

    def check_lag(self) -> object:
        """Its lag went over its limit while it accepted nothing."""

    def end(self, code: ProblemCode, message: str) -> None:
        """It can be served no more."""


class Cohort:
    """Consumers of one view that stand at the same position, the head of the last flush."""

    __slots__ = ("_bytes", "_events", "_members", "_settled", "_writes", "position", "view")

    def __init__(self, view: View, position: int) -> None:
        self.view = view
        self.position = position
        self._events = 0  # delivered to each member that was here from the first
        self._bytes = 0
        self._settled = (0, 0)  # of these, what the ledger has for all members
        self._members: dict[Outlet, tuple[int, int]] = {}  # with what was delivered before they came
        self._writes: tuple[Callable[[bytes], object], ...] | None = None

    def __len__(self) -> int:
        return len(self._members)

    def add(self, outlet: Outlet) -> None:
        """Take in a consumer that stands at the cohort's position."""
        self.record_deliveries()
        self._members[outlet] = (self._events, self._bytes)
        self._writes = None

    def remove(self, outlet: Outlet) -> None:
        """Let a consumer go, its cursor where the cohort stands."""
        if outlet in self._members:
            self.record_deliveries()
            events, size = self._members.pop(outlet)
            self._writes = None
            outlet.subscription.cursor = self.position
            outlet.subscription.count_delivered(self._events - events, self._bytes - size)

    def record_deliveries(self) -> None:
        """Have the ledger account for what was delivered while the members were these."""
        events, size = self._settled
        ledger = self.view.log.ledger
        ledger.delivered += (self._events - events) * len(self._members)
        ledger.delivered_bytes += (self._bytes - size) * len(self._members)
        self._settled = (self._events, self._bytes)

    def deliver(self) -> bool:
        """Bring every member to the head, a chunk at a time; members whose socket fills leave on the way.

        Returns:
            Whether it could: not when more than the retention came in one turn.
        """
        log = self.view.log
        while self.position < log.head and self._members:
            if self.position + 1 < log.floor:
                return False
            batch = self.view.raw(self.position, log.head)
            self.position = batch.last
            data = batch.data
            if not data:
                continue
            if self._writes is None:
                self._writes = tuple(outlet.write for outlet in self._members)
            self._events += batch.events
            self._bytes += len(data)
            for write in self._writes:
                try:
                    write(data)
                except Exception:  # noqa: BLE001 - the others are to have it all the same
                    self._fail(write)
        return True

    def _fail(self, write: Callable[[bytes], object]) -> None:
        """A member's socket did not accept: it has just failed, and nobody knows yet, or the gateway is at fault."""
        for outlet in tuple(self._members):
            if outlet.write == write:
                outlet.write_failed()

    def dissolve(self) -> list[Outlet]:
        """Let everybody go."""
        members = list(self._members)
        for outlet in members:
            self.remove(outlet)
        return members
