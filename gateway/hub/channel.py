"""A channel: the event-loop side of one stream, where appended events meet consumers and waiting producers.

A consumer is in one of three places:

- in a *cohort*: it is at the head and its socket accepts; all members of a cohort get the same batch of bytes, read
  once, and share one cursor
- among the *pumped*: it reads by itself (replaying, folding at an interval, `block`, or not on a socket)
- in neither: its socket accepts nothing now; nothing is done for the consumer until it does
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import chain, count
from math import inf
from time import monotonic
from typing import Protocol, TypeAlias

from deltawire.gateway.hub.cohort import COHORT_SIZE, Cohort, Outlet
from deltawire.gateway.hub.latency import LatencyMeter
from deltawire.gateway.hub.presence import NORMAL
from deltawire.gateway.streams.producers import Writer
from deltawire.gateway.streams.stream import Stream
from deltawire.gateway.streams.view import View
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.messages import Ack, Signal


class RoomWaiter(Protocol):
    """Something that waits until the stream has room."""

    def on_room(self) -> None:
        """There is room again."""


Told: TypeAlias = Callable[[int | None], None]
"""Is told how many producers got a signal; None if nobody can tell."""


class Holder(Protocol):
    """A connection or a reader that uses a stream."""

    def end(self, code: ProblemCode, message: str, /) -> None:
        """Say why, and leave."""


class Inlet(RoomWaiter, Protocol):
    """A producer's connection."""

    @property
    def producer_id(self) -> str | None:
        """Its producer id, if it has one."""

    def released(self, writer: Writer, seq: int, why: str) -> bool:
        """Its oldest event that was held back is in the log, up to `seq`; return whether the writer is its own.

        Args:
            writer: of the event.
            seq: of the last event that it became, or one before.
            why: it was dropped; empty if it was not.
        """

    @property
    def audience(self) -> int:
        """How many consumers it was last told of."""

    def acknowledge(self) -> None:
        """Acknowledge what was appended: it is delivered to every socket that accepts."""

    def take_ack(self) -> Ack:
        """Return the ack of everything accepted so far, to be sent later."""

    def send_ack(self, ack: Ack) -> None:
        """Tell the producer what is committed and delivered."""

    @property
    def channel(self) -> Channel:
        """Where it publishes."""

    def acknowledge_if_due(self, now: float) -> bool:
        """Send an ack that was withheld, if it has waited long enough; return whether none is left to send."""

    def signal(self, signal: Signal) -> bool:
        """Pass on a consumer's signal; return whether it was passed on."""

    def tell_audience(self, consumers: int) -> None:
        """Tell the producer how many consumers follow the stream now."""

    def fence_if_older(self) -> None:
        """End if a newer generation of this producer has connected."""


