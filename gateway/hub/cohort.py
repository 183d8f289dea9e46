"""A cohort: consumers of one view that are at the head and get the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from deltawire.gateway.streams.subscription import Subscription
from deltawire.gateway.streams.view import View
from deltawire.protocol.codes import ProblemCode

COHORT_SIZE = 256
"""Consumers served without a break, a millisecond of writes: between cohorts other streams get their turn."""


class Outlet(Protocol):
    """Where a subscription's bytes go."""

    @property
    def subscription(self) -> Subscription:
        """What it reads."""

    def pump(self) -> None:
        """Read what there is and send it, as far as the socket accepts it."""

    @property
    def write(self) -> Callable[[bytes], object]:
        """Accepts whole frames; the outlet may leave its cohort during the call."""

    def write_failed(self) -> None:
        """`write` raised the exception that is being handled."""

    def check_lag(self) -> object:
        """Its lag exceeded its limit while it accepted nothing."""

    def end(self, code: ProblemCode, message: str) -> None:
        """Say why, and close: it can no longer be served."""


class Cohort:
    """Consumers of one view at the same position, the head of the last flush."""

    __slots__ = ("_bytes", "_events", "_members", "_settled", "_writes", "position", "view")

    def __init__(self, view: View, position: int) -> None:
        self.view = view
        self.position = position
        self._events = 0  # delivered to each member that was here from the start
        self._bytes = 0
        self._settled = (0, 0)  # events and bytes that the ledger has counted for all members
        self._members: dict[Outlet, tuple[int, int]] = {}  # → events and bytes delivered before it joined
        self._writes: tuple[Callable[[bytes], object], ...] | None = None

    def __len__(self) -> int:
        return len(self._members)

    def add(self, outlet: Outlet) -> None:
        """Add a consumer that is at the cohort's position."""
        self.record_deliveries()
        self._members[outlet] = (self._events, self._bytes)
        self._writes = None

    def __contains__(self, outlet: Outlet) -> bool:
        """Whether a consumer is a member; a cohort that is dissolved has none."""
        return outlet in self._members

    def remove(self, outlet: Outlet) -> None:
        """Remove a consumer, and set its cursor to the cohort's position."""
        if outlet in self._members:
            self.record_deliveries()
            events, size = self._members.pop(outlet)
            self._writes = None
            outlet.subscription.cursor = self.position
            outlet.subscription.count_delivered(self._events - events, self._bytes - size)

    def record_deliveries(self) -> None:
        """Count on the ledger what was delivered to the present members; called before they change."""
        events, size = self._settled
        ledger = self.view.log.ledger
        ledger.delivered += (self._events - events) * len(self._members)
        ledger.delivered_bytes += (self._bytes - size) * len(self._members)
        self._settled = (self._events, self._bytes)

    def deliver(self) -> bool:
        """Bring every member to the head, a chunk at a time; members whose socket fills leave on the way.

        Returns:
            Whether it could; False if more than the retention was appended in one turn.
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
                except Exception:  # noqa: BLE001 - the others must get it all the same
                    self._fail(write)
        return True

    def _fail(self, write: Callable[[bytes], object]) -> None:
        """Tell a member that its write raised: its socket has just failed unnoticed, or the gateway is at fault."""
        for outlet in tuple(self._members):
            if outlet.write == write:
                outlet.write_failed()

    def dissolve(self) -> list[Outlet]:
        """Remove and return all members."""
        members = list(self._members)
        for outlet in members:
            self.remove(outlet)
        return members
