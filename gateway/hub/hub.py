"""The hub: the streams of a process on its event loop.

Everything that appends goes through `Hub.publish`; consumers are served once per loop turn, however many events came
in it. Coroutines and callbacks of the loop may use a hub freely; other threads through `call_from_thread` alone.
"""

from __future__ import annotations

import asyncio
import builtins
import time
from collections.abc import Awaitable, Callable, Collection
from secrets import token_hex
from typing import Self, TypeVar

from deltawire.gateway.config import Settings
from deltawire.gateway.hub.channel import Channel, Inlet
from deltawire.gateway.hub.deadlines import Deadlines, Swept
from deltawire.gateway.hub.flushing import FlushScheduler
from deltawire.gateway.hub.local import LocalStream
from deltawire.gateway.logs import get_logger
from deltawire.gateway.metrics.tally import Tally
from deltawire.gateway.streams.acking import WITHHELD_FOR
from deltawire.gateway.streams.info import StreamInfo
from deltawire.gateway.streams.log import Ledger, Retention
from deltawire.gateway.streams.manager import StreamManager
from deltawire.gateway.streams.producers import Writer
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.errors import DeltawireError
from deltawire.protocol.events import Data, format_timestamp
from deltawire.protocol.messages import EndReason

T = TypeVar("T")

AUDIENCE_INTERVAL = 0.25
"""Seconds between two `audience` messages to a producer: a storm of joins is one number, not a storm of messages."""

log = get_logger()


