"""Middleware on the event loop: it takes events before they are appended, and what it holds back is let out in time.

A hub without middleware never calls this: its dispatcher keeps the `append` that it has.
"""

from __future__ import annotations

import asyncio
from functools import partial
from time import monotonic
from typing import Final

from deltawire.gateway.hub.clock import Clock
from deltawire.gateway.hub.dispatch import Dispatcher
from deltawire.gateway.logs import get_logger
from deltawire.gateway.metrics.tally import Tally
from deltawire.gateway.middleware import Middleware, Plan
from deltawire.gateway.streams.callbacks import Screen
from deltawire.gateway.streams.ending import end_abandoned
from deltawire.gateway.streams.manager import StreamManager
from deltawire.gateway.streams.producers import Writer
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.events import Data

TICK: Final = 0.05
"""Seconds between two looks at what is held back: it waits for so much more than `max_delay` at most."""

WORK_SLICE: Final = 0.004
"""Seconds of a turn of the loop in which stages go on with events that are too long for one turn."""

MAX_TOLD: Final = 1024
"""Streams and stages whose failure is remembered as told."""

log = get_logger()


class Screening:
    """The middleware of the streams of one hub.

    Args:
        dispatcher: appends the events of streams without middleware.
        manager: the streams.
        tally: counts what is dropped, and failures.
        clock: of the hub.
    """

    def __init__(self, dispatcher: Dispatcher, manager: StreamManager, tally: Tally, clock: Clock) -> None:
        self._dispatcher = dispatcher
        self._manager = manager
        self._tally = tally
        self._clock = clock
        self._append_plain = dispatcher.append
        self._current: Writer | None = None  # of the event that is being appended
        self._holding: dict[Stream, None] = {}  # streams of which something may be held back
        self._timer: asyncio.TimerHandle | None = None
        self._working: dict[Stream, None] = {}  # streams whose producers wait for stages
        self._told: dict[tuple[str, str], None] = {}  # streams and stages whose failure is in the log

    def use(self, middleware: Middleware) -> None:
        """Have middleware take the events of the streams that are made from now on."""
        self._manager.make_screen = partial(self._make_screen, middleware)
        self._dispatcher.append = self.append  # type: ignore[method-assign]  # no look at each event without middleware

    def _make_screen(self, middleware: Middleware, stream: Stream) -> Screen | None:
        return middleware.screen(stream, self)

    def append(
        self,
        stream: Stream,
        data: Data,
        timestamp: str | None = None,
        writer: Writer | None = None,
        is_urgent: bool = False,  # noqa: FBT001, FBT002 - a keyword costs more, for each event
    ) -> int | None:
        """As `Dispatcher.append`."""
        screen = stream.screen
        if screen is None or stream.is_closed:
            return self._append_plain(stream, data, timestamp, writer, is_urgent)
        dispatcher, now = self._dispatcher, self._clock.now()
        dispatcher.check_room(stream, now)
        stamp = dispatcher.timestamp(now)
        if stream.leases.waiting and writer is not None:
            end_abandoned(stream, data, writer, stamp, now)
        self._current = writer
        try:
            seq = screen.take(data, timestamp or stamp, now, writer, is_urgent=is_urgent)
        finally:
            self._current = None
        if seq is None:
            self._holding[stream] = None
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(TICK, self._let_out_due)
            dispatcher.touch(dispatcher.channel(stream))  # it may have let others out
            if screen.is_working:
                self._begin_work(stream)
        return seq

    def _begin_work(self, stream: Stream) -> None:
        """Let stages go on with a long event in the next turns; producers of its stream wait meanwhile."""
        if not self._working:
            asyncio.get_running_loop().call_soon(self._work)
        self._working[stream] = None
        stream.blocking.hold(is_held=True)

    def _work(self) -> None:
        """Go on for a slice of this turn, with one stream after the other."""
        until = monotonic() + WORK_SLICE
        while self._working:
            stream = next(iter(self._working))
            del self._working[stream]
            if stream.screen is not None and not stream.is_closed:
                stream.screen.work(self._clock.now())
            if stream.screen is not None and stream.screen.is_working:
                self._working[stream] = None  # behind the others
            else:
                stream.blocking.hold(is_held=False)
                self._dispatcher.touch(self._dispatcher.channel(stream))  # who waits for room goes on
            if monotonic() >= until:
                break
        if self._working:
            asyncio.get_running_loop().call_soon(self._work)

    def _let_out_due(self) -> None:
        self._timer = None
        now = self._clock.now()
        for stream in tuple(self._holding):
            due = None if stream.screen is None else stream.screen.due_at
            if due is None:
                del self._holding[stream]
            elif now >= due:
                self._dispatcher.let_out(stream)
        if self._holding:
            self._timer = asyncio.get_running_loop().call_later(TICK, self._let_out_due)

    # What middleware tells

    def released(self, stream: Stream, writer: Writer, seq: int, why: str) -> None:
        """Let the producer's connection have its ack: with those of this read, or else by itself."""
        channel = self._dispatcher.channel(stream)
        for inlet in channel.inlets:
            if inlet.released(writer, seq, why):
                if writer is not self._current:
                    channel.acknowledge_later(inlet)
                return

    def failed(self, stream: Stream, plan: Plan, error: Exception) -> None:
        """Count a failure, and log the first of a stage of a stream, without what may be text of an event."""
        self._tally.middleware_failures += 1
        key = (stream.id, plan.name)
        if key not in self._told:
            self._told[key] = None
            if len(self._told) > MAX_TOLD:
                del self._told[next(iter(self._told))]
            kind = type(error).__name__
            log.error("middleware.failed", stream=stream.id, stage=plan.name, on_error=plan.on_error, error=kind)

    def dropped(self) -> None:
        """Count an event that was dropped."""
        self._tally.middleware_dropped += 1
