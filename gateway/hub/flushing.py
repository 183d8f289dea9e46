"""Which channels are flushed in which turn of the event loop, and for how long.

    touched ──► for a few consumers, by a read that is over? ──yes──► flushed at once
                  │ no
                  ▼
                its last flush was a long one? ──yes──► rests
                  │ no                                    │
                  ▼                                       │
                queued ◄──────────────────────────────────┘
      end of the  │ ▲
            turn  ▼ │ `FLUSH_SLICE` is over
                flushed

A flush serves every consumer of a channel; an interrupted flush continues where it stopped.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from math import inf
from time import monotonic

from deltawire.gateway.hub.channel import Channel
from deltawire.gateway.hub.presence import Presence
from deltawire.gateway.logs import get_logger
from deltawire.gateway.metrics.tally import Tally
from deltawire.protocol.priority import RANKS

FLUSH_SLICE = 0.004
"""Seconds of flushing of a class in one turn of the loop: a flood of one stream adds so much to another's latency."""

FEW = 16
"""Up to this many consumers are served without waiting for the end of the turn: most streams have one or two, and
deferring a flush costs as much as the flush."""

LONG_FLUSH = 0.001
"""Seconds above which a flush is long: hundreds of consumers of one stream."""

REST = 0.5
"""How long a stream rests after a long flush, as a multiple of its time: a fan-out may take two thirds of the core
before its events begin to share writes. Measured with 500 consumers: a lower load is no reason to delay an event."""

MAX_REST = 0.008
"""Most seconds a stream rests, so that an event hardly waits for more than 10 ms at any load."""

log = get_logger()


class FlushScheduler:
    """Flushes the channels of one hub.

    Args:
        tally: counts the latency of channels, and failures.
        tell_audience: called after a flush if the number of the channel's consumers has changed.
        release: called after the flush of a channel that nobody holds.
        presence: which classes are in use; each has its share of `FLUSH_SLICE`.
    """

    def __init__(
        self,
        tally: Tally,
        tell_audience: Callable[[Channel], None],
        release: Callable[[Channel], None],
        presence: Presence,
    ) -> None:
        self._tally = tally
        self._tell_audience = tell_audience
        self._release = release
        self.presence = presence
        self._queues: tuple[deque[Channel], ...] = tuple(deque() for _ in RANKS)  # to be flushed, by class
        self._resting: dict[Channel, asyncio.TimerHandle] = {}  # to be flushed later
        self._is_flushing_soon = False

    def start(self) -> None:
        """Begin, on the running loop."""
        self._loop = asyncio.get_running_loop()

    def deliver(self, channel: Channel) -> None:
        """Flush a channel now if that takes only a few writes, otherwise at the end of this loop turn."""
        if channel.is_dirty or channel.is_served or channel.rest_until or channel.stream.consumers > FEW:
            self.touch(channel)
        else:
            channel.touched_at = now = monotonic()
            if self._serve(channel, now + self.presence.share(channel.rank, FLUSH_SLICE)):
                self._conclude(channel, monotonic())
            else:  # each of a few consumers has an encoding and filter of its own, and there is much to encode
                self._flush_soon()

    def touch(self, channel: Channel) -> None:
        """Flush a channel at the end of this loop turn, or a little later if its last flush was a long one."""
        if channel.is_dirty:
            return
        channel.is_dirty = True
        channel.touched_at = monotonic()  # the loop's own time stands still within a turn
        if not channel.is_served:  # else another round follows this one
            self._rest_or_queue(channel)

    def _rest_or_queue(self, channel: Channel) -> None:
        if channel.rest_until:
            rest = channel.rest_until - monotonic()
            channel.rest_until = 0.0
            if rest > 0:
                self._resting[channel] = self._loop.call_later(rest, self._end_rest, channel)
                return
        self._queues[channel.rank].append(channel)
        self._flush_soon()

    def _end_rest(self, channel: Channel) -> None:
        del self._resting[channel]
        self._queues[channel.rank].append(channel)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._is_flushing_soon:
            self._is_flushing_soon = True
            self._loop.call_soon(self._flush_turn)

    def _flush_turn(self) -> None:
        """Flush what was touched in this turn, each class for its share of `FLUSH_SLICE`; the rest waits."""
        self._is_flushing_soon = False
        for rank, queue in enumerate(self._queues):
            if queue:
                self._flush_some(queue, self.presence.share(rank, FLUSH_SLICE))
        if any(self._queues):
            self._flush_soon()

    def _flush_some(self, queue: deque[Channel], seconds: float) -> None:
        """Flush the channels of one class, at least one of them."""
        began = monotonic()
        until = began + seconds
        for _ in range(len(queue)):
            channel = queue.popleft()
            is_complete = self._serve(channel, until)
            ended = monotonic()
            channel.spent += ended - began
            if is_complete:
                self._conclude(channel, ended)
            if ended >= until:
                break
            began = ended

    def flush(self) -> None:
        """Deliver everything appended so far."""
        for channel, timer in self._resting.items():
            timer.cancel()
            self._queues[channel.rank].append(channel)
        self._resting.clear()
        for queue in self._queues:
            for _ in range(len(queue)):
                channel = queue.popleft()
                self._serve(channel, inf)
                self._conclude(channel, monotonic())

    def _serve(self, channel: Channel, until: float) -> bool:
        """Flush a channel, or continue an interrupted flush; return whether every consumer was served."""
        if not channel.is_served:
            channel.is_served = True
            channel.is_dirty = False
        try:
            is_complete = channel.flush(until)
        except Exception:  # one stream's fault is not another's
            self._tally.faults += 1
            log.exception("channel.flush_failed", stream=channel.stream.id)
            channel.abandon()
            is_complete = True
        if not is_complete:
            self._queues[channel.rank].append(channel)
        return is_complete

    def _conclude(self, channel: Channel, now: float) -> None:
        """Finish a complete flush: rest, measure, tell the audience, release."""
        if channel.spent > LONG_FLUSH:
            channel.rest_until = now + min(channel.spent * REST, MAX_REST)
        channel.spent = 0.0
        if channel.touched_at >= channel.stream.measure_at:
            channel.latency.measure(self._tally, channel.touched_at, now)
        if channel.audience != channel.stream.consumers:
            self._tell_audience(channel)
        channel.is_served = False
        if channel.is_dirty:
            self._rest_or_queue(channel)
        elif not channel.attached:
            self._release(channel)
