"""The hub: the streams of a process on its event loop.

Events go through `dispatch`: consumers are served once per loop turn, however many events came in it. Coroutines and
callbacks of the loop may use a hub freely; other threads must use `call_from_thread`.
"""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path
from secrets import token_hex
from typing import Self, TypeVar

from deltawire.gateway.config import Settings
from deltawire.gateway.engines.choosing import open_engine
from deltawire.gateway.engines.engine import EVENTS, Elsewhere, EngineMetrics, Part
from deltawire.gateway.engines.folder import tell_of_new_epochs
from deltawire.gateway.hub.clock import Clock
from deltawire.gateway.hub.committing import CommittingDispatcher
from deltawire.gateway.hub.deadlines import Deadlines
from deltawire.gateway.hub.dispatch import Dispatcher
from deltawire.gateway.hub.local import LocalStream
from deltawire.gateway.hub.screening import Screening
from deltawire.gateway.logs import get_logger
from deltawire.gateway.metrics.histogram import Histogram
from deltawire.gateway.metrics.tally import Tally
from deltawire.gateway.middleware import Middleware, read_middleware
from deltawire.gateway.streams.info import StreamInfo, describe
from deltawire.gateway.streams.log import Retention
from deltawire.gateway.streams.manager import StreamManager
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.errors import DeltawireError
from deltawire.protocol.messages import EndReason

T = TypeVar("T")

_UNPERSISTED = {
    "none": "the server writes nothing to its disk: its restart loses events",
    "snapshots at most": (
        "the server has no append-only file: its restart loses what came since its last snapshot, if it makes any"
    ),
}
"""What is told of how a server persists."""

log = get_logger()