class Channel:
    """One stream's consumers and producers on the event loop."""

    __slots__ = (
        "_cohorts",
        "_pumped",
        "_readers",
        "_round",
        "_trips",
        "_turn",
        "_waiting",
        "acking",
        "acks",
        "attached",
        "audience",
        "audience_told_at",
        "forward",
        "inlets",
        "is_dirty",
        "is_served",
        "is_telling_later",
        "latency",
        "rank",
        "rest_until",
        "spent",
        "stream",
        "then",
        "touched_at",
    )

    def __init__(self, stream: Stream, number: int = 0, rank: int = NORMAL) -> None:
        self.stream = stream
        self.rank = rank  # of its class
        self.latency = LatencyMeter(stream, number)
        self.is_dirty = False  # it must be flushed
        self.is_served = False  # a round is under way, or interrupted
        self.touched_at = 0.0  # when it last became dirty
        self.spent = 0.0  # seconds on this round so far
        self.rest_until = 0.0  # no round before this
        self.audience = 0  # consumers, as all producers were told; -1 when a producer has come since
        self.audience_told_at = 0.0
        self.is_telling_later = False
        self.attached: dict[Holder, None] = {}  # connections and readers that hold it
        self.inlets: dict[Inlet, None] = {}
        self.forward: Callable[[Signal, Told], None] | None = None  # where the producers of a mirror are
        self._cohorts: dict[View, list[Cohort]] = {}
        self._round: deque[Cohort | Outlet] = deque()  # yet to be served in this round
        self._pumped: dict[Outlet, None] = {}
        self._readers: tuple[Cohort | Outlet, ...] | None = ()  # all cohorts and pumped; None when it must be rebuilt
        self._waiting: dict[RoomWaiter, None] = {}
        self.acking: dict[Inlet, None] = {}  # to be acked when their events are delivered
        self.acks: list[tuple[Inlet, Ack]] = []  # of committed events, to be sent when these are delivered
        self.then: list[Callable[[], None]] = []  # to be called after that
        self._trips: list[tuple[int, int, Outlet]] = []  # heap of (head at which the limit is exceeded, …)
        self._turn = count()

    # Consumers

    def join(self, outlet: Outlet) -> Cohort | None:
        """Move a consumer that is at the head into a cohort of its view; None if the cohort is elsewhere."""
        subscription = outlet.subscription
        cohorts = self._cohorts.setdefault(subscription.view, [])
        cohort = next((cohort for cohort in cohorts if len(cohort) < COHORT_SIZE), None)
        if cohort is None:
            cohort = Cohort(subscription.view, subscription.cursor)
            cohorts.append(cohort)
            self._readers = None
        elif not cohort:
            cohort.position = subscription.cursor
        else:
            cohort.deliver()
            if cohort.position != subscription.cursor:  # the cohort was overrun and is about to be dissolved
                return None
        self.let_rest(outlet)
        cohort.add(outlet)
        return cohort

    def pump_each_time(self, outlet: Outlet) -> None:
        """Pump a consumer whenever something is appended."""
        self._pumped[outlet] = None
        self._readers = None

    def let_rest(self, outlet: Outlet) -> None:
        """Stop pumping a consumer until it asks for it again."""
        if outlet in self._pumped:
            del self._pumped[outlet]
            self._readers = None

    def watch_lag(self, outlet: Outlet) -> None:
        """Call `check_lag` when a consumer at rest exceeds its buffer."""
        subscription = outlet.subscription
        heappush(self._trips, (subscription.cursor + subscription.buffer, next(self._turn), outlet))

    def leave(self, outlet: Outlet, now: float) -> None:
        """Detach a consumer that has left its cohort; doing it twice changes nothing."""
        self.let_rest(outlet)
        if self._trips:
            self._trips = [trip for trip in self._trips if trip[2] is not outlet]
            heapify(self._trips)
        subscription = outlet.subscription
        self.stream.unsubscribe(subscription, now)
        if not subscription.view.readers and subscription.view in self._cohorts:
            del self._cohorts[subscription.view]
            self._readers = None

    def record_deliveries(self) -> None:
        """Count everything delivered so far on the ledger."""
        for cohort in chain.from_iterable(self._cohorts.values()):
            cohort.record_deliveries()

    # Producers

    def add_inlet(self, inlet: Inlet) -> None:
        """Add a producer; it is told of the audience after the next flush."""
        self.inlets[inlet] = None
        self.audience = -1

    def signal(self, signal: Signal, told: Told) -> None:
        """Pass a signal on to the producers, and tell the number of those that got it, at once or a little later."""
        if self.forward is not None:
            self.forward(signal, told)
        else:
            told(sum(inlet.signal(signal) for inlet in tuple(self.inlets)))

    def wait_for_room(self, waiting: RoomWaiter) -> None:
        """Call `on_room` when there is room."""
        self._waiting[waiting] = None
        self.stream.recover()

    def stop_waiting(self, waiting: RoomWaiter) -> None:
        """No longer call `on_room`."""
        self._waiting.pop(waiting, None)

    def acknowledge_later(self, inlet: Inlet) -> None:
        """Call `acknowledge` at the end of the flush."""
        self.acking[inlet] = None

    def forget_ack(self, inlet: Inlet) -> bool:
        """Cancel `acknowledge_later`; return whether an ack was due."""
        if inlet not in self.acking:
            return False
        del self.acking[inlet]
        return True

    def remove_inlet(self, inlet: Inlet) -> None:
        """Forget a producer."""
        self.stop_waiting(inlet)
        self.inlets.pop(inlet, None)
        self.forget_ack(inlet)

    # Flushing

    def flush(self, until: float = inf) -> bool:
        """Deliver what was appended, then acknowledge it, then let waiting producers continue.

        Args:
            until: monotonic seconds at which to leave the rest of the consumers to the next call.

        Returns:
            Whether every consumer was served.
        """
        try:
            is_complete = self.deliver(until)
        finally:  # what was appended stays so, even if a delivery failed
            if self.acking and self.stream.staging is None:
                acking, self.acking = self.acking, {}
                for inlet in acking:
                    inlet.acknowledge()
            if self.acks or self.then:
                self._conclude_commits()
        if self._waiting and is_complete:
            self.release_waiting()
        return is_complete

    def take_acks(self) -> list[tuple[Inlet, Ack]]:
        """Return the acks that are due, for the commit of the events they are about."""
        acking, self.acking = self.acking, {}
        return [(inlet, inlet.take_ack()) for inlet in acking]

    def _conclude_commits(self) -> None:
        acks, self.acks = self.acks, []
        then, self.then = self.then, []
        for inlet, ack in acks:
            if inlet in self.inlets:
                inlet.send_ack(ack)
        for call in then:
            call()

    def deliver(self, until: float = inf) -> bool:
        """Give every consumer that accepts as much as it accepts; arguments and result as for `flush`."""
        round_ = self._round
        if not round_:
            round_.extend(self._readers if self._readers is not None else self._list_readers())
        while round_:
            reader = round_.popleft()
            if not isinstance(reader, Cohort):
                if reader in self._pumped:
                    reader.pump()
            elif not reader.deliver() or self.stream.end_reason is not None:
                self._dissolve(reader)
            if round_ and monotonic() >= until:
                return False
        if self._trips:
            self._check_lags()
        return True

    def _list_readers(self) -> tuple[Cohort | Outlet, ...]:
        for view, cohorts in tuple(self._cohorts.items()):
            if not all(cohorts):  # drop empty cohorts; `join` makes new ones
                cohorts[:] = filter(len, cohorts)
                if not cohorts:
                    del self._cohorts[view]
        self._readers = (*chain.from_iterable(self._cohorts.values()), *self._pumped)
        return self._readers

    def _dissolve(self, cohort: Cohort) -> None:
        """Pump the members of a cohort one by one: each must be told something different."""
        for outlet in cohort.dissolve():
            self.pump_each_time(outlet)
            self._round.append(outlet)

    def abandon(self) -> None:
        """End the consumers in cohorts after a failed flush: they would read the same again, and fail every flush."""
        self._round.clear()
        for cohort in tuple(chain.from_iterable(self._cohorts.values())):
            for outlet in cohort.dissolve():
                outlet.end(ProblemCode.GATEWAY_FAULT, "the gateway failed on this stream; it has been logged")

    def _check_lags(self) -> None:
        head = self.stream.log.head
        while self._trips and self._trips[0][0] < head:
            heappop(self._trips)[2].check_lag()

    def make_room(self) -> bool:
        """Give consumers what they accept; return whether there is room for an event then."""
        self.deliver()
        return self.stream.has_room

    def release_waiting(self) -> None:
        """Let producers continue while there is room, the one that waited longest first."""
        while self._waiting and (self.stream.has_room or self.stream.is_closed):
            waiting = next(iter(self._waiting))
            del self._waiting[waiting]
            waiting.on_room()

    @property
    def is_unused(self) -> bool:
        """Whether nobody uses the channel, so that it can be dropped."""
        return not self.attached and not self._waiting and not self.is_dirty
