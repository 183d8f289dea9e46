"""Whose streams are, where several gateways use one engine: found, begun, and left to others when this one ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from deltawire.gateway.engines.engine import Elsewhere, Engine, EngineError, StoredStream
from deltawire.gateway.hub.clock import Clock
from deltawire.gateway.streams.durable import DurableStream
from deltawire.gateway.streams.manager import StreamManager
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.errors import StreamError

TRIES: Final = 3
"""How often a stream is begun that others begin, and end, at the same moments."""


class Ownership:
    """Finds out for each stream whether it is this gateway's.

    Args:
        engine: knows.
        manager: the streams of this gateway.
        clock: of the hub.
        found: takes a stream over whose gateway has gone.
        commit_in_time: as `Dispatcher.commit_in_time`.
    """

    def __init__(
        self,
        engine: Engine,
        manager: StreamManager,
        clock: Clock,
        found: Callable[[StoredStream], None],
        commit_in_time: Callable[[Stream], Awaitable[None]],
    ) -> None:
        self._engine = engine
        self._manager = manager
        self._clock = clock
        self._found = found
        self._commit_in_time = commit_in_time
        self._locating: dict[str, asyncio.Task[Elsewhere | None]] = {}
        self._unclaimed: set[Stream] = set()  # the engine has yet to say that they are this gateway's

    @property
    def is_shared(self) -> bool:
        """Whether other gateways may have streams of the same engine."""
        return bool(self._engine.key)

    def begun(self, stream: Stream) -> None:
        """Record that the engine was told of a new stream."""
        self._unclaimed.add(stream)

    def is_unclaimed(self, stream: Stream) -> bool:
        """Whether the engine has yet to say whose it is."""
        return stream in self._unclaimed

    def settled(self, stream: Stream) -> None:
        """Record that the engine has said whose it is."""
        self._unclaimed.discard(stream)

    async def give_up(self, streams: Collection[DurableStream]) -> None:
        """Leave streams to other gateways, once what was appended is committed; if it can't be, they stay here.

        Args:
            streams: all that are this gateway's.
        """
        for stream in streams:
            stream.is_leaving = True
        unsettled = [it for it in streams if not it.is_settled or self.is_unclaimed(it)]
        await asyncio.gather(*map(self._commit_in_time, unsettled), return_exceptions=True)
        if not all(it.is_settled or it.is_lost for it in unsettled):
            return
        own = [it for it in streams if not it.is_lost]
        for stream in own:
            stream.is_lost = True  # another gateway may append from now on
            self._manager.give_up(stream)
        await self._engine.give_up([(it.id, it.epoch) for it in own])

    def locate(self, stream_id: str) -> Awaitable[Elsewhere | None] | None:
        """As `Dispatcher.locate`: a stream that nobody serves any more is taken over."""
        if stream_id in self._locating:
            return asyncio.shield(self._locating[stream_id])
        finding = None if self._manager.has(stream_id) else self._engine.locate(stream_id)
        if finding is None:
            return None
        task = self._locating[stream_id] = asyncio.get_running_loop().create_task(self._locate(stream_id, finding))
        return asyncio.shield(task)

    async def stop(self) -> None:
        """Look for no stream any more, as the engine is about to be closed."""
        locating = tuple(self._locating.values())
        for task in locating:
            task.cancel()
        await asyncio.gather(*locating, return_exceptions=True)

    async def _locate(self, stream_id: str, finding: Awaitable[StoredStream | Elsewhere | None]) -> Elsewhere | None:
        try:
            found = await finding
        except EngineError as error:
            return Elsewhere(f"nothing can be looked up now: {error}")
        finally:
            del self._locating[stream_id]
        if isinstance(found, Elsewhere):
            return found
        if found is not None:
            self._found(found)
        return None

    def claim(self, stream_id: str) -> Awaitable[Elsewhere | None] | None:
        """As `Dispatcher.claim`."""
        if not self.is_shared:
            return None
        if self._manager.has(stream_id) and not self.is_unclaimed(self._manager.get(stream_id)):
            return None
        return self._claim(stream_id)

    async def _claim(self, stream_id: str) -> Elsewhere | None:
        for _ in range(TRIES):
            try:
                stream = self._manager.get_or_create(stream_id, self._clock.now())
            except StreamError:
                return None  # which is told whoever asks for it now
            try:
                await self._commit_in_time(stream)
            except StreamError as error:
                if self._manager.has(stream_id):
                    return Elsewhere(error.detail)
            else:
                return None
            finding = self.locate(stream_id)  # another gateway was quicker
            if finding is not None and (elsewhere := await finding) is not None:
                return elsewhere
        return Elsewhere(f"stream {stream_id!r} begins and ends at other gateways: try again later")
