"""Publishing to a stream: numbered, pipelined, each event once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from ssl import SSLContext
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

from msgspec import structs

from deltawire.gateway.client.backoff import DEFAULT_BACKOFF, Backoff
from deltawire.gateway.client.connection import Connector, OnReconnect
from deltawire.gateway.client.errors import EventRefused
from deltawire.gateway.client.session import PublisherSession
from deltawire.gateway.client.tokens import TokenProvider, Tokens
from deltawire.gateway.client.urls import publish_url
from deltawire.protocol.addresses import OnFull, PublishRequest
from deltawire.protocol.codec import JSON, Codec, check_json
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import WireError
from deltawire.protocol.events import MAX_SEQ, Data, Event, Extension, make_event
from deltawire.protocol.messages import Problem, Signal

LEAVE_TIMEOUT: Final = 5.0
"""Seconds without an ack after which leaving the context gives up on the rest."""


class Publisher:
    """Publishes to one stream; an async context manager.

        async with Publisher("ws://127.0.0.1:8765", "demo") as publisher:
            await publisher.send(TextDelta(text="Hello"))

    Events are numbered, so that what is sent again after a lost connection is appended once. When the gateway
    restarts without memory (another `epoch`), what was not acked is numbered anew and sent again; what was acked in
    the old epoch is gone with it, and counted as `lost`. Leaving the context waits for the acks; leaving it by an
    exception does not.

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
        token: what the gateway wants to see: a token, or a function that gives one, for each connection and before one
            expires; it may be asynchronous.
        backoff: how long these waits are.
        tls: whom to trust where the address is `wss`, and what to show; None trusts whom the system trusts.

    Raises:
        ValueError: an argument is wrong; it names which, and what is expected.
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
        tls: SSLContext | None = None,
        token: TokenProvider | None = None,
    ) -> None:
        self._stream = stream
        self._codec = codec
        self._max_message = max_message
        self._one_by_one = on_full == "reject"
        request = PublishRequest(producer=producer or uuid4().hex, generation=generation, on_full=on_full)
        self._session = PublisherSession(
            stream=stream,
            target=publish_url(url, stream, request),
            connector=Connector(url, codec, backoff, retry_for, on_reconnect, Tokens(token), tls=tls),
            codec=codec,
            window=1 if self._one_by_one else window,
            max_message=max_message,
        )
        self._turn = asyncio.Lock()  # of `send`, one by one
        self._task: asyncio.Task[None] | None = None

    @property
    def acked(self) -> int:
        """The producer's own number of the last event the gateway acked, 0 before."""
        return self._session.window.acked

    @property
    def seq(self) -> int:
        """The gateway's number of the last event it acked, 0 before."""
        return self._session.seq

    @property
    def epoch(self) -> str:
        """The epoch of the stream's log; it changes when the gateway lost its memory."""
        return self._session.window.epoch

    @property
    def lost(self) -> int:
        """Events that the gateway had acked and has no more: those of epochs that ended when it lost its memory."""
        return self._session.window.lost

    @property
    def consumers(self) -> int | None:
        """How many follow the stream, as last told; None without a connection."""
        return self._session.consumers

    async def send(self, item: Data | Event) -> None:
        """Publish one event; waits while `window` events are unacked.

        Args:
            item: data, or an event with a timestamp of its own; its `producer_seq` is replaced.

        Raises:
            TypeError: this is no event.
            EventRefused: this event is not valid, or too big; or the gateway refused an earlier one.
            StreamFull: the stream is full (with `on_full="reject"`); the event was dropped and may be sent again.
            Refused: the gateway said no; `StreamClosed` and `Fenced` are kinds of it.
            GatewayUnreachable: the connection was lost and did not come back in time.
        """
        event, size = self._check(item)
        if self._one_by_one:
            async with self._turn:
                await self._session.append(event, size)
                await self.flush()
        else:
            await self._session.append(event, size)

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until everything sent is acked.

        Args:
            timeout: seconds to wait; None waits as long as the connection lives or may come back.

        Raises:
            TimeoutError: not everything was acked in time.
            ClientError: as `send`.
        """
        async with asyncio.timeout(timeout):
            await self._session.flush()

    async def close_stream(self) -> None:
        """End the stream: flush, then tell the gateway, and wait until it has confirmed.

        Raises:
            ClientError: as `send`.
        """
        await self.flush()
        await self._session.close_stream()

    async def wait_ended(self) -> None:
        """Wait until nothing can be sent any more: the stream was closed, or the publisher left or failed.

        For programs that wait for something else meanwhile, and would learn of a failure only at their next `send`.

        Raises:
            ClientError: it failed; as `send`.
        """
        await self._session.wait_ended()

    async def wait_alone(self, seconds: float) -> None:
        """Wait until nobody has followed the stream for so long, so that a proxy can stop paying for the answer.

        The time begins when the last consumer leaves, never before the first one came: who publishes ahead of the
        readers is not alone. It begins anew when somebody comes back, and when the connection was lost, as the
        readers lost theirs too. Waiting also ends when the stream was closed or the publisher left.

        Args:
            seconds: how long nobody followed; the gateway tells changes at most four times a second.

        Raises:
            ClientError: the publisher failed; as `send`.
        """
        await self._session.wait_alone(seconds)

    async def signals(self) -> AsyncIterator[Signal]:
        """What readers signal to the producers, `cancel` first of all, until the publisher is left or fails."""
        while (signal := await self._session.next_signal()) is not None:
            yield signal

    async def __aenter__(self) -> Self:
        """Connect and wait until the gateway is ready for events.

        Raises:
            GatewayUnreachable: it did not answer in time.
            Refused: it said no.
        """
        self._task = asyncio.create_task(self._session.run(), name=f"publisher {self._stream}")
        try:
            await self._session.wait_ready()
        except BaseException:
            await self._leave()
            raise
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
                    raise self._session.not_delivered() from None

    async def _leave(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            if not self._task.cancelled():
                self._task.result()  # a defect of this module must be heard

    def _check(self, item: Data | Event) -> tuple[Event, int]:
        """The event in its envelope, judged as the gateway would, with its size in bytes."""
        data = item.data if isinstance(item, Event) else item
        if not isinstance(data, Data):
            raise TypeError(f"expected data such as TextDelta, or an Event of it, got {type(data).__name__}")
        event = item if isinstance(item, Event) else make_event(data)
        try:
            if isinstance(event.data, Extension):
                check_json(event.data.data, "$.data.data", ProblemCode.INVALID_EVENT)
            payload = self._codec.encode(structs.replace(event, producer_seq=MAX_SEQ))
            self._codec.decode_from_producer(payload)
        except WireError as error:
            raise _event_refused(error.code, error.message) from None
        except (TypeError, ValueError) as error:  # of no wire type, or half a surrogate pair
            raise _event_refused(ProblemCode.INVALID_EVENT, str(error)) from None
        if len(payload) > self._max_message:
            reason = f"the event has {len(payload)} bytes, the limit is {self._max_message}"
            raise _event_refused(ProblemCode.MESSAGE_TOO_BIG, reason)
        return event, len(payload)


def _event_refused(code: ProblemCode, message: str) -> EventRefused:
    return EventRefused(Problem(code=code, message=message, retryable=False))