class Hub:
    """Streams on an event loop. An async context manager: streams live from entry to exit.

    Args:
        settings: limits and timeouts.
        middleware: what becomes of events before they are appended; None takes that of the settings.
        part: of the streams, where other processes have the rest; None for all.

    Raises:
        ConfigError: a file that the settings name can't be used.

    Attributes:
        manager: the streams themselves.
        dispatcher: appends and delivers events, for the server.
        deadlines: checked several times a second.
        clock: the time.
        tally: counts for the metrics.
    """

    def __init__(
        self, settings: Settings | None = None, middleware: Middleware | None = None, part: Part | None = None
    ) -> None:
        self.settings = settings or Settings()
        self.manager = StreamManager(
            stream_settings(self.settings),
            make_epoch=lambda: token_hex(8),
            memory_limit=self.settings.memory_limit,
            max_streams=self.settings.max_streams,
            closed_retention=self.settings.closed_retention,
            data_limit=self.settings.data_limit,
            data_age=self.settings.data_age,
        )
        self.tally = Tally()
        self.clock = Clock()
        self._engine = open_engine(self.settings, part)
        self.dispatcher = (
            Dispatcher(self.settings, self.manager, self.tally, self.clock)
            if self._engine is None
            else CommittingDispatcher(self.settings, self.manager, self.tally, self.clock, self._engine)
        )
        self._screening = Screening(self.dispatcher, self.manager, self.tally, self.clock)
        self.use(middleware or self.read_middleware())
        limits = self.settings
        timeouts = (limits.send_timeout, limits.block_timeout, limits.lease, limits.ping_timeout)
        self.deadlines = Deadlines(timeouts, self.tally, self._tidy)
        self._is_running = False
        self._next_cleanup = 0.0
        self._failing_since: float | None = None  # when it was noticed that nothing can be stored

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self.clock.start()
        self.dispatcher.start()
        if isinstance(self.dispatcher, CommittingDispatcher):
            await self.dispatcher.open()
        self.deadlines.start()
        self._is_running = True
        self._next_cleanup = self.now() + self.settings.cleanup_interval
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_running = False
        if self._engine is None:
            self.close_all("shutdown")
        await self.dispatcher.stop()
        self.deadlines.stop()

    def read_middleware(self) -> Middleware | None:
        """Read the middleware that the settings name; None if they name none.

        Raises:
            ConfigError: it can't be used.
        """
        return read_middleware(Path(self.settings.middleware)) if self.settings.middleware else None

    def use(self, middleware: Middleware | None) -> None:
        """Have middleware take the events of the streams that are made from now on; None changes nothing."""
        if middleware is not None:
            self._screening.use(middleware)

    def storage_metrics(self) -> EngineMetrics:
        """Return the counts of the engine; all are 0 where there is none."""
        return EngineMetrics(0, 0, Histogram(*EVENTS), 0) if self._engine is None else self._engine.metrics()

    def announce_storage(self) -> None:
        """Log what the engine found at the start, if there is anything to tell."""
        storage = {} if self._engine is None else self._engine.describe()
        if storage:
            log.info("storage.opened", streams=self.count(), **storage)
        if (why := _UNPERSISTED.get(storage.get("persistence", ""))) is not None:
            log.warning("storage.unpersisted", detail=why)
        needed = self.settings.engine_replicas
        if (connected := storage.get("replicas", needed)) < needed:
            why = f"engine_replicas is {needed}, and {connected} are connected: events wait until they fail"
            log.warning("storage.unreplicated", detail=why)
        if (why := storage.get("new_epochs")) is not None:
            tell_of_new_epochs(why)

    @property
    def node_key(self) -> str:
        """The secret by which others know that they may relay to this gateway; empty where there are none."""
        return "" if self._engine is None else self._engine.key

    async def other_nodes(self) -> Sequence[Elsewhere]:
        """The other gateways that are there and say where.

        Raises:
            EngineError: it can't be told.
        """
        return () if self._engine is None else await self._engine.others()

    @property
    def storage_failure(self) -> str | None:
        """Why events can't be stored now; None if they can, or need not be."""
        return None if self._engine is None else self._engine.failure

    @property
    def doubt(self) -> str | None:
        """Why other gateways may have taken the streams of this one over; None if they can't have."""
        return None if self._engine is None else self._engine.doubt

    def now(self) -> float:
        """Monotonic seconds."""
        return self.clock.now()

    # Streams

    def create(self, stream_id: str, settings: StreamSettings | None = None) -> LocalStream:
        """Create a stream.

        Args:
            stream_id: its id.
            settings: retention, and the policy of consumers that don't choose one; None takes the hub's.

        Raises:
            StreamError: invalid, the id is malformed or taken; full, `memory_limit` or `max_streams` is reached.
        """
        return LocalStream(self, self.manager.create(stream_id, self.now(), settings))

    def get(self, stream_id: str) -> LocalStream:
        """Return an existing stream.

        Raises:
            StreamError: not found.
        """
        return LocalStream(self, self.manager.get(stream_id))

    def get_or_create(self, stream_id: str) -> LocalStream:
        """Return the stream with this id; create it if there is none.

        Raises:
            StreamError: as `create`.
        """
        return LocalStream(self, self.manager.get_or_create(stream_id, self.now()))

    def close(self, stream_id: str, reason: EndReason = "closed") -> None:
        """End a stream: consumers get what is left, and its events can be read until its retention ends.

        Raises:
            StreamError: not found.
        """
        self._wake(self.manager.close(stream_id, self.now(), reason))

    def end(self, stream: Stream) -> None:
        """Like `close`, for a caller that has the stream itself: its id may belong to another stream by now."""
        self.manager.end(stream, self.now())
        self._wake(stream)

    def describe(self, stream: Stream) -> StreamInfo:
        """Like `info`, for a caller that has the stream itself."""
        return describe(stream, self.clock.format)

    def list(self) -> list[LocalStream]:
        """All streams, oldest first, including closed ones that can still be read."""
        return [LocalStream(self, stream) for stream in self.manager.list()]

    def count(self) -> int:
        """Number of streams in `list`."""
        return self.manager.count()

    def close_all(self, reason: EndReason = "closed") -> int:
        """End every open stream; return how many."""
        return self._wake(*self.manager.close_all(self.now(), reason))

    def cleanup_inactive(self, threshold: float) -> int:
        """End every open stream that was inactive for `threshold` seconds; return how many."""
        return self._wake(*self.manager.cleanup_inactive(threshold, self.now()))

    def info(self, stream_id: str) -> StreamInfo:
        """Describe one stream at this moment.

        Raises:
            StreamError: not found.
        """
        return self.describe(self.manager.get(stream_id, "info"))

    def list_info(self) -> builtins.list[StreamInfo]:
        """Describe all streams at this moment."""
        return [self.describe(stream) for stream in self.manager.list()]

    def page(
        self, exact: Collection[str], prefixes: Collection[str], after: str, limit: int
    ) -> builtins.list[StreamInfo]:
        """Describe some streams at this moment, in the order of their ids; arguments as for `StreamManager.page`."""
        return [self.describe(stream) for stream in self.manager.page(exact, prefixes, after, limit)]

    async def give_up(self) -> None:
        """Leave all streams to other gateways on the same engine, if there is one that others may use.

        Readers get what there is here; nothing is appended any more.
        """
        await self.dispatcher.give_up()

    def _wake(self, *streams: Stream) -> int:
        for stream in streams:
            log.info("stream.closed", stream=stream.id, reason=stream.closed_as, head=stream.head)
            self.dispatcher.touch(self.dispatcher.channel(stream))
        return len(streams)

    def flush(self) -> None:
        """Deliver everything appended so far; without it, that happens in this loop turn or soon after."""
        self.dispatcher.flush()

    def _tidy(self, now: float) -> None:
        """Act on the deadlines of streams."""
        self._watch_storage(now)
        self.dispatcher.expire_leases(now)
        self.manager.expire(now)
        if now >= self._next_cleanup:
            self._next_cleanup = now + self.settings.cleanup_interval
            self.cleanup_inactive(self.settings.inactive_after)

    def _watch_storage(self, now: float) -> None:
        """Log when nothing can be stored any more, and when it can be again."""
        failure = self.storage_failure
        if failure is not None and self._failing_since is None:
            log.error("storage.failed", detail=failure)
            self._failing_since = now
        elif failure is None and self._failing_since is not None:
            log.info("storage.recovered", seconds=round(now - self._failing_since, 1))
            self._failing_since = None

    # Other threads

    def call_from_thread(self, function: Callable[[], Awaitable[T]], timeout: float | None = None) -> T:
        """Run an async function on the hub's loop from another thread, and return its result.

        This is the only method that other threads may call: `hub.call_from_thread(lambda: stream.send(event))`.

        Args:
            function: called on the loop, where its result is awaited.
            timeout: seconds to wait; after that the function is cancelled.

        Raises:
            TimeoutError: it took longer.
            DeltawireError: the hub is not running; or this is the loop's own thread, which would wait for itself.
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
    """Extract the settings of streams from the settings of the gateway."""
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