class Hub:
    """Streams on an event loop. An async context manager: streams live from entry to exit.

    Args:
        settings: limits and timeouts.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.manager = StreamManager(
            stream_settings(self.settings),
            make_epoch=lambda: token_hex(8),
            memory_limit=self.settings.memory_limit,
            max_streams=self.settings.max_streams,
            closed_retention=self.settings.closed_retention,
        )
        self.tally = Tally()
        self._is_running = False
        self._channels: dict[Stream, Channel] = {}
        self._scheduler = FlushScheduler(self.tally, self._tell_audience, self._release)
        self._stamp = ""
        self._stamped_at = 0.0
        self._late: dict[Inlet, None] = {}  # whose acks are withheld
        self._late_timer: asyncio.TimerHandle | None = None
        limits = self.settings
        timeouts = (limits.send_timeout, limits.block_timeout, limits.lease, limits.ping_timeout)
        self._deadlines = Deadlines(timeouts, self.tally, self._tidy)
        self._next_cleanup = 0.0
        self._leased: dict[Stream, None] = {}  # with leases running

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._calendar = time.time() - self.now()  # where monotonic seconds begin
        self._is_running = True
        self._next_cleanup = self.now() + self.settings.cleanup_interval
        self._scheduler.start()
        self._deadlines.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_running = False
        self.close_all("shutdown")
        self.flush()
        self._deadlines.stop()
        if self._late_timer is not None:
            self._late_timer.cancel()

    # Time

    def now(self) -> float:
        """Monotonic seconds."""
        return self._loop.time()

    def timestamp(self) -> str:
        """The time, RFC 3339; events of one millisecond share it."""
        now = self._loop.time() // 0.001
        if now != self._stamped_at:
            self._stamped_at = now
            self._stamp = format_timestamp(time.time())
        return self._stamp

    def _format_time(self, at: float) -> str:
        """Monotonic seconds by the calendar, as the clock stood when the hub began: the same each time it is told."""
        return format_timestamp(self._calendar + at)

    # Streams

    def create(self, stream_id: str, settings: StreamSettings | None = None) -> LocalStream:
        """A new stream.

        Args:
            stream_id: its id.
            settings: retention, and the policy of consumers that don't choose one; None takes the hub's.

        Raises:
            StreamError: invalid, the id is malformed or taken; full, `memory_limit` or `max_streams` is reached.
        """
        return LocalStream(self, self.manager.create(stream_id, self.now(), settings))

    def get(self, stream_id: str) -> LocalStream:
        """An existing stream.

        Raises:
            StreamError: not found.
        """
        return LocalStream(self, self.manager.get(stream_id))

    def get_or_create(self, stream_id: str) -> LocalStream:
        """The stream with this id, made if there is none.

        Raises:
            StreamError: as `create`.
        """
        return LocalStream(self, self.manager.get_or_create(stream_id, self.now()))

    def close(self, stream_id: str, reason: EndReason = "closed") -> None:
        """End a stream: consumers get what is left, and what it holds can be read until its retention ends.

        Raises:
            StreamError: not found.
        """
        self._wake(self.manager.close(stream_id, self.now(), reason))

    def end(self, stream: Stream) -> None:
        """As `close`, for whoever has the stream itself: its id may be another stream's by now."""
        self.manager.end(stream, self.now())
        self._wake(stream)

    def describe(self, stream: Stream) -> StreamInfo:
        """As `info`, for whoever has the stream itself."""
        return stream.info(self._format_time)

    def list(self) -> list[LocalStream]:
        """All streams, oldest first, the closed ones that can still be read included."""
        return [LocalStream(self, stream) for stream in self.manager.list()]

    def count(self) -> int:
        """How many streams there are."""
        return self.manager.count()

    def close_all(self, reason: EndReason = "closed") -> int:
        """End every open stream; returns how many were."""
        return self._wake(*self.manager.close_all(self.now(), reason))

    def cleanup_inactive(self, threshold: float) -> int:
        """End every open stream that was inactive for so many seconds; returns how many were."""
        return self._wake(*self.manager.cleanup_inactive(threshold, self.now()))

    def info(self, stream_id: str) -> StreamInfo:
        """One stream at this moment.

        Raises:
            StreamError: not found.
        """
        return self.manager.info(stream_id, self._format_time)

    def list_info(self) -> builtins.list[StreamInfo]:
        """All streams at this moment."""
        return self.manager.list_info(self._format_time)

    def page(
        self, exact: Collection[str], prefixes: Collection[str], after: str, limit: int
    ) -> builtins.list[StreamInfo]:
        """Some streams at this moment, in the order of their ids; arguments as for `StreamManager.page`."""
        return [stream.info(self._format_time) for stream in self.manager.page(exact, prefixes, after, limit)]

    def _wake(self, *streams: Stream) -> int:
        for stream in streams:
            log.info("stream.closed", stream=stream.id, reason=stream.end_reason, head=stream.log.head)
            self.touch(self.channel(stream))
        return len(streams)

    # Publishing and serving

    def channel(self, stream: Stream) -> Channel:
        """The channel of a stream."""
        channel = self._channels.get(stream)
        if channel is None:
            channel = self._channels[stream] = Channel(stream, len(self._channels))
        return channel

    def attach(self, stream: Stream, holder: object) -> Channel:
        """The channel of a stream, which stays the stream's until its holder detaches, however long it is idle."""
        channel = self.channel(stream)
        channel.attached[holder] = None
        return channel

    def detach(self, channel: Channel, holder: object) -> None:
        """A holder is gone."""
        channel.attached.pop(holder, None)
        self.touch(channel)

    def publish(self, channel: Channel, data: Data, timestamp: str | None = None, writer: Writer | None = None) -> int:
        """Append an event, to be delivered in this loop turn. Whether there is room is the caller's to ask.

        Returns:
            Its seq.

        Raises:
            StreamError: closed; full, `memory_limit` is reached.
        """
        seq = self.append(channel.stream, data, timestamp, writer)
        self.touch(channel)
        return seq

    def append(self, stream: Stream, data: Data, timestamp: str | None = None, writer: Writer | None = None) -> int:
        """As `publish`, for whoever calls `deliver` or `touch` after a batch."""
        manager = self.manager
        now = self._loop.time()
        if manager.ledger.bytes > manager.events_limit and not manager.make_room(now):
            raise manager.out_of_room("send", stream.id)
        if stream.leases.waiting and writer is not None:
            stream.go_on(data, writer, self.timestamp(), now)
        return stream.append(data, timestamp or self.timestamp(), now, writer)

    def acknowledge_late(self, inlet: Inlet) -> None:
        """Have a producer's ack sent a little later, with that of what it sends meanwhile."""
        self._late[inlet] = None
        if self._late_timer is None:
            self._late_timer = self._loop.call_later(WITHHELD_FOR, self._acknowledge_late)

    def _acknowledge_late(self) -> None:
        now = self.now()
        self._late_timer = None
        self._late = {inlet: None for inlet in self._late if not inlet.acknowledge_if_due(now)}
        if self._late:
            self._late_timer = self._loop.call_later(WITHHELD_FOR, self._acknowledge_late)

    def deliver(self, channel: Channel) -> None:
        """Flush a channel now if that is a matter of a few writes, otherwise at the end of this loop turn."""
        self._scheduler.deliver(channel)

    def touch(self, channel: Channel) -> None:
        """Have a channel flushed at the end of this loop turn, or a little later if its last flush was a long one."""
        self._scheduler.touch(channel)

    def flush(self) -> None:
        """Deliver everything appended so far."""
        self._scheduler.flush()

    def settle(self) -> Ledger:
        """The account of all streams, up to date with what was delivered."""
        for channel in self._channels.values():
            channel.settle()
        return self.manager.ledger

    def _release(self, channel: Channel) -> None:
        """Forget a channel nobody holds. One forgotten before may be flushed late, and is not the stream's any more."""
        if channel.is_unused and self._channels.get(channel.stream) is channel:
            del self._channels[channel.stream]

    def _tell_audience(self, channel: Channel) -> None:
        """Tell producers how many follow, at most once in `AUDIENCE_INTERVAL`; what changes meanwhile is told then."""
        consumers = channel.stream.consumers
        stale = [inlet for inlet in channel.inlets if inlet.audience != consumers]
        wait = channel.audience_told_at + AUDIENCE_INTERVAL - self.now() if stale else 0.0
        if wait > 0:
            if not channel.is_telling_later:
                channel.is_telling_later = True
                self._loop.call_later(wait, self._end_silence, channel)
            return
        channel.audience = consumers
        for inlet in stale:
            channel.audience_told_at = self.now()
            inlet.tell_audience(consumers)

    def _end_silence(self, channel: Channel) -> None:
        channel.is_telling_later = False
        channel.audience_told_at = 0.0  # asyncio's timers come up to their resolution early: it is not measured again
        self.touch(channel)

    # Deadlines

    def lease(self, channel: Channel, writer: Writer) -> None:
        """The last connection of a producer is gone: if it left a message in progress, its lease begins."""
        if channel.stream.leases.lost(writer, self.now() + self.settings.lease):
            log.info("producer.lost", stream=channel.stream.id, producer=writer.id, lease=self.settings.lease)
            self._leased[channel.stream] = None

    def _expire_leases(self, now: float) -> None:
        for stream in tuple(self._leased):
            if stream.end_lost(self.timestamp(), now, self.settings.lease):
                self.touch(self.channel(stream))
            if stream.is_closed or not stream.leases.is_running:
                del self._leased[stream]

    def sweep_regularly(self, swept: Swept) -> None:
        """Have `sweep` called several times a second."""
        self._deadlines.add(swept)

    def stop_sweeping(self, swept: Swept) -> None:
        """Have `sweep` called no more."""
        self._deadlines.remove(swept)

    def _tidy(self, now: float) -> None:
        self._expire_leases(now)
        self.manager.expire(now)
        if now >= self._next_cleanup:
            self._next_cleanup = now + self.settings.cleanup_interval
            self.cleanup_inactive(self.settings.inactive_after)

    # Other threads

    def call_from_thread(self, function: Callable[[], Awaitable[T]], timeout: float | None = None) -> T:
        """Run an async function on the hub's loop from another thread, and wait for what it returns.

        The only way in for other threads: `hub.call_from_thread(lambda: stream.send(event))`.

        Args:
            function: called on the loop, its result awaited there.
            timeout: seconds to wait; what was started is cancelled then.

        Raises:
            TimeoutError: it took longer.
            DeltawireError: called on the loop's own thread, where it would wait for itself; the hub is not running.
        """
        if not self._is_running:
            raise DeltawireError("the hub is not running: call between its entry and its exit")
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            raise DeltawireError("call_from_thread is for other threads: await the coroutine instead")

        async def call() -> T:
            return await function()

        future = asyncio.run_coroutine_threadsafe(call(), self._loop)
        try:
            return future.result(timeout)
        except TimeoutError:
            future.cancel()
            raise


def stream_settings(settings: Settings) -> StreamSettings:
    """What the gateway's settings say of every stream."""
    return StreamSettings(
        retention=Retention(
            events=settings.retention_events, bytes=settings.retention_bytes, age=settings.retention_age
        ),
        policy=settings.policy,
        buffer=settings.buffer,
        buffer_bytes=settings.buffer_bytes,
        allow_block=settings.allow_block,
        max_consumers=settings.max_consumers,
        max_producers=settings.max_producers,
    )
