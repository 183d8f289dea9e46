"""The connection side of a publisher: sending events, and handling the gateway's messages.

`run` is one task: it opens a connection and reads from it; two more tasks write to it and renew the token. What they
share with the program that publishes changes between two `await`s, so that cancelling a `send` never leaves half a
message.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from msgspec import UNSET, structs
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from deltawire.gateway.client import connection as connections
from deltawire.gateway.client.changes import Changes
from deltawire.gateway.client.connection import Connector, judge_close
from deltawire.gateway.client.errors import ClientError, EventRefused, NotDelivered, ProtocolFault, event_refusal
from deltawire.gateway.client.window import Window
from deltawire.protocol.codec import Codec
from deltawire.protocol.codes import CloseCode, ProblemCode
from deltawire.protocol.errors import WireError
from deltawire.protocol.events import Event
from deltawire.protocol.messages import Ack, Audience, CloseStream, Message, Problem, Ready, Signal

BATCH_EVENTS: Final = 64
"""Maximum events per message: a longer array would save nothing more per event."""

BATCH_BYTES: Final = 48 * 1024
"""Maximum bytes of events per message: larger arrays save nothing more, and delay the ack of their first event."""

MAX_SIGNALS: Final = 256
"""Signals kept for `Publisher.signals`; if nobody reads them, the oldest are discarded."""


class PublisherSession:
    """The publication to one stream, over all connections.

    Args:
        stream: the stream's id, for messages.
        target: the whole URL.
        connector: opens the connections.
        codec: the encoding of messages.
        window: maximum number of unacked events.
        max_message: maximum bytes of a message.

    Attributes:
        window: events sent and not yet acked.
        seq: the seq of the last event that the gateway acked.
        consumers: the last reported number of consumers of the stream; None without a connection.
    """

    def __init__(  # noqa: PLR0913 - each is one fact about the publication
        self, *, stream: str, target: str, connector: Connector, codec: Codec, window: int, max_message: int
    ) -> None:
        self.window = Window(window)
        self.seq = 0
        self.consumers: int | None = None
        self._stream = stream
        self._target = target
        self._connector = connector
        self._codec = codec
        self._batch_bytes = min(BATCH_BYTES, max_message * 3 // 4)  # the rest is reserved for the array's own bytes
        self._changed = Changes()  # of all of this state
        self._ready = False  # on the current connection
        self._careful = False  # send one event at a time, to find the refused one
        self._closing = False  # the stream is to be closed
        self._over = False  # no further connection will be opened
        self._failure: ClientError | None = None
        self._refusals: deque[EventRefused] = deque()
        self._signals: deque[Signal] = deque(maxlen=MAX_SIGNALS)

    # The program's side

    @property
    def connection_failure(self) -> str | None:
        """Why there is no connection; None while one is open, or before an attempt has failed."""
        return self._connector.failure

    async def wait_ready(self) -> None:
        """Wait until the gateway is ready for events.

        Raises:
            ClientError: it will never be.
        """
        await self._wait_for(lambda: self._ready)

    async def append(self, event: Event, size: int) -> None:
        """Accept an event of `size` bytes as soon as the window has room.

        Raises:
            ClientError: an earlier event was refused, or this event can no longer be sent.
        """
        await self._changed.wait_for(lambda: self.window.has_room or self._refusals or self._over)
        self._raise_refusal()
        if self._over or self._closing:
            raise self._failure or NotDelivered(f"stream {self._stream!r}: this publisher has ended")
        self.window.append(event, size)
        self._changed.notify()

    async def flush(self) -> None:
        """Wait until everything appended is acked.

        Raises:
            ClientError: an event was refused, or the remaining events can no longer be sent.
        """
        await self._changed.wait_for(lambda: not self.window or self._refusals or self._over)
        self._raise_refusal()
        if self.window:
            raise self._failure or self.not_delivered()

    async def close_stream(self) -> None:
        """Tell the gateway to end the stream and wait until it has; all events must be acked before.

        Raises:
            ClientError: the gateway can no longer be told.
        """
        self._closing = True
        self._changed.notify()
        await self._wait_for(lambda: self._over)

    async def next_signal(self) -> Signal | None:
        """The next signal from a reader; None when the publication is over."""
        await self._changed.wait_for(lambda: self._signals or self._over)
        return self._signals.popleft() if self._signals else None

    def discard_signals(self) -> None:
        """Forget the signals that nobody has taken."""
        self._signals.clear()

    async def wait_ended(self) -> None:
        """Wait until the publication is over.

        Raises:
            ClientError: it ended with an error.
        """
        await self._wait_for(lambda: self._over)

    async def wait_alone(self, seconds: float) -> None:
        """Wait until the stream, after it has had a consumer, has had none for `seconds` without interruption.

        Raises:
            ClientError: the publication failed.
        """
        await self._wait_for(lambda: bool(self.consumers))
        while not self._over:
            await self._wait_for(lambda: self.consumers == 0)
            try:
                async with asyncio.timeout(seconds):
                    await self._wait_for(lambda: self.consumers != 0)
            except TimeoutError:
                return

    def not_delivered(self) -> NotDelivered:
        """The error for the unacked events."""
        return NotDelivered(f"stream {self._stream!r}: {len(self.window)} events were sent and never acked")

    async def _wait_for(self, condition: Callable[[], bool]) -> None:
        await self._changed.wait_for(lambda: condition() or self._over)
        if self._failure is not None:
            raise self._failure

    def _raise_refusal(self) -> None:
        if self._refusals:
            raise self._refusals.popleft()

    # The gateway's side

    async def run(self) -> None:
        """Publish until the stream is closed or publishing fails for good; the publisher owns this task."""
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
            self._changed.notify()

    async def _converse(self, connection: ClientConnection) -> str | ClientError:
        """Publish on one connection until it ends; return how it ended."""
        async with asyncio.TaskGroup() as tasks:
            helpers = [
                tasks.create_task(self._write(connection)),
                tasks.create_task(self._renew_tokens(connection)),
            ]
            ended = await self._read(connection)
            for task in helpers:
                task.cancel()
        self._ready = False
        self.consumers = None
        self._changed.notify()
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
            return ProtocolFault(f"the gateway sent an invalid message: {error.message}")
        except ProtocolFault as error:
            return error

    async def _take(self, message: Message | None) -> str | None:
        """Act on one message; return a reason to reconnect, or None."""
        reason: str | None = None
        match message:
            case Ready():
                before = len(self.window)
                self.window.resume(message)
                self._ready = True
                self.consumers = 0  # the gateway reports only changes from here on
                # An event may crash the gateway: while events are left, only accepted ones count as progress.
                if not self.window or len(self.window) < before:
                    self._connector.progressed()
            case Ack():
                self.seq = message.seq
                if message.producer_seq is not UNSET:
                    self.window.ack(message.producer_seq)
                self._careful = self._careful and bool(self.window)
                self._connector.progressed()
            case Problem():
                reason = self._take_problem(message)
            case Signal():
                self._signals.append(message)
            case Audience():
                self.consumers = message.consumers
        self._changed.notify()
        return reason

    def _take_problem(self, problem: Problem) -> str | None:
        match problem.code:
            case ProblemCode.EVENT_DROPPED:  # its ack comes, as of any other
                self._refusals.append(event_refusal(problem))
                return None
            case ProblemCode.INVALID_EVENT | ProblemCode.STREAM_FULL:
                if problem.producer_seq is UNSET and self.window.in_flight > 1:
                    self._careful = True  # perhaps a whole array was refused because of its length
                    return f"an event was refused: {problem.message}"
                number = problem.producer_seq if problem.producer_seq is not UNSET else self.window.acked + 1
                leaves_holes = self.window.refuse(number)
                self._refusals.append(event_refusal(structs.replace(problem, producer_seq=number)))
                self._connector.progressed()  # the window is shorter by one, so it will become empty
                # Events already sent after it are refused for their numbers. A new connection resolves this: answers
                # to the old numbers can arrive only on the old connection.
                return f"event {number} was refused" if leaves_holes else None
            case ProblemCode.SEQUENCE_GAP:
                return f"an event was missed: {problem.message}"
            case ProblemCode.UNKNOWN_MESSAGE:
                raise ProtocolFault(f"the gateway does not know a message of this version: {problem.message}")
            case _:
                return None  # a close follows and is handled there

    async def _write(self, connection: ClientConnection) -> None:
        with suppress(ConnectionClosed):  # `_read` notices it too, with the reason
            while True:
                await self._changed.wait_for(self._may_write)
                batch = self.window.take(1 if self._careful else BATCH_EVENTS, self._batch_bytes)
                message = (batch[0] if len(batch) == 1 else batch) if batch else CloseStream()
                await connections.send(connection, self._codec.encode(message), text=self._codec.is_text)
                if not batch:
                    return

    async def _renew_tokens(self, connection: ClientConnection) -> None:
        """Send a fresh token whenever one is due."""
        with suppress(ConnectionClosed):
            while (due := self._connector.tokens.renew_at) is not None:
                await asyncio.sleep(due - asyncio.get_running_loop().time())
                await self._connector.renew_token(connection)

    def _may_write(self) -> bool:
        if not self._ready or (self._careful and self.window.in_flight):
            return False
        return self.window.has_unsent or self._closing
