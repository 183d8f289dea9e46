"""Streams for Python programs, without sockets: `send` and `async for` in the process of the hub.

A local subscription is a consumer like any other: it reads the same frames by the same path, one at a time, so that
its lag is exactly the events it has not asked for yet.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Self

from deltawire.gateway.streams.info import StreamInfo
from deltawire.gateway.streams.stream import Stream
from deltawire.gateway.streams.subscription import Subscription
from deltawire.protocol.addresses import SubscribeRequest
from deltawire.protocol.codec import JSON
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import ErrorKind, StreamError, WireError
from deltawire.protocol.events import Data, Event, make_event
from deltawire.protocol.framing import payloads
from deltawire.protocol.messages import Gap, Policy

if TYPE_CHECKING:
    from deltawire.gateway.hub.hub import Hub


class LocalSubscription:
    """One local consumer: an async iterator of `Event` and `Gap`, ending with the stream.

    Close it, or use it as an async context manager, when leaving early.
    """

    def __init__(self, hub: Hub, subscription: Subscription) -> None:
        self._hub = hub
        self._channel = hub.dispatcher.attach(subscription.stream, self)
        self._subscription = subscription
        self._taken: deque[bytes] = deque()
        self._is_closed = False
        self._has_left_out = False  # its filter left many events out: there may be more behind them
        self._wakeup: asyncio.Future[None] | None = None
        self._channel.pump_each_time(self)
        hub.dispatcher.touch(self._channel)  # producers learn of it
        self._failure: StreamError | None = None
        self._moved_at = hub.now()
        self._moved_to = subscription.cursor
        if subscription.policy is Policy.BLOCK:
            hub.deadlines.add(self)

    @property
    def subscription(self) -> Subscription:
        """What it reads."""
        return self._subscription

    @property
    def policy(self) -> Policy:
        """Its policy, which decides what happens when it falls behind."""
        return self._subscription.policy

    @property
    def buffer(self) -> int:
        """How far it may fall behind, in events."""
        return self._subscription.buffer

    def __len__(self) -> int:
        """Events appended that it has not got yet."""
        return self._subscription.lag

    def __bool__(self) -> bool:
        return True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __aiter__(self) -> AsyncIterator[Event | Gap]:
        return self

    async def __anext__(self) -> Event | Gap:
        """Wait for the next event or gap.

        Raises:
            StreamError: full, this reader was too slow for its policy.
            RuntimeError: another task is waiting for it; each reader needs a subscription of its own.
        """
        if self._wakeup is not None:
            raise RuntimeError("another task already reads this subscription: subscribe once for each")
        while True:
            item = self._next()
            if item is not None:
                return item
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            if self._subscription.ended or self._is_closed:
                self.close()
                raise StopAsyncIteration
            if self._has_left_out:
                await asyncio.sleep(0)
                continue
            self._wakeup = asyncio.get_running_loop().create_future()
            try:
                await self._wakeup
            finally:
                self._wakeup = None

    def _next(self) -> Event | Gap | None:
        """Return the next event or gap that is available, or None."""
        while not self._is_closed:
            while self._taken:
                message = JSON.decode_to_consumer(self._taken.popleft())
                if isinstance(message, (Event, Gap)):
                    return message
            if not self._subscription.judge():
                self._subscription.stream.counters.disconnected += 1
                self.close()
                raise StreamError(ErrorKind.FULL, "receive", self._subscription.stream.id, "consumer was too slow")
            data = self._subscription.take(size=1)
            self._has_left_out = data is None
            if not data:
                return None
            self._taken.extend(payloads(data))
            if self.policy is Policy.BLOCK:
                self._hub.dispatcher.touch(self._channel)  # a waiting producer may have room now
        return None

    def close(self) -> None:
        """Stop reading."""
        if self._is_closed:
            return
        self._is_closed = True
        self._channel.leave(self, self._hub.now())
        self._hub.deadlines.remove(self)
        self._hub.dispatcher.detach(self._channel, self)
        self.pump()

    # The channel's side

    def pump(self) -> None:
        """Wake the reader, as something was appended."""
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    def write(self, data: bytes) -> None:
        """Never called: a local subscription joins no cohort."""
        raise NotImplementedError

    def write_failed(self) -> None:
        """Never called either."""
        raise NotImplementedError

    def sweep(self, now: float) -> None:
        """End a reader that holds producers up and reads nothing."""
        timeout = self._hub.settings.block_timeout
        subscription = self._subscription
        if subscription.cursor != self._moved_to or not subscription.is_full:
            self._moved_to = subscription.cursor
            self._moved_at = now
        elif now - self._moved_at >= timeout:
            subscription.stream.counters.disconnected += 1
            detail = f"policy block: this reader held producers up for block_timeout ({timeout:g} s)"
            self._failure = StreamError(ErrorKind.FULL, "receive", subscription.stream.id, detail)
            self.close()

    def end(self, code: ProblemCode, message: str) -> None:  # noqa: ARG002 - the interface
        """End with an error, as the stream can't be read here any more."""
        self._failure = StreamError(ErrorKind.FULL, "receive", self._subscription.stream.id, message)
        self.close()

    def check_lag(self) -> None:
        """Nothing to do: the lag is judged when the reader asks for more."""


