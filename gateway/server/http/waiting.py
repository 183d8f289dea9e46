"""A consumer that is a coroutine: it waits for its stream before a response over plain HTTP is made."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import NoReturn, Self

from deltawire.gateway.hub import Hub
from deltawire.gateway.server.connection.connection import GatewayConnection
from deltawire.gateway.server.connection.memory import CONNECTION_COST
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.addresses import SubscribeRequest
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import WireError
from deltawire.protocol.message_reader import MessageReader


class WaitingConsumer:
    """One consumer, for the time of the block. It waits no longer when its peer hangs up or the gateway leaves.

    Args:
        hub: the streams.
        connection: waits for a response.
        stream: to be read.
        request: how to read it.

    Raises:
        WireError: on entry, the request can't be met.
    """

    def __init__(self, hub: Hub, connection: GatewayConnection, stream: Stream, request: SubscribeRequest) -> None:
        self._hub = hub
        self._connection = connection
        self._stream = stream
        self._request = request
        self._is_woken = asyncio.Event()
        self._has_left = False
        self._refusal: WireError | None = None

    def __enter__(self) -> Self:
        self.subscription = self._stream.subscribe(self._request, now=self._hub.now())
        self._channel = self._hub.dispatcher.attach(self._stream, self)
        self._channel.pump_each_time(self)
        self._hub.dispatcher.touch(self._channel)  # producers learn of it
        self._connection.occupy(CONNECTION_COST)
        self._connection.hurry = self._leave
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.hurry = None
        self._channel.leave(self, self._hub.now())
        self._hub.dispatcher.detach(self._channel, self)

    async def wait(self, seconds: float) -> None:
        """Wait for an event, the end of the stream, or the time to be over.

        Raises:
            WireError: the stream can't be read here any more.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not (self.subscription.lag or self._stream.end_reason or self._has_left):
                    await self._wait_for_flush()
        self._check()

    async def read_into(self, reader: MessageReader) -> None:
        """Let a reader read what there is, a piece in each turn of the loop.

        Raises:
            StreamError: full, the store does not answer.
            WireError: as `wait`.
        """
        subscription = self.subscription
        while not (subscription.is_live or subscription.ended or reader.is_done or self._has_left):
            data = subscription.take()
            if data == b"":
                await self._hub.dispatcher.read_in_time(self._stream, self._wait_for_flush())
                continue
            if data:
                reader.convert(data)
            await asyncio.sleep(0)
        self._check()

    def _check(self) -> None:
        if self._refusal is not None:
            raise self._refusal

    async def _wait_for_flush(self) -> None:
        self._is_woken.clear()
        await self._is_woken.wait()

    def _leave(self) -> None:
        self._has_left = True
        self._is_woken.set()

    def pump(self) -> None:
        """Wake the coroutine, as the stream was flushed."""
        self._is_woken.set()

    def check_lag(self) -> None:
        """Nothing to do: it is behind only while it reads."""

    def write(self, data: bytes) -> NoReturn:
        """Never called: it joins no cohort."""
        raise NotImplementedError

    def write_failed(self) -> NoReturn:
        """Never called either."""
        raise NotImplementedError

    def end(self, code: ProblemCode, message: str) -> None:
        """Wake the coroutine, which raises this, as the stream can't be read here any more."""
        self._refusal = WireError(code, message)
        self._leave()
