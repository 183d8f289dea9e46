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
from deltawire.protocol.codec import JSON, Codec
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import WireError
from deltawire.protocol.events import MAX_SEQ, Data, Event, Extension, make_event
from deltawire.protocol.json_values import check_json
from deltawire.protocol.messages import Problem, Signal

LEAVE_TIMEOUT: Final = 5.0
"""Seconds without an ack after which leaving the context gives up on the unacked events."""


class Publisher:
    """Publishes to one stream; an async context manager.

        async with Publisher("ws://127.0.0.1:8765", "demo") as publisher:
            await publisher.send(TextDelta(text="Hello"))

    Events are numbered, so that an event that is resent after a lost connection is appended once. When the gateway
    restarts without its memory (with another `epoch`), unacked events get new numbers and are resent; events that were
    acked and that the new epoch does not have are lost, and counted in `lost`. Leaving the context waits for the acks,
    unless an exception leaves it.

    With `on_full="reject"`, only one event is in flight at a time, so that each `send` reports the outcome of its own
    event.

    Args:
        url: the gateway's address, `ws://HOST:PORT`.
        stream: the stream's id.
        producer: id of this producer; None makes a random one. If the id was used before in the same generation,
            numbering continues there.
        generation: only the highest generation of a producer id may publish; older ones are `Fenced`.
        on_full: wait for slow `block` consumers, or raise `StreamFull`.
        window: maximum number of unacked events, 1 or more; `send` waits above it.
        max_message: maximum bytes of an event, as configured in the gateway (64 KiB by default).
        retry_for: seconds without progress after which to give up, from the first attempt on; None never gives up, 0
            never retries.
        codec: `JSON` or `MSGPACK`.
        on_reconnect: called before each wait with the reason and the seconds.
        token: a token, or a function that returns one, which is called for each connection and before a token expires;
            it may be asynchronous.
        backoff: the lengths of these waits.
        tls: the TLS context for a `wss` address; None trusts the system's CAs.

    Raises:
        ValueError: an argument is wrong; the message says which, and what is expected.
    """

    def __init__(  # noqa: PLR0913 - the options of a publication
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
        self._turn = asyncio.Lock()  # serialises `send`
        self._task: asyncio.Task[None] | None = None

    @property
    def stream(self) -> str:
        """The stream's id."""
        return self._stream

    @property
    def is_entered(self) -> bool:
        """Whether its context was entered, even if it has been left since."""
        return self._task is not None

    @property
    def is_judged_at_once(self) -> bool:
        """Whether each `send` reports the outcome of its own event (with `on_full="reject"`)."""
        return self._one_by_one

    @property
    def acked(self) -> int:
        """The `producer_seq` of the last event that the gateway acked; 0 before the first ack."""
        return self._session.window.acked

    @property
    def seq(self) -> int:
        """The seq of the last event that the gateway acked; 0 before the first ack."""
        return self._session.seq

    @property
    def epoch(self) -> str:
        """The epoch of the stream's log; it changes when the gateway loses its memory."""
        return self._session.window.epoch

    @property
    def connection_failure(self) -> str | None:
        """Why there is no connection to the gateway; None while one is open, or before an attempt has failed."""
        return self._session.connection_failure

    @property
    def lost(self) -> int:
        """Number of acked events that the gateway lost together with their epochs."""
        return self._session.window.lost

    @property
    def consumers(self) -> int | None:
        """The last reported number of consumers of the stream; None without a connection."""
        return self._session.consumers

    async def send(self, item: Data | Event) -> None:
        """Publish one event; wait while `window` events are unacked.

        Args:
            item: data, or an event, for example with its own timestamp; its `producer_seq` is replaced.

        Raises:
            TypeError: `item` is not an event.
            EventRefused: this event is not valid or too big, or the gateway refused an earlier one.
            StreamFull: the stream is full (with `on_full="reject"`); the event was dropped and may be sent again.
            Refused: the gateway refused; `StreamClosed` and `Fenced` are subclasses.
            GatewayUnreachable: the connection was lost and could not be restored in time.
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
            timeout: seconds to wait; None waits as long as the connection exists or may be restored.

        Raises:
            TimeoutError: not everything was acked in time.
            ClientError: as `send`.
        """
        async with asyncio.timeout(timeout):
            await self._session.flush()

    async def close_stream(self) -> None:
        """End the stream: flush, tell the gateway, and wait for its confirmation.

        Raises:
            ClientError: as `send`.
        """
        await self.flush()
        await self._session.close_stream()

    async def wait_ended(self) -> None:
        """Wait until publishing is over: the stream was closed, or the publisher was left or failed.

        This is for programs that wait for other things and would otherwise notice a failure only at their next `send`.

        Raises:
            ClientError: it failed; as `send`.
        """
        await self._session.wait_ended()

    async def wait_alone(self, seconds: float) -> None:
        """Wait until the stream has had no consumers for some time, so that a proxy can stop paying for the answer.

        The time starts when the last consumer leaves. It never starts before the first consumer has joined, so a
        producer may publish ahead of its readers. It restarts when a consumer joins, and when the connection is lost,
        because the readers lost theirs too. Waiting also ends when the stream is closed or the publisher is left.

        Args:
            seconds: time without consumers; the gateway reports changes at most four times per second.

        Raises:
            ClientError: the publisher failed; as `send`.
        """
        await self._session.wait_alone(seconds)

    async def signals(self) -> AsyncIterator[Signal]:
        """Yield the signals of readers, above all `cancel`, until the publisher is left or fails."""
        while (signal := await self._session.next_signal()) is not None:
            yield signal

    def discard_signals(self) -> None:
        """Forget the signals that came and were not read: what they were about is over."""
        self._session.discard_signals()

    async def __aenter__(self) -> Self:
        """Connect and wait until the gateway is ready for events.

        Raises:
            GatewayUnreachable: it did not answer in time.
            Refused: it refused.
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
        """Wait for the acks, unless an exception leaves the context; then close.

        Raises:
            NotDelivered: no ack arrived for some seconds; to wait longer, call `flush` before leaving.
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
                self._task.result()  # a defect of this module must not pass unnoticed

    def _check(self, item: Data | Event) -> tuple[Event, int]:
        """The event in its envelope, validated like in the gateway, and its size in bytes."""
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
        except (TypeError, ValueError) as error:  # not a wire type, or half a surrogate pair
            raise _event_refused(ProblemCode.INVALID_EVENT, str(error)) from None
        if len(payload) > self._max_message:
            reason = f"the event has {len(payload)} bytes, the limit is {self._max_message}"
            raise _event_refused(ProblemCode.MESSAGE_TOO_BIG, reason)
        return event, len(payload)


def _event_refused(code: ProblemCode, message: str) -> EventRefused:
    return EventRefused(Problem(code=code, message=message, retryable=False))