class _Turn:
    """A sender waiting for room."""

    def __init__(self, ready: asyncio.Future[None]) -> None:
        self._ready = ready

    def on_room(self) -> None:
        if not self._ready.done():
            self._ready.set_result(None)


class LocalStream:
    """A stream, for programs in the hub's process."""

    def __init__(self, hub: Hub, stream: Stream) -> None:
        self._hub = hub
        self._stream = stream

    @property
    def id(self) -> str:
        """The stream id."""
        return self._stream.id

    @property
    def is_closed(self) -> bool:
        """Whether it no longer takes events."""
        return self._stream.is_closed

    def __len__(self) -> int:
        """Events held."""
        return self._stream.log.head - self._stream.floor + 1

    def __bool__(self) -> bool:
        return True

    def statistics(self) -> StreamInfo:
        """Describe the stream at this moment."""
        return self._hub.describe(self._stream)

    def send_nowait(self, data: Data, *, urgent: bool = False) -> int:
        """Append an event if there is room. With `data_dir`, it is stored a little later.

        Args:
            data: of the event.
            urgent: whether to mark it as urgent.

        Returns:
            Its seq; with middleware, that of the last event that it became, or of the last one before, if it became
            none, or none yet.

        Raises:
            StreamError: full, a `block` consumer's buffer or the memory limit; closed; invalid, the data breaks a rule,
                or middleware refuses it.
        """
        _check(data, self.id)
        stream = self._stream
        channel = self._hub.dispatcher.channel(stream)
        may_append = stream.has_room or stream.is_closed or stream.is_recovering or channel.make_room()
        if not may_append:
            raise StreamError(ErrorKind.FULL, "send", self.id, stream.full_because)
        try:
            seq = self._hub.dispatcher.publish(channel, data, is_urgent=urgent)
        except WireError as error:
            raise StreamError(ErrorKind.INVALID, "send", self.id, error.message) from None
        return stream.head if seq is None else seq

    async def send(self, data: Data, *, timeout: float | None = None, urgent: bool = False) -> int:
        """Append an event, waiting for `block` consumers while their buffer is full, and until it is stored, if it is.

        What middleware holds back is stored when it is let out; `send` does not wait for that.

        Args:
            data: of the event.
            timeout: seconds to wait; None waits for ever.
            urgent: whether to mark it as urgent.

        Returns:
            Its seq.

        Raises:
            StreamError: full, there was no room within the timeout, or the memory limit is reached; closed; invalid.
        """
        try:
            async with asyncio.timeout(timeout):
                while not self._stream.has_room and not self._stream.is_closed:
                    await self._wait_for_room()
        except TimeoutError:
            detail = f"no room within {timeout:g} s: a consumer of policy 'block' is not keeping up"
            raise StreamError(ErrorKind.FULL, "send", self.id, detail) from None
        seq = self.send_nowait(data, urgent=urgent)
        if self._stream.staging is not None:
            await self._hub.dispatcher.wait_until_committed(self._stream)
        return seq

    async def _wait_for_room(self) -> None:
        channel = self._hub.dispatcher.channel(self._stream)
        ready = asyncio.get_running_loop().create_future()
        turn = _Turn(ready)
        channel.wait_for_room(turn)
        self._hub.dispatcher.touch(channel)
        try:
            await ready
        finally:
            channel.stop_waiting(turn)

    def subscribe(self, request: SubscribeRequest | None = None) -> LocalSubscription:
        """Follow the stream.

        Args:
            request: position, policy and buffer; None means from the start, with the stream's policy and buffer.

        Raises:
            StreamError: invalid, the position is ahead of the head, or `urgent` is asked for, which only consumers on a
                connection can have; full, there are `max_consumers`.
        """
        if request is not None and request.urgent is not None:
            why = "urgent: only consumers on a connection get events ahead; this reader asks for one event at a time"
            raise StreamError(ErrorKind.INVALID, "subscribe", self.id, why)
        try:
            subscription = self._stream.subscribe(request or SubscribeRequest(), now=self._hub.now())
        except WireError as error:
            kind = ErrorKind.FULL if error.code is ProblemCode.OVERLOADED else ErrorKind.INVALID
            raise StreamError(kind, "subscribe", self.id, error.message) from None
        return LocalSubscription(self._hub, subscription)

    def close(self) -> None:
        """End the stream: consumers get what is left. Closing twice changes nothing."""
        if not self._stream.is_closed:
            self._hub.end(self._stream)


def _check(data: Data, stream_id: str) -> None:
    """Check data made in this process against the rules of the wire: every consumer must be able to decode it."""
    try:
        JSON.check_event(make_event(data))
    except WireError as error:
        raise StreamError(ErrorKind.INVALID, "send", stream_id, error.message) from None
