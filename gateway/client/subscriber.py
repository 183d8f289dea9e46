"""Reading a stream: each event once, across lost connections.

A subscriber has no task of its own: the task that waits for the next frame reads the socket. If the program stops
reading, the gateway notices, and its policy applies. A lost connection is noticed and resumed when the program asks for
the next frame.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection
from ssl import SSLContext
from types import TracebackType
from typing import Any, Final, Self
from uuid import uuid4

from msgspec import UNSET, structs
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from deltawire.gateway.client import connection as connections
from deltawire.gateway.client.backoff import DEFAULT_BACKOFF, Backoff
from deltawire.gateway.client.connection import Connector, OnReconnect
from deltawire.gateway.client.errors import ClientError, NotDelivered, NotPermitted, ProtocolFault, TextMismatch
from deltawire.gateway.client.frames import Frame, Frames
from deltawire.gateway.client.proof import Proof
from deltawire.gateway.client.tokens import TokenProvider, Tokens
from deltawire.gateway.client.tracker import Tracker
from deltawire.gateway.client.urls import subscribe_url
from deltawire.protocol.addresses import Start, SubscribeRequest
from deltawire.protocol.codec import JSON, Codec
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import WireError
from deltawire.protocol.events import Event, EventType
from deltawire.protocol.messages import (
    CaughtUp,
    Gap,
    Message,
    Policy,
    Problem,
    Signal,
    SignalResult,
    StreamEnd,
    Subscribed,
    Urgent,
)
from deltawire.protocol.position import Position

MAX_KEPT: Final = 128 * 1024 * 1024
"""Approximate bytes kept for the iteration while `signal` waits for its answer: a whole log fits."""

FRAME_COST: Final = 1024
"""Approximate bytes that a message takes besides its payload."""


class Subscriber:
    """Reads one stream; an async context manager and an async iterable.

        async with Subscriber("ws://127.0.0.1:8765", "demo") as events:
            async for item in events: ...   # Event, or Gap in place of missing events

    It resumes after a lost connection, a restart of the gateway and every retryable close; each event is yielded once.
    Iteration ends at the end of the stream; a new iteration continues where the previous one stopped.

    Args:
        url: the gateway's address, `ws://HOST:PORT`.
        stream: the stream's id.
        start: where to begin without a position: at the oldest event held, or only with new events.
        position: resume after this position; overrides `start`.
        policy: policy for when this consumer falls behind; None leaves it to the gateway.
        buffer: lag limit in events, 1 to 10 000; None leaves it to the gateway.
        types: event types to receive; None means all.
        index: content blocks to receive, by their index; None means all.
        choice: choices to receive; None means all.
        kind: kinds of content blocks to receive; None means all.
        extension: extensions to receive, each `PROVIDER` or `PROVIDER/NAME`; None means all.
        urgent: event types to receive ahead while this consumer is behind, beside the events that producers mark, which
            are the only ones if it is empty; None means none. Each comes in its place, too.
        on_urgent: called with each event that came ahead, when it is read: while the program waits for the next one.
        interval: milliseconds between writes of the gateway, 0 to 1000; deltas in between are folded.
        create: whether to create a stream that does not exist; otherwise entering raises `StreamNotFound`.
        retry_for: seconds without progress after which to give up, from the first attempt on; None never gives up, 0
            never retries.
        codec: `JSON` or `MSGPACK`.
        on_reconnect: called before each wait with the reason and the seconds.
        token: a token, or a function that returns one, which is called for each connection and before a token expires;
            it may be asynchronous.
        backoff: the lengths of these waits.
        tls: the TLS context for a `wss` address; None trusts the system's CAs.

    Attributes:
        position: epoch and last seq covered by the yielded items; None before the first `subscribed`.
        subscribed: the gateway's `subscribed` message on the current connection.
        caught_up: whether the replay is complete, so that the next items are live.
        ended: the `stream_end` message, once the end of the stream is reached.

    Raises:
        ValueError: an argument is wrong; the message says which, and what is expected.
    """

    def __init__(  # noqa: PLR0913 - the options of a subscription
        self,
        url: str,
        stream: str,
        *,
        start: Start = "start",
        position: Position | None = None,
        policy: Policy | None = None,
        buffer: int | None = None,
        types: Collection[EventType] | None = None,
        index: Collection[int] | None = None,
        choice: Collection[int] | None = None,
        kind: Collection[str] | None = None,
        extension: Collection[str] | None = None,
        urgent: Collection[EventType] | None = None,
        on_urgent: Callable[[Event], None] | None = None,
        interval: int = 0,
        create: bool = True,
        retry_for: float | None = 30.0,
        codec: Codec = JSON,
        on_reconnect: OnReconnect | None = None,
        backoff: Backoff = DEFAULT_BACKOFF,
        tls: SSLContext | None = None,
        token: TokenProvider | None = None,
    ) -> None:
        self.position = position
        self.subscribed: Subscribed | None = None
        self.caught_up = False
        self.ended: StreamEnd | None = None
        self._url = url
        self._stream = stream
        self._codec = codec
        self._request = SubscribeRequest(
            start=start,
            position=position,
            policy=policy,
            buffer=buffer,
            types=None if types is None else frozenset(types),
            index=None if index is None else frozenset(index),
            choice=None if choice is None else frozenset(choice),
            kind=None if kind is None else frozenset(kind),
            extension=None if extension is None else frozenset(extension),
            urgent=None if urgent is None else frozenset(urgent),
            interval=interval,
            create=create,
        )
        if on_urgent is not None and urgent is None:
            raise ValueError("on_urgent: say which events with urgent; an empty collection means those that are marked")
        self._on_urgent = on_urgent
        subscribe_url(url, stream, self._request)  # raises here for a wrong argument
        self._proof = Proof(self._request.filter)
        self._tracker = Tracker(position, filtered=self._request.filter is not None)
        self._connector = Connector(url, codec, backoff, retry_for, on_reconnect, Tokens(token), tls=tls)
        self._connection: ClientConnection | None = None
        self._problem: Problem | None = None
        self._over = False  # the end was read, or the context was left: stop reading
        self._reading = asyncio.Lock()  # one task reads at a time, for all waiting tasks
        self._read: deque[tuple[Frame, Position | None] | TextMismatch] = deque()  # what iteration will yield or raise
        self._kept = 0  # their approximate bytes
        self._answers: dict[str, asyncio.Future[int]] = {}

    @property
    def proven(self) -> int:
        """Number of messages whose text was verified by the digest in their `message_stop`."""
        return self._proof.whole

    async def __aenter__(self) -> Self:
        """Connect and wait for the gateway's `subscribed`.

        Raises:
            GatewayUnreachable: it did not answer in time.
            Refused: it refused.
        """
        try:
            while self.subscribed is None:
                await self._read_ahead()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection, wherever reading has stopped."""
        self._over = True
        await self._close()

    def __aiter__(self) -> Self:
        """Iterate over all events, and gaps in place of missing events, until the stream ends."""
        return self

    async def __anext__(self) -> Event | Gap:
        """The next event or gap. Cancelling this, for example by a timeout, neither loses an event nor ends iteration.

        Raises:
            GatewayUnreachable: the connection was lost and could not be restored in time.
            Refused: the gateway refused.
            TextMismatch: a message ended whose text is wrong; a new iteration continues with its `message_stop`.
            ProtocolFault: the gateway broke the protocol.
        """
        while True:
            message = (await self._next_frame()).message
            if isinstance(message, Event | Gap):
                return message

    def frames(self) -> AsyncIterator[Frame]:
        """Iterate over all payloads as received, control messages included; otherwise like iterating over events."""
        return Frames(self._next_frame)

    async def _next_frame(self) -> Frame:
        if self.ended is not None:
            raise StopAsyncIteration
        async with self._reading:
            if not self._read:
                await self._read_ahead()
            if not self._read:
                raise StopAsyncIteration
            news = self._read.popleft()
        if isinstance(news, TextMismatch):
            raise news
        frame, self.position = news
        self._kept -= FRAME_COST + len(frame.payload)
        match frame.message:
            case Subscribed():
                self.caught_up = False
            case CaughtUp():
                self.caught_up = True
            case StreamEnd():
                self.ended = frame.message
        return frame

    async def signal(self, name: str, data: Any = UNSET, timeout: float = 10.0) -> int:
        """Send a signal to the stream's producers, e.g. `cancel`.

        Messages that arrive meanwhile are kept for the iteration; this may be called inside an iteration.

        Args:
            name: the name of the signal.
            data: any JSON value to send with it.
            timeout: seconds to wait for the gateway's answer.

        Returns:
            The number of producers it was delivered to.

        Raises:
            ValueError: name or data can't be sent.
            TimeoutError: no answer in time; the signal may have been delivered.
            NotPermitted: the token does not allow it.
            NotDelivered: the stream has ended, or the connection was lost (reading the next frame restores it).
        """
        key = uuid4().hex
        payload = self._encode(Signal(name=name, data=data, id=key))
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._answers[key] = answer
        try:
            async with asyncio.timeout(timeout):
                await self._send(payload)
                while not answer.done():
                    async with self._reading:  # a task that iterates meanwhile may read our answer
                        if self._kept > MAX_KEPT:
                            raise NotDelivered("too much came before the gateway answered the signal")
                        if not answer.done():
                            await self._read_ahead()
                    if self._over and not answer.done():
                        raise NotDelivered("the stream ended before the gateway answered the signal")
            return answer.result()
        finally:
            del self._answers[key]

    def _encode(self, signal: Signal) -> bytes:
        try:
            payload = self._codec.encode(signal)
            self._codec.decode_from_consumer(payload)
        except WireError as error:
            raise ValueError(error.message) from None
        except TypeError as error:  # of no wire type
            raise ValueError(str(error)) from None
        return payload

    async def _read_ahead(self) -> None:
        """Read until one new message is queued, or reading is over."""
        while not self._over:
            if self._connection is None:
                self._connection = await self._open()
            try:
                payload = await self._receive(self._connection)
            except ConnectionClosed as error:
                self._connection = None
                self._fail_signals()
                if not self._over:
                    self._connector.lost(error, self._problem)
                continue
            if self._take(payload):
                return

    async def _receive(self, connection: ClientConnection) -> bytes:
        """The next payload; meanwhile, send a fresh token when one is due."""
        while (due := self._connector.tokens.renew_at) is not None:
            try:
                async with asyncio.timeout_at(due):
                    return await connection.recv(decode=False)
            except TimeoutError:
                await self._connector.renew_token(connection)
        return await connection.recv(decode=False)

    async def _open(self) -> ClientConnection:
        self._problem = None
        request = structs.replace(self._request, position=self._tracker.position)
        try:
            target = subscribe_url(self._url, self._stream, request)
        except ValueError as error:  # the arguments of the program were validated in __init__
            raise ProtocolFault(f"the gateway sent an epoch that is not valid in a request: {error}") from None
        return await self._connector.open(target)

    def _take(self, payload: bytes) -> bool:
        """Act on one message; return whether it is new to the reader."""
        try:
            message = self._codec.decode_to_consumer(payload)
        except WireError as error:
            raise ProtocolFault(f"the gateway sent an invalid message: {error.message}") from None
        if not self._tracker.accept(message):
            return False
        try:
            self._proof.check(message)
        except TextMismatch as error:
            self._read.append(error)
        self._act_on(message)
        self._read.append((Frame(payload, message), self._tracker.position))
        self._kept += FRAME_COST + len(payload)
        return True

    def _act_on(self, message: Event | Message | None) -> None:
        match message:
            case Subscribed():
                self.subscribed = message
            case Problem():
                self._problem = message
                if message.code == ProblemCode.NOT_PERMITTED:
                    self._fail_signal(NotPermitted(message.message))
            case SignalResult():
                self._answer(message)
            case Event() | Gap() | CaughtUp():
                self._connector.progressed()
            case StreamEnd():
                self._over = True
            case Urgent():
                self._hand_over(message)

    def _hand_over(self, copy: Urgent) -> None:
        """Tell the program of an event that came ahead, unless it is of a type that this version does not know."""
        try:
            event = self._codec.decode_to_consumer(bytes(copy.event))
        except WireError as error:
            raise ProtocolFault(f"the gateway sent an invalid event ahead: {error.message}") from None
        if self._on_urgent is not None and isinstance(event, Event):
            self._on_urgent(event)

    def _answer(self, result: SignalResult) -> None:
        answer = self._answers.get(result.id) if result.id is not UNSET else None
        if answer is not None and not answer.done():
            answer.set_result(result.delivered)

    def _fail_signal(self, error: ClientError) -> None:
        """Fail the oldest signal without an answer; answers arrive in order."""
        answer = next((answer for answer in self._answers.values() if not answer.done()), None)
        if answer is not None:
            answer.set_exception(error)

    def _fail_signals(self) -> None:
        for _ in self._answers:
            self._fail_signal(NotDelivered("the connection was lost before the gateway answered the signal"))

    async def _send(self, payload: bytes) -> None:
        try:
            if self._connection is not None:
                return await self._connection.send(payload, text=self._codec.is_text)
        except ConnectionClosed:
            pass
        raise NotDelivered("the signal could not be sent: there is no connection at the moment")

    async def _close(self) -> None:
        if self._connection is not None:
            await connections.close(self._connection)
            self._connection = None
