"""The way of one answer to its readers: a buffer, and a task that publishes what is in it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack
from typing import Any, Final, TypeVar

from msgspec import UNSET

from deltawire.gateway.client import ClientError, EventRefused, Publisher
from deltawire.gateway.client.upstream import INCOMPLETE, cut_short, end_as
from deltawire.gateway.logs import get_logger
from deltawire.gateway.tee.failures import events_of
from deltawire.gateway.tee.folding import cost, fold
from deltawire.protocol.events import Data, Error, MessageStop
from deltawire.protocol.providers import Translator

T = TypeVar("T")

END: Final = object()
"""In place of a chunk: there is none."""

_WAITING: Final[set[asyncio.Task[None]]] = set()
"""Ends of answers that are waited for aside: the event loop itself keeps no task."""

log = get_logger()


class Relay:
    """The way of one answer to its readers; nothing it does reaches the program.

    Args:
        publisher: where events go; entered here if it isn't.
        translator: makes events of chunks.
        limit: maximum bytes of events held, about.
        on_cancel: called when a reader cancels, which ends the answer; None if readers may not.
        close: whether the publisher's stream ends with it.

    Attributes:
        dropped: number of chunks of which readers did not get everything.
        failure: why no more is published.
        is_cancelled: whether a reader cancelled.
    """

    def __init__(
        self,
        publisher: Publisher,
        translator: Translator,
        limit: int,
        *,
        on_cancel: Callable[[], None] | None,
        close: bool,
    ) -> None:
        self.dropped = 0
        self.failure: str | None = None
        self.is_cancelled = False
        self._publisher = publisher
        self._translator = translator
        self._limit = limit
        self._on_cancel = on_cancel
        self._closes = close
        self._buffer: deque[tuple[list[Data], int, int]] = deque()  # events, of how many chunks, and their size
        self._size = 0  # bytes that they take
        self._is_told = False  # there were events
        self._lost_before = publisher.lost  # by the gateway, of answers before
        self._is_over = False  # the answer has ended
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._scope: asyncio.Timeout | None = None  # of waiting for a chunk

    @property
    def lost(self) -> int:
        """Number of events that the gateway acked, and lost with its memory."""
        return max(0, self._publisher.lost - self._lost_before)

    # The program's side: nothing here waits for the gateway, or raises

    def start(self) -> None:
        """Begin to publish."""
        self._task = asyncio.create_task(self._run(), name=f"tee {self._publisher.stream}")

    async def next_of(self, iterator: AsyncIterator[T]) -> T | Any:
        """The next chunk; `END` when there is none, or a reader has cancelled."""
        if self.is_cancelled:
            return END
        if self._on_cancel is None:
            return await anext(iterator, END)
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._scope = scope
                return await anext(iterator, END)
        except TimeoutError:
            if not scope.expired():
                raise  # by the stream itself
            return END
        finally:
            self._scope = None

    def take(self, chunk: object) -> None:
        """Publish a chunk."""
        if self.failure is not None:
            self.dropped += 1
            return
        match chunk:
            case bytes() | bytearray() | memoryview():
                self._put(lambda: self._translator.feed(bytes(chunk)), chunks=1)
            case str():
                data = chunk.encode("utf-8", "surrogatepass")
                self._put(lambda: self._translator.feed(data), chunks=1)
            case _:
                self._put(lambda: self._translator.feed_object(chunk), chunks=1)

    def fail(self, error: Exception) -> None:
        """Tell readers that the stream failed."""
        self._put(lambda: events_of(error, self._translator))

    def end(self) -> None:
        """Tell readers that the answer has ended, as the last thing."""
        reason = "cancelled" if self.is_cancelled else INCOMPLETE
        self._put(lambda: end_as(reason, self._translator.finish()))
        if not self._is_told:
            what = "was cancelled" if self.is_cancelled else "ended"
            self._put(lambda: [Error(f"the answer {what} before it began", reason)])
        self._is_over = True
        self._changed.set()

    async def wait(self, seconds: float) -> None:
        """Wait until everything is published, for a time; give up what is not.

        The message of a cancellation is the reason that is logged.
        """
        if self._task is None:
            return
        why = f"not all was published within {seconds:g} s of its end (linger)"
        try:
            await asyncio.wait([self._task], timeout=seconds)
        except asyncio.CancelledError as cancelled:
            why = str(cancelled) or "the wait for its end was cancelled"
            raise
        finally:
            if not self._task.done():
                self._lose(self._explained(why))
                self._task.cancel()
                await asyncio.wait([self._task])
            if self.dropped or self.lost:
                log.warning("tee.ended", stream=self._publisher.stream, dropped=self.dropped, lost=self.lost)

    def wait_aside(self, seconds: float) -> None:
        """Wait as `wait`, in a task."""
        task = asyncio.create_task(self.wait(seconds), name=f"end of tee {self._publisher.stream}")
        _WAITING.add(task)
        task.add_done_callback(_WAITING.discard)

    def _put(self, translate: Callable[[], Iterable[Data]], chunks: int = 0) -> None:
        """Hold the events of a translation for publishing."""
        if self.failure is not None:
            return
        try:
            events = list(translate())
            self._hold(events, chunks)
            if self._size > self._limit and chunks and events and not isinstance(events[-1], MessageStop):
                self._note(self._explained(f"events of {self._limit} bytes wait for the gateway (buffer)"))
                error = Error("the publisher was too slow: the rest of the answer is missing", "overflow")
                self._hold(cut_short(error, INCOMPLETE, self._translator.finish()), 0)
        except Exception:  # noqa: BLE001 - a defect of a translator is no fault of the program
            self._lose("a defect of deltawire", exc_info=True)

    def _hold(self, events: list[Data], chunks: int) -> None:
        if len(events) > 1:
            events = fold(events)
        elif len(self._buffer) > 1:  # the first one is being published
            last, of, size = self._buffer[-1]
            if len(last) <= 1 and len(joined := fold(last + events)) <= 1:
                self._buffer.pop()
                self._size -= size
                events, chunks = joined, of + chunks
        if events or chunks:
            if events:
                self._is_told = True
            size = sum(map(cost, events))
            self._buffer.append((events, chunks, size))
            self._size += size
            self._changed.set()

    def _note(self, why: str, **details: Any) -> None:
        """No more will be published."""
        if self.failure is None:
            self.failure = why
            log.warning("tee.failed", stream=self._publisher.stream, why=why, **details)

    def _explained(self, why: str) -> str:
        reason = self._publisher.connection_failure
        return f"{why}: no gateway can be reached, {reason}" if reason else why

    def _lose(self, why: str, **details: Any) -> None:
        """Nothing more can be published, what is held neither."""
        self._note(why, **details)
        self.dropped += sum(chunks for _, chunks, _ in self._buffer)
        self._buffer.clear()
        self._size = 0

    # The gateway's side

    async def _run(self) -> None:
        try:
            async with AsyncExitStack() as stack:
                is_ours = not self._publisher.is_entered
                if is_ours:
                    await stack.enter_async_context(self._publisher)
                if self._on_cancel is not None:
                    if not is_ours:
                        self._publisher.discard_signals()  # those of the answer before
                    watching = asyncio.create_task(
                        self._heed_signals(self._on_cancel), name=f"signals to {self._publisher.stream}"
                    )
                    stack.callback(watching.cancel)
                await self._publish()
                if is_ours or self._closes:
                    await self._flush()
                if self._closes:
                    await self._publisher.close_stream()
        except ClientError as error:
            self._lose(str(error))
        except Exception:  # noqa: BLE001 - a defect here is no fault of the program
            self._lose("a defect of deltawire", exc_info=True)

    async def _publish(self) -> None:
        """Publish what is held, until the answer has ended."""
        while True:
            while not self._buffer:
                if self._is_over:
                    return
                self._changed.clear()
                await self._changed.wait()
            events, chunks, size = self._buffer[0]
            is_whole = True
            for data in events:
                is_whole &= await self._send(data)
            if self._buffer:
                self._buffer.popleft()
                self._size -= size
            self.dropped += 0 if is_whole else chunks

    async def _send(self, data: Data) -> bool:
        """Publish one event; whether it wasn't refused."""
        while True:
            try:
                await self._publisher.send(data)
            except EventRefused as error:
                log.warning("tee.event_refused", stream=self._publisher.stream, why=str(error))
                if self._publisher.is_judged_at_once or error.problem.producer_seq is UNSET:
                    return False
                self.dropped += 1  # an earlier event was refused; this one is not sent yet
            else:
                return True

    async def _flush(self) -> None:
        """Wait for the acks."""
        while True:
            try:
                return await self._publisher.flush()
            except EventRefused as error:
                log.warning("tee.event_refused", stream=self._publisher.stream, why=str(error))
                self.dropped += 1

    async def _heed_signals(self, on_cancel: Callable[[], None]) -> None:
        """End the answer when a reader cancels."""
        async for signal in self._publisher.signals():
            if signal.name == "cancel":
                self.is_cancelled = True
                if self._scope is not None:
                    self._scope.reschedule(asyncio.get_running_loop().time())
                on_cancel()
                return
