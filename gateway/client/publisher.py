"""Publishing to a stream: numbered, pipelined, each event once.

One task owns the connection: it opens it, reads acks, and has a second one beside it that writes. `send` only hands
events to the window they share, so cancelling a `send` never cuts a message in two.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

from msgspec import UNSET, structs
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from gateway.client import connection as connections
from gateway.client.backoff import DEFAULT_BACKOFF, Backoff
from gateway.client.connection import Connector, OnReconnect, judge_close
from gateway.client.errors import ClientError, EventRefused, NotDelivered, ProtocolFault, event_refusal
from gateway.client.urls import publish_url
from gateway.client.window import Window
from protocol.addresses import OnFull, PublishRequest
from protocol.codec import JSON, Codec, check_json
from protocol.codes import CloseCode, ProblemCode
from protocol.errors import WireError
from protocol.events import MAX_SEQ, Data, Event, Extension, make_event
from protocol.messages import Ack, Audience, CloseStream, Message, Problem, Ready, Signal

BATCH_EVENTS: Final = 64
"""Events of one message: past this, an array saves nothing more per event."""

BATCH_BYTES: Final = 48 * 1024
"""Bytes of events in one message: larger arrays save no more, and hold up the ack of their first event."""

MAX_SIGNALS: Final = 256
"""Signals kept for `signals()`; without a reader the oldest are forgotten."""

LEAVE_TIMEOUT: Final = 5.0
"""Seconds without an ack after which leaving the context gives up on the rest."""


class Publisher:
    """Publishes to one stream; an async context manager.

        async with Publisher("ws://127.0.0.1:8765", "demo") as publisher:
            await publisher.send(TextDelta(text="Hello"))

    Events are numbered, so that what is sent again after a lost connection is appended once. When the gateway
    restarts without memory (another `epoch`), what was not acked is numbered anew and sent again; what was acked in
    the old epoch is gone with it. Leaving the context waits for the acks; leaving it by an exception does not.

    With `on_full="reject"` one event is on its way at a time, so that each `send` can tell the fate of its own event.

    Args:
        url: the gateway's address, `ws://HOST:PORT`.
        stream: the stream's id.
        producer: id of this producer; None makes a random one. With an id that was used before in the same
            generation, numbers go on from there.
        generation: the newest one of a producer id may publish, older ones are `Fenced`.
        on_full: wait for slow `block` consumers, or raise `StreamFull`.
        window: events that may be unacked, 1 or more; `send` waits beyond.
        max_message: bytes of the largest event, as the gateway is configured (64 KiB by default).
        retry_for: seconds without progress after which to give up; None never does, 0 never retries.
        codec: `JSON` or `MSGPACK`.
        on_reconnect: told the reason and the seconds of each wait before a new attempt.
        backoff: how long these waits are.

    Attributes:
        seq: the gateway's number of the last event it acked; 0 before.
        consumers: how many follow the stream, as last told; None before.

    Raises:
        ValueError: the address or the stream id is wrong.
        WireError: `bad_request`, naming the argument that is wrong.
    """

    def __init__(  # noqa: PLR0913 - what a publication can ask for
        self,
        url: str,
        stream: str,
        *,
        producer: str | None = None,
        generation: int = 0,
        on_full: OnFull = "wait",
        window: int = 1024,
        max_message: int = 64 * 1024,
        retry_for: float | None = 30.0,
        codec: Codec = JSON,
        on_reconnect: OnReconnect | None = None,
        backoff: Backoff = DEFAULT_BACKOFF,
    ) -> None:
        self.seq = 0
        self.consumers: int | None = None
        self._stream = stream
        self._codec = codec
        self._max_message = max_message
        self._batch_bytes = min(BATCH_BYTES, max_message * 3 // 4)  # the rest is room for the array's own bytes
        self._one_by_one = on_full == "reject"
        request = PublishRequest(producer=producer or uuid4().hex, generation=generation, on_full=on_full)
        self._target = publish_url(url, stream, request)
        self._connector = Connector(url, codec, backoff, retry_for, on_reconnect)
        self._window = Window(1 if self._one_by_one else window)
        self._changed = asyncio.Condition()  # guards what is below, and the window
        self._ready = False
        self._careful = False  # one event at a time, to find the one that is refused
        self._closing = False  # the stream is to be closed
        self._over = False  # there will be no connection any more
        self._failure: ClientError | None = None
        self._refusals: deque[EventRefused] = deque()
        self._signals: deque[Signal] = deque(maxlen=MAX_SIGNALS)
        self._turn = asyncio.Lock()  # of `send`, one by one
        self._task: asyncio.Task[None] | None = None

    @property
    def acked(self) -> int:
        """The producer's own number of the last event the gateway acked, 0 before."""
        return self._window.acked

    @property
    def epoch(self) -> str:
        """The epoch of the stream's log; it changes when the gateway lost its memory."""
        return self._window.epoch

    async def send(self, item: Data | Event) -> None:
        """Publish one event; waits while `window` events are unacked.

        Args:
            item: data, or an event with a timestamp of its own; its `producer_seq` is replaced.

        Raises:
            EventRefused: this event is not valid, or too big; or the gateway refused an earlier one.
            StreamFull: the stream is full (with `on_full="reject"`); the event was dropped and may be sent again.
            Refused: the gateway said no; `StreamClosed` and `Fenced` are kinds of it.
            GatewayUnreachable: the connection was lost and did not come back in time.
        """
        event, size = self._check(item)
        if self._one_by_one:
            async with self._turn:
                await self._append(event, size)
                await self.flush()
        else:
            await self._append(event, size)

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until everything sent is acked.

        Args:
            timeout: seconds to wait; None waits as long as the connection lives or may come back.

        Raises:
            TimeoutError: not everything was acked in time.
            ClientError: as `send`.
        """
        async with asyncio.timeout(timeout), self._changed:
            await self._changed.wait_for(lambda: not self._window or self._refusals or self._over)
            self._raise_refusal()
            if self._window:
                raise self._failure or self._not_delivered()

    async def close_stream(self) -> None:
        """End the stream: flush, then tell the gateway, and wait until it has confirmed.

        Raises:
            ClientError: as `send`.
        """
        await self.flush()
        async with self._changed:
            self._closing = True
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._over)
        if self._failure is not None:
            raise self._failure

    async def signals(self) -> AsyncIterator[Signal]:
        """What readers signal to the producers, `cancel` first of all, until the publisher is left or fails."""
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._signals or self._over)
                if not self._signals:
                    return
                signal = self._signals.popleft()
            yield signal

    async def __aenter__(self) -> Self:
        """Connect and wait until the gateway is ready for events.

        Raises:
            GatewayUnreachable: it did not answer in time.
            Refused: it said no.
        """
        self._task = asyncio.create_task(self._run(), name=f"publisher {self._stream}")
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: self._ready or self._over)
        except BaseException:
            await self._leave()
            raise
        if self._failure is not None:
            await self._leave()
            raise self._failure
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the acks, unless left by an exception; then close.

        Raises:
            NotDelivered: no ack came for some seconds; call `flush` before leaving to wait longer.
            ClientError: as `send`.
        """
        try:
            if error is None:
                await self._flush_while_acked()
        finally:
            await self._leave()

    async def _flush_while_acked(self) -> None:
        while True:
            acked = self.acked
            try:
                return await self.flush(LEAVE_TIMEOUT)
            except TimeoutError:
                if self.acked == acked:
                    raise self._not_delivered() from None

    async def _leave(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            if not self._task.cancelled():
                self._task.result()  # a defect of this module must be heard

    def _not_delivered(self) -> NotDelivered:
        return NotDelivered(f"stream {self._stream!r}: {len(self._window)} events were sent and never acked")

    def _raise_refusal(self) -> None:
        if self._refusals:
            raise self._refusals.popleft()

    def _check(self, item: Data | Event) -> tuple[Event, int]:
        """The event in its envelope, judged as the gateway would, with its size in bytes."""
        event = item if isinstance(item, Event) else make_event(item)
        try:
            if isinstance(event.data, Extension):
                check_json(event.data.data, "$.data.data", ProblemCode.INVALID_EVENT)
            payload = self._codec.encode(structs.replace(event, producer_seq=MAX_SEQ))
            self._codec.decode_from_producer(payload)
        except WireError as error:
            raise _event_refused(error.code, error.message) from None
        if len(payload) > self._max_message:
            reason = f"the event has {len(payload)} bytes, the limit is {self._max_message}"
            raise _event_refused(ProblemCode.MESSAGE_TOO_BIG, reason)
        return event, len(payload)

    async def _append(self, event: Event, size: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._window.has_room or self._refusals or self._over)
            self._raise_refusal()
            if self._failure is not None:
                raise self._failure
            if self._over or self._closing:
                raise NotDelivered(f"stream {self._stream!r}: this publisher has ended")
            self._window.append(event, size)
            self._changed.notify_all()

    # The task that owns the connection.

    async def _run(self) -> None:
        try:
            while not self._over:
                connection = await self._connector.open(self._target)
                try:
                    ended = await self._converse(connection)
                finally:
                    await connections.close(connection)
                self._connector.note(ended)
        except ClientError as error:
            self._failure = error
        finally:
            self._over = True
            async with self._changed:
                self._changed.notify_all()

    async def _converse(self, connection: ClientConnection) -> str | ClientError:
        """Publish on one connection until it ends; how it ended."""
        self._ready = False
        async with asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(self._write(connection))
            ended = await self._read(connection)
            writer.cancel()
        return ended

    async def _read(self, connection: ClientConnection) -> str | ClientError:
        problem: Problem | None = None
        try:
            while True:
                message = self._codec.decode_to_producer(await connection.recv(decode=False))
                if isinstance(message, Problem):
                    problem = message
                if reason := await self._take(message):
                    return reason
        except ConnectionClosed as error:
            if self._closing and error.rcvd and error.rcvd.code in (CloseCode.STREAM_ENDED, CloseCode.STREAM_CLOSED):
                self._over = True
                return "the stream is closed, as asked"
            return judge_close(error, problem)
        except WireError as error:
            return ProtocolFault(f"the gateway sent what is no message: {error.message}")
        except ProtocolFault as error:
            return error

    async def _take(self, message: Message | None) -> str | None:
        """Act on one message; the reason to connect anew, if it is one."""
        reason: str | None = None
        async with self._changed:
            match message:
                case Ready():
                    self._window.resume(message)
                    self._ready = True
                    if not self._window:  # otherwise only an ack is progress: an event may be what breaks the gateway
                        self._connector.progressed()
                case Ack():
                    self.seq = message.seq
                    if message.producer_seq is not UNSET:
                        self._window.ack(message.producer_seq)
                    self._careful = self._careful and bool(self._window)
                    self._connector.progressed()
                case Problem():
                    reason = self._take_problem(message)
                case Signal():
                    self._signals.append(message)
                case Audience():
                    self.consumers = message.consumers
            self._changed.notify_all()
        return reason

    def _take_problem(self, problem: Problem) -> str | None:
        match problem.code:
            case ProblemCode.INVALID_EVENT | ProblemCode.STREAM_FULL:
                if problem.producer_seq is UNSET and self._window.in_flight > 1:
                    self._careful = True  # a whole array may have been refused for the sake of its length
                    return f"an event was refused: {problem.message}"
                number = problem.producer_seq if problem.producer_seq is not UNSET else self.acked + 1
                self._refusals.append(event_refusal(problem))
                # What was under way behind it is refused for its numbers. A new connection sorts that out: the
                # answers to the old numbers end with the old one.
                return f"event {number} was refused" if self._window.refuse(number) else None
            case ProblemCode.SEQUENCE_GAP:
                return f"an event was missed: {problem.message}"
            case ProblemCode.UNKNOWN_MESSAGE:
                raise ProtocolFault(f"the gateway does not know a message of this version: {problem.message}")
            case _:
                return None  # a close follows, and is judged

    async def _write(self, connection: ClientConnection) -> None:
        with suppress(ConnectionClosed):  # the reader learns of it too, and why
            while True:
                async with self._changed:
                    await self._changed.wait_for(self._may_write)
                    batch = self._window.take(1 if self._careful else BATCH_EVENTS, self._batch_bytes)
                message = (batch[0] if len(batch) == 1 else batch) if batch else CloseStream()
                await connection.send(self._codec.encode(message), text=self._codec.is_text)
                if not batch:
                    return

    def _may_write(self) -> bool:
        if not self._ready or (self._careful and self._window.in_flight):
            return False
        return self._window.has_unsent or self._closing


def _event_refused(code: ProblemCode, message: str) -> EventRefused:
    return EventRefused(Problem(code=code, message=message, retryable=False))
