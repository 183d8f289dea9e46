"""Events from producers to consumers: append, deliver, acknowledge; and messages to producers.

append ──► stream log ──► flush: consumers, then acks ──► audience
│
└── withheld acks: by a timer
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from deltawire.gateway.config import Settings
from deltawire.gateway.engines.engine import Elsewhere
from deltawire.gateway.hub.channel import Channel, Holder, Inlet
from deltawire.gateway.hub.clock import Clock
from deltawire.gateway.hub.flushing import FlushScheduler
from deltawire.gateway.hub.presence import Presence
from deltawire.gateway.logs import get_logger
from deltawire.gateway.metrics.tally import Tally
from deltawire.gateway.streams.ending import end_abandoned, end_lost
from deltawire.gateway.streams.log import Ledger
from deltawire.gateway.streams.manager import StreamManager
from deltawire.gateway.streams.pages import StoredPage
from deltawire.gateway.streams.producers import Writer
from deltawire.gateway.streams.publication import WITHHELD_FOR
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.events import Data, format_timestamp
from deltawire.protocol.priority import RANKS, StreamClass, parse_classes

AUDIENCE_INTERVAL = 0.25
"""Seconds between two `audience` messages to a producer: a storm of joins is told in one message."""

T = TypeVar("T")

log = get_logger()


class Dispatcher:
    """Appends, delivers and acknowledges the events of a hub.

    Args:
        settings: the seconds of a lease.
        manager: the streams.
        tally: counts latencies and faults.
        clock: of the hub.
    """

    def __init__(self, settings: Settings, manager: StreamManager, tally: Tally, clock: Clock) -> None:
        self._lease = settings.lease
        self._stamp = ""
        self._stamped_at = -1.0  # the millisecond of the timestamp
        self._manager = manager
        self._clock = clock
        self._channels: dict[Stream, Channel] = {}
        self.presence = Presence()
        self._classes = parse_classes(settings.stream_classes)
        self._scheduler = FlushScheduler(tally, self._tell_audience, self._release, self.presence)
        self._late: dict[Inlet, None] = {}  # producers whose acks are withheld
        self._late_timer: asyncio.TimerHandle | None = None
        self._leased: dict[Stream, None] = {}  # streams with running leases
        self.deliver = self._scheduler.deliver
        self.touch = self._scheduler.touch
        self.flush = self._scheduler.flush

    def start(self) -> None:
        """Begin, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._scheduler.start()

    async def stop(self) -> None:
        """Deliver what is left, and stop the timer."""
        for stream in self._manager.list():
            self.let_out(stream)
        self.flush()
        if self._late_timer is not None:
            self._late_timer.cancel()

    # Channels

    def channel(self, stream: Stream) -> Channel:
        """Return the channel of a stream."""
        channel = self._channels.get(stream)
        if channel is None:
            rank = RANKS[self._classes.of(stream.id)]
            channel = self._channels[stream] = Channel(stream, len(self._channels), rank)
        return channel

    def attach(self, stream: Stream, holder: Holder) -> Channel:
        """Return the channel of a stream, kept until its holder detaches, however long it is idle."""
        channel = self.channel(stream)
        if holder not in channel.attached:
            channel.attached[holder] = None
            self.presence.add(channel.rank)
        return channel

    def detach(self, channel: Channel, holder: Holder) -> None:
        """Remove a holder from a channel."""
        if holder in channel.attached:
            del channel.attached[holder]
            self.presence.add(channel.rank, -1)
        self.touch(channel)

    def classify(self, channel: Channel, stream_class: StreamClass) -> None:
        """Give a stream a class, until nobody uses it any more."""
        self.presence.add(channel.rank, -len(channel.attached))
        channel.rank = RANKS[stream_class]
        self.presence.add(channel.rank, len(channel.attached))

    def _release(self, channel: Channel) -> None:
        """Forget a channel nobody holds, unless the stream has another by now: a forgotten one may still be flushed."""
        if channel.is_unused and self._channels.get(channel.stream) is channel:
            del self._channels[channel.stream]

    def record_deliveries(self) -> Ledger:
        """Return the ledger of all streams, up to date with what was delivered."""
        for channel in self._channels.values():
            channel.record_deliveries()
        return self._manager.ledger

    # Events

    def publish(
        self,
        channel: Channel,
        data: Data,
        timestamp: str | None = None,
        writer: Writer | None = None,
        is_urgent: bool = False,  # noqa: FBT001, FBT002 - a keyword costs more, for each event
    ) -> int | None:
        """Append an event, to be delivered in this loop turn. The caller has checked that there is room.

        Returns:
            Its seq; None while middleware holds it back.

        Raises:
            StreamError: closed; full, `memory_limit` is reached.
            WireError: `invalid_event`, middleware refuses it.
        """
        seq = self.append(channel.stream, data, timestamp, writer, is_urgent)
        self.touch(channel)
        return seq

    def append(
        self,
        stream: Stream,
        data: Data,
        timestamp: str | None = None,
        writer: Writer | None = None,
        is_urgent: bool = False,  # noqa: FBT001, FBT002 - a keyword costs more, for each event
    ) -> int | None:
        """Like `publish`, for a caller that calls `deliver` or `touch` after a batch."""
        manager = self._manager
        now = self._clock.now()
        if manager.ledger.bytes > manager.events_limit and not manager.make_room(now):
            raise manager.out_of_room("send", stream.id)
        if stream.leases.waiting and writer is not None:
            end_abandoned(stream, data, writer, self.timestamp(now), now)
        if timestamp is None:  # most events share one with those before, which is known without a call
            timestamp = self._stamp if now // 0.001 == self._stamped_at else self.timestamp(now)
        return stream.append(data, timestamp, now, writer, is_urgent)

    def check_room(self, stream: Stream, now: float) -> None:
        """Refuse an event for which there is no room.

        Raises:
            StreamError: full, `memory_limit` is reached.
        """
        manager = self._manager
        if manager.ledger.bytes > manager.events_limit and not manager.make_room(now):
            raise manager.out_of_room("send", stream.id)

    def let_out(self, stream: Stream) -> None:
        """Append what middleware holds back of a stream, at once."""
        if stream.screen is not None:
            stream.screen.let_out(self._clock.now())
            self.touch(self.channel(stream))

    def timestamp(self, now: float) -> str:
        """Return the time as RFC 3339; events of one millisecond share it.

        Args:
            now: monotonic seconds.
        """
        millisecond = now // 0.001
        if millisecond != self._stamped_at:
            self._stamped_at = millisecond
            self._stamp = format_timestamp(time.time())
        return self._stamp

    def locate(self, stream_id: str) -> Awaitable[Elsewhere | None] | None:  # noqa: ARG002 - others need it
        """Find a stream that is not here, where another gateway may have it.

        Returns:
            None where that can't be. Otherwise what is awaited for: who serves it, or why nobody does now; None if
            it can be served here.
        """
        return None

    def claim(self, stream_id: str) -> Awaitable[Elsewhere | None] | None:  # noqa: ARG002 - others need it
        """Begin a stream that `locate` has not found, before a client is told that it has begun.

        Returns:
            As `locate`, as another gateway may begin it at the same moment.
        """
        return None

    async def give_up(self) -> None:
        """Leave all streams to other gateways, where there are any: from now on, readers get here what there is."""

    def may_be_behind(self, stream: Stream) -> bool:  # noqa: ARG002 - likewise
        """Whether another gateway may have gone on with a stream; if so, that is found out."""
        return False

    def when_committed(self, channel: Channel, then: Callable[[], None]) -> None:  # noqa: ARG002 - others need it
        """Call a function when everything appended so far is committed and delivered; here, that is now."""
        then()

    async def wait_until_committed(self, stream: Stream) -> None:
        """Return when everything appended so far is committed and delivered."""
        committed = asyncio.Event()
        self.when_committed(self.channel(stream), committed.set)
        await committed.wait()

    def commit_in_time(self, stream: Stream) -> Awaitable[None]:
        """Like `wait_until_committed`, for a client, which is not kept waiting while nothing can be stored.

        Raises:
            StreamError: full, nothing can be stored now.
        """
        raise NotImplementedError("nothing is stored")

    async def read_in_time(self, stream: Stream, reading: Awaitable[T]) -> T:  # noqa: ARG002 - others need it
        """Wait for something that is read from the store, as long as a client would.

        Raises:
            StreamError: full, the store does not answer.
        """
        return await reading

    def read_back(self, stream: Stream, after: int, size: int) -> Awaitable[StoredPage]:
        """Read stored events, for somebody who is not a consumer.

        Args:
            stream: of the events.
            after: position after which to read.
            size: bytes of frames after which to stop.

        Raises:
            StreamError: full, the store does not answer.
        """
        raise NotImplementedError("nothing is stored")

    # What producers are told

    def acknowledge_late(self, inlet: Inlet) -> None:
        """Send a producer's ack a little later, together with the ack of what it sends meanwhile."""
        self._late[inlet] = None
        if self._late_timer is None:
            self._late_timer = self._loop.call_later(WITHHELD_FOR, self._acknowledge_late)

    def _acknowledge_late(self) -> None:
        now = self._clock.now()
        self._late_timer = None
        self._late = {inlet: None for inlet in self._late if not inlet.acknowledge_if_due(now)}
        if self._late:
            self._late_timer = self._loop.call_later(WITHHELD_FOR, self._acknowledge_late)

    def _tell_audience(self, channel: Channel) -> None:
        """Tell producers how many consumers follow, at most once per `AUDIENCE_INTERVAL`; changes meanwhile wait."""
        consumers = channel.stream.consumers
        stale = [inlet for inlet in channel.inlets if inlet.audience != consumers]
        wait = channel.audience_told_at + AUDIENCE_INTERVAL - self._clock.now() if stale else 0.0
        if wait > 0:
            if not channel.is_telling_later:
                channel.is_telling_later = True
                self._loop.call_later(wait, self._end_silence, channel)
            return
        channel.audience = consumers
        for inlet in stale:
            channel.audience_told_at = self._clock.now()
            inlet.tell_audience(consumers)

    def _end_silence(self, channel: Channel) -> None:
        channel.is_telling_later = False
        if not channel.attached:  # released: the stream may have another channel, whose events it would measure again
            return
        channel.audience_told_at = 0.0  # don't compare again: asyncio's timers may be early by the clock's resolution
        self.touch(channel)

    # Leases

    def lease(self, channel: Channel, writer: Writer) -> None:
        """Begin a lease after the last connection of a producer is gone, if it left a message in progress."""
        if channel.stream.leases.lost(writer, self._clock.now() + self._lease):
            log.info("producer.lost", stream=channel.stream.id, producer=writer.id, lease=self._lease)
            self._leased[channel.stream] = None

    def expire_leases(self, now: float) -> None:
        """End the messages whose producers did not come back in time."""
        for stream in tuple(self._leased):
            if end_lost(stream, self.timestamp(now), now, self._lease):
                self.touch(self.channel(stream))
            if stream.is_closed or not stream.leases.is_running:
                del self._leased[stream]
