"""Dispatching where an engine commits events before anyone sees them.

append ──► staged ──► end of the turn: one commit a stream ──► engine ──► log ──► flush ──► acks of that commit
                                                                   └──► now and then: many commits as one piece

A reader behind the log ──► wants a page ──► engine ──► page ──► flush
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from itertools import islice
from time import monotonic
from typing import Final, NamedTuple, TypeVar

from deltawire.gateway.config import ConfigError, Settings, UnreachableError
from deltawire.gateway.engines.engine import Elsewhere, Engine, EngineAwayError, EngineError, StoredStream
from deltawire.gateway.hub.channel import Channel, Inlet
from deltawire.gateway.hub.clock import Clock
from deltawire.gateway.hub.dispatch import Dispatcher
from deltawire.gateway.hub.merging import Merging
from deltawire.gateway.hub.ownership import Ownership
from deltawire.gateway.logs import get_logger
from deltawire.gateway.metrics.tally import Tally
from deltawire.gateway.streams.durable import DurableStream
from deltawire.gateway.streams.log import EVENT_OVERHEAD
from deltawire.gateway.streams.manager import StreamManager
from deltawire.gateway.streams.pages import StoredPage, Wanted
from deltawire.gateway.streams.producers import Writer
from deltawire.gateway.streams.staging import Commit, Recalled
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import ErrorKind, StreamError
from deltawire.protocol.events import Data
from deltawire.protocol.messages import Ack

T = TypeVar("T")

log = get_logger()

CHECK: Final = 0.1
"""Seconds after which who waits for a commit looks whether the engine can make one."""


def unstored(why: str) -> str:
    """What a client is told of a change that waits for its commit while nothing can be stored."""
    return f"it is not stored yet, but may be later: look before you try again ({why})"


class _InFlight(NamedTuple):
    """A commit that the engine has not answered.

    Attributes:
        stream: of the events.
        commit: the events.
        is_empty: there are acks alone.
        acks: to be sent when it is committed and delivered.
        then: called afterwards.
    """

    stream: DurableStream
    commit: Commit
    is_empty: bool
    acks: list[tuple[Inlet, Ack]]
    then: list[Callable[[], None]]


class CommittingDispatcher(Dispatcher):
    """A dispatcher that has an engine commit events.

    Args:
        settings: the seconds of a lease.
        manager: the streams.
        tally: counts latencies, commits and faults.
        clock: of the hub.
        engine: where events are committed.
    """

    def __init__(self, settings: Settings, manager: StreamManager, tally: Tally, clock: Clock, engine: Engine) -> None:
        super().__init__(settings, manager, tally, clock)
        self._engine = engine
        self._engine_timeout = settings.engine_timeout if settings.engine_url else None
        self._silence = f"the store has not answered for {settings.engine_timeout:g} s (engine_timeout)"
        self._tally = tally
        self._queue: dict[Channel, None] = {}  # to be committed
        self._then: dict[Channel, list[Callable[[], None]]] = {}
        self._is_committing_soon = self._is_checked = False  # `_commit` follows in this turn; the engine can commit
        self._merging = Merging(engine)
        self._wanted: dict[DurableStream, deque[int]] = {}  # first seqs of pages to be read
        self._fetching: set[DurableStream] = set()
        self._leases_until = 0.0  # no lease is over before; monotonic seconds
        self._ownership = Ownership(engine, manager, clock, self.found, self.commit_in_time)
        self.deliver = self._deliver
        self.touch = self._touch
        self.flush = self._flush

    async def open(self) -> None:
        """Open the engine, and take over the streams that it has.

        Raises:
            UnreachableError: its server does not answer.
            ConfigError: it can't be used.
        """
        try:
            found = await self._engine.open(self._loop.call_soon_threadsafe, self)
        except EngineAwayError as error:
            raise UnreachableError(str(error)) from None
        except EngineError as error:
            raise ConfigError(str(error)) from None
        self._manager.store = self
        self._manager.pages.fetch = self._fetch
        for stored in found:
            self._restore(stored)

    def _restore(self, stored: StoredStream) -> None:
        now = self._clock.now()
        manager = self._manager
        stream = manager.make_stored(stored.id, stored.epoch, stored.settings, now)
        stream.restore(stored.state, now, self._lease, self._clock.monotonic(0.0))
        stream.lineage = tuple(stored.lineage)
        stream.created_at = self._clock.monotonic(stored.created_at)
        if stream.is_closed:
            stream.closed_at = self._clock.monotonic(stored.changed_at)
        manager.restore(stream)
        self._trim(stream, now)
        if stream.leases.is_running:
            self._leased[stream] = None

    async def stop(self) -> None:
        """Commit and deliver what is left, and close the engine."""
        await super().stop()
        self._merging.stop()
        await self._ownership.stop()
        await self._engine.close()
        self._scheduler.flush()

    @property
    def failure(self) -> str | None:
        """Why nothing can be stored now; None if it can."""
        return self._engine.failure

    def expire_leases(self, now: float) -> None:
        """As `Dispatcher.expire_leases`; producers that can't return while the engine fails have a lease after that."""
        if self._engine.failure is not None:
            self._leases_until = now + self._lease
        if now >= self._leases_until:
            super().expire_leases(now)

    def created(self, stream: DurableStream) -> None:
        """Store a new stream."""
        self._engine.create(stream.id, stream.epoch, stream.settings)
        if self._ownership.is_shared:
            self._ownership.begun(stream)
            self.when_committed(self.channel(stream), partial(self._ownership.settled, stream))

    def trimmed(self, stream: DurableStream) -> None:
        """Delete the events of a stream that are not needed any more."""
        self._engine.trim(stream.id, stream.epoch, stream.history.floor)

    def _trim(self, stream: DurableStream, now: float) -> None:
        if stream.trim(now):
            self.trimmed(stream)

    def forgotten(self, stream: DurableStream) -> None:
        """Delete a stream from the store."""
        self._merging.discard(stream)
        self._engine.forget(stream.id, stream.epoch)

    # Streams that another gateway may have

    def locate(self, stream_id: str) -> Awaitable[Elsewhere | None] | None:
        """As `Dispatcher.locate`: a stream that nobody serves any more is taken over."""
        return self._ownership.locate(stream_id)

    def claim(self, stream_id: str) -> Awaitable[Elsewhere | None] | None:
        """As `Dispatcher.claim`: whoever is second with the engine has not begun it."""
        return self._ownership.claim(stream_id)

    async def give_up(self) -> None:
        """As `Dispatcher.give_up`; what can't be committed in time stays here until the engine is closed."""
        if self._ownership.is_shared:
            for stream in self._manager.list():
                self.let_out(stream)
            await self._ownership.give_up([it for it in self._manager.list() if isinstance(it, DurableStream)])

    def may_be_behind(self, stream: Stream) -> bool:
        """As `Dispatcher.may_be_behind`."""
        return not self._engine.is_sure(stream.id, stream.epoch)

    def found(self, stored: StoredStream) -> None:
        """Take a stream over whose gateway has gone."""
        if not self._manager.has(stored.id):
            self._restore(stored)

    def recall(self, stream: str, epoch: str) -> Recalled | None:
        """Return what memory holds of a stream that is committed; None if it is gone."""
        held = self._held(stream, epoch)
        return None if held is None else held.recall()

    def lost(self, stream: str, epoch: str, why: str) -> None:
        """Drop a stream that another gateway has taken over; who uses it is told to try again."""
        held = self._held(stream, epoch)
        if held is None:
            return
        if not self._ownership.is_unclaimed(held):  # else another has begun it too, and nobody here has it yet
            log.warning("stream.lost", stream=stream, detail=why)
        held.is_lost = True
        self._merging.discard(held)
        self._manager.lose(held, self._clock.now())
        self._leased.pop(held, None)
        for holder in tuple(self.channel(held).attached):
            holder.end(ProblemCode.OVERLOADED, why)

    def _held(self, stream_id: str, epoch: str) -> DurableStream | None:
        if not self._manager.has(stream_id):
            return None
        stream = self._manager.get(stream_id)
        return stream if isinstance(stream, DurableStream) and stream.epoch == epoch else None

    # Pages

    def _fetch(self, stream: DurableStream, first: int) -> None:
        """Read a page in its turn: one of a stream at a time, so that none waits for another stream's for long."""
        self._wanted.setdefault(stream, deque()).append(first)
        self._fetch_more()

    def _fetch_more(self) -> None:
        room = self._engine.reads_at_once - len(self._fetching)
        for stream in tuple(islice((it for it in self._wanted if it not in self._fetching), room)):
            waiting = self._wanted.pop(stream)
            first = waiting.popleft()
            if waiting:
                self._wanted[stream] = waiting  # behind the others
            self._fetching.add(stream)
            done = partial(self._fetched, stream, first)
            self._engine.read(stream.id, stream.epoch, Wanted(first, stream.history.last), done)

    def _fetched(self, stream: DurableStream, first: int, page: StoredPage) -> None:
        if page.fault and first >= stream.history.floor:
            log.error("storage.read_failed", stream=stream.id, detail=page.fault)
        try:
            stream.add_page(first, page, self._clock.now())
            stream.recover()
            self.touch(self.channel(stream))
        except Exception:  # one stream's fault is not another's
            self._tally.faults += 1
            log.exception("page.failed", stream=stream.id)
        self._loop.call_soon(self._fetch_after, stream)  # between two pages the loop does other work

    def _fetch_after(self, stream: DurableStream) -> None:
        self._fetching.discard(stream)
        self._fetch_more()

    async def read_back(self, stream: Stream, after: int, size: int) -> StoredPage:
        """As `Dispatcher.read_back`; what can't be read is told as a fault."""
        answer: asyncio.Future[StoredPage] = self._loop.create_future()

        def done(page: StoredPage) -> None:
            if not answer.done():
                answer.set_result(page)

        self._engine.read(stream.id, stream.epoch, Wanted(after + 1, stream.log.head, size), done)
        return await self.read_in_time(stream, answer)

    async def read_in_time(self, stream: Stream, reading: Awaitable[T]) -> T:
        """As `Dispatcher.read_in_time`."""
        try:
            async with asyncio.timeout(self._engine_timeout):
                return await reading
        except TimeoutError:
            raise StreamError(ErrorKind.FULL, "read", stream.id, self._silence) from None

    # Commits

    def check_room(self, stream: Stream, now: float) -> None:
        """As `Dispatcher.check_room`; nothing is taken while the engine can't commit."""
        self._check_engine(stream)
        super().check_room(stream, now)

    def _check_engine(self, stream: Stream) -> None:
        if self._engine.failure is not None:
            raise StreamError(ErrorKind.FULL, "send", stream.id, f"nothing can be stored now: {self._engine.failure}")

    def append(
        self,
        stream: Stream,
        data: Data,
        timestamp: str | None = None,
        writer: Writer | None = None,
        is_urgent: bool = False,  # noqa: FBT001, FBT002 - a keyword costs more, for each event
    ) -> int | None:
        """As `Dispatcher.append`; nothing is taken while the engine can't commit."""
        if not self._is_checked:  # once a turn
            self._check_engine(stream)
        seq = super().append(stream, data, timestamp, writer, is_urgent)
        self._is_checked = True
        return seq

    def _deliver(self, channel: Channel) -> None:
        if channel.acking or not channel.stream.is_settled:
            self._commit_soon(channel)
        else:
            self._scheduler.deliver(channel)

    def _touch(self, channel: Channel) -> None:
        if channel.acking or not channel.stream.is_settled:
            self._commit_soon(channel)
        self._scheduler.touch(channel)

    def when_committed(self, channel: Channel, then: Callable[[], None]) -> None:
        """Call a function when everything appended so far is committed and delivered."""
        self._then.setdefault(channel, []).append(then)
        self._commit_soon(channel)

    async def wait_until_committed(self, stream: Stream) -> None:
        """As `Dispatcher.wait_until_committed`.

        Raises:
            StreamError: full, another gateway has taken the stream over.
        """
        await super().wait_until_committed(stream)
        if isinstance(stream, DurableStream) and stream.is_lost:
            raise StreamError(ErrorKind.FULL, "change", stream.id, "another gateway serves this stream now: try again")

    async def commit_in_time(self, stream: Stream) -> None:
        """As `Dispatcher.commit_in_time`."""
        committing = self._loop.create_task(self.wait_until_committed(stream))
        try:
            async with asyncio.timeout(self._engine_timeout):
                while self._engine.failure is None and not committing.done():
                    await asyncio.wait({committing}, timeout=CHECK)
        except TimeoutError:
            pass
        finally:
            is_in_time = committing.done() or not committing.cancel()
        if not is_in_time:
            why = self._engine.failure or self._silence
            raise StreamError(ErrorKind.FULL, "change", stream.id, unstored(why))
        await committing

    def _commit_soon(self, channel: Channel) -> None:
        self._queue[channel] = None
        if not self._is_committing_soon:
            self._is_committing_soon = True
            self._loop.call_soon(self._commit)

    def _commit(self) -> None:
        """Hand what was staged in this turn over to the engine."""
        self._is_committing_soon = self._is_checked = False
        queue, self._queue = self._queue, {}
        flights = []
        for channel in queue:
            stream = channel.stream
            assert isinstance(stream, DurableStream), "the manager makes no others while it has a store"
            commit, then = stream.take_commit(), self._then.pop(channel, [])
            acks = channel.take_acks() if channel.acking else []
            if commit is not None or acks or then:
                flights.append(_InFlight(stream, commit or stream.no_commit, commit is None, acks, then))
        if flights:
            commits = [flight.commit for flight in flights]
            self._engine.commit(commits, partial(self._committed, flights, monotonic()))

    def _committed(self, flights: list[_InFlight], began: float, indexes: Iterable[int]) -> None:
        now = self._clock.now()
        answered = [flights[index] for index in indexes]
        events = sum([len(flight.commit.frames) for flight in answered])
        if events:
            self._tally.commit_seconds.observe(monotonic() - began, events)
        for flight in answered:
            try:
                self._conclude(flight, now)
            except Exception:  # one stream's fault is not another's
                self._tally.faults += 1
                log.exception("commit.failed", stream=flight.stream.id)
        self._merging.make_one()

    def _conclude(self, flight: _InFlight, now: float) -> None:
        """Deliver what is committed, and acknowledge it."""
        stream, commit = flight.stream, flight.commit
        channel = self.channel(stream)  # it may have another than when the commit was taken
        if stream.is_lost:
            flight.acks.clear()
        elif not flight.is_empty:
            self._tally.committed_bytes += commit.cost - EVENT_OVERHEAD * len(commit.frames)
            stream.commit(commit, now)
            if stream.history.has_news:
                stream.history.has_news = False
                self._trim(stream, now)
                self._merging.add(stream)
        if flight.acks:
            channel.acks += flight.acks
        if flight.then:
            channel.then += flight.then
        self._scheduler.deliver(channel)

    def _flush(self) -> None:
        self._commit()
        self._scheduler.flush()
