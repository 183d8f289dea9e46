"""One run of `deltawire bench`: connects, publishes, follows, and closes its streams."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from ssl import SSLContext
from typing import Final
from uuid import uuid4

from msgspec import UNSET, Struct

from deltawire.gateway.cli.alongside import run_alongside, run_together
from deltawire.gateway.cli.bench.figures import Durations, Reader, Report
from deltawire.gateway.cli.credentials import GivenToken
from deltawire.gateway.cli.ending import Failure, say
from deltawire.gateway.cli.publish.pace import Pace
from deltawire.gateway.cli.reconnecting import Patience
from deltawire.gateway.client import ClientError, Publisher, Subscriber, TextMismatch
from deltawire.protocol.events import Data, Event, MessageStart, MessageStop, TextDelta

WORD: Final = " token"
"""The text of each delta: as long as those of models."""

HANDSHAKES: Final = 4
"""Connections that are opened at a time: more would measure how long they wait for each other in this process."""

TICK: Final = 0.01
"""Seconds between two looks at how late this process is itself."""

LOST_ITS_MEMORY: Final = "the gateway lost its streams during the run, as by a restart: there are no figures"

REST_TIMEOUT: Final = 10.0
"""Seconds after the end of a stream in which a consumer has to have it: what has not come then is lost."""

CLOSE_TIMEOUT: Final = 5.0
"""Seconds in which the gateway has to close a stream of a run that was broken off."""


class Load(Struct, frozen=True, kw_only=True):
    """What a run asks of the gateway.

    Attributes:
        producers: each has a stream of its own.
        consumers: of each stream.
        rate: deltas per second of each producer; 0 sends as many as the gateway acks.
        seconds: how long.
        prefix: what the ids of the streams begin with.
    """

    producers: int
    consumers: int
    rate: float
    seconds: float
    prefix: str

    @property
    def connections(self) -> int:
        """Connections that it takes."""
        return self.producers * (1 + self.consumers)


class Lane:
    """One stream: what was sent to it, and what its consumers got.

    Args:
        stream: its id.

    Attributes:
        sent: when each event was sent.
        readers: its consumers.
        is_closed: whether the gateway has closed it.
    """

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.sent = array("d")
        self.readers: list[Reader] = []
        self.is_closed = False
        self._waiting: set[asyncio.Timeout] = set()

    def close(self) -> None:
        """Note that the gateway has closed it: from now on, consumers have so long to get the rest."""
        self.is_closed = True
        for timeout in self._waiting:
            timeout.reschedule(asyncio.get_running_loop().time() + REST_TIMEOUT)

    @asynccontextmanager
    async def giving_up(self) -> AsyncIterator[None]:
        """End the block, silently, when what has not come is lost."""
        with suppress(TimeoutError):
            async with asyncio.timeout(None) as timeout:
                self._waiting.add(timeout)
                try:
                    yield
                finally:
                    self._waiting.discard(timeout)


class BenchRun:
    """One run.

    Args:
        url: of the gateway.
        load: what to ask of it.
        token: to show.
        tls: whom to trust.
        patience: waits for the gateway.
    """

    def __init__(self, url: str, load: Load, token: GivenToken, tls: SSLContext | None, patience: Patience) -> None:
        self._url = url
        self._load = load
        self._token = token
        self._tls = tls
        self._latency = Durations()
        self._connects = (Durations(), Durations())
        self._own_delay = Durations()
        self._reconnects = 0
        self._left_open: list[str] = []
        self._begun = 0.0
        self._last_came = 0.0
        self._cpu = 0.0
        self._is_time_over = asyncio.Event()
        self._patience = patience
        patience.tell = self._note_wait
        self._handshakes = asyncio.Semaphore(HANDSHAKES)
        self._streams_exist = asyncio.Barrier(load.connections)
        self._all_are_connected = asyncio.Barrier(load.connections + 1)

    async def run(self) -> Report:
        """Run to the end.

        Raises:
            ClientError: the gateway refused, or can't be reached.
            Failure: it was restarted meanwhile, or what it keeps is not what was sent.
        """
        name = f"{self._load.prefix}-{uuid4().hex[:8]}"
        lanes = [Lane(f"{name}-{number}") for number in range(1, self._load.producers + 1)]
        async with self._make_publisher(lanes[0]):
            pass  # the first connection of a process takes three times as long, for what it has to load
        try:
            async with run_alongside(self._watch_itself()):
                await run_together(
                    *(self._produce(lane, number / len(lanes)) for number, lane in enumerate(lanes)),
                    *(self._consume(lane) for lane in lanes for _ in range(self._load.consumers)),
                )
        finally:
            if self._left_open:
                say(f"may be left open, for `deltawire streams close`: {' '.join(self._left_open)}")
        return self._report(lanes)

    async def _produce(self, lane: Lane, phase: float) -> None:
        """Publish to a stream, and close it.

        Args:
            lane: the stream.
            phase: part of the time between two deltas that it is behind the first producer: answers are not in step.
        """
        publisher = self._make_publisher(lane)
        async with self._measured(publisher, self._connects[0]):
            try:
                await self._streams_exist.wait()
                await self._all_are_connected.wait()
                self._begin()
                await self._publish(lane, publisher, phase)
            finally:
                if not lane.is_closed:
                    await self._close_anyway(publisher)

    def _make_publisher(self, lane: Lane) -> Publisher:
        return Publisher(
            self._url,
            lane.stream,
            token=self._token,
            tls=self._tls,
            on_reconnect=self._patience,
            retry_for=self._patience.retry_for,
        )

    async def _publish(self, lane: Lane, publisher: Publisher, phase: float) -> None:
        async def send(data: Data) -> None:
            lane.sent.append(time.perf_counter())
            await publisher.send(data)

        rate, pace = self._load.rate, Pace(self._load.rate)
        await send(MessageStart(message_id=lane.stream))
        with suppress(TimeoutError):
            async with asyncio.timeout(phase / rate if rate else 0):
                await self._is_time_over.wait()
        while True:
            await (pace.wait_due(self._is_time_over) if rate else asyncio.sleep(0))
            if self._is_time_over.is_set():
                break
            await send(TextDelta(text=WORD))
        await send(MessageStop(message_id=lane.stream, stop_reason="end_turn"))
        await publisher.close_stream()
        lane.close()
        if publisher.lost:
            raise Failure(LOST_ITS_MEMORY)
        if publisher.seq != len(lane.sent):
            raise Failure(
                f"{len(lane.sent)} events were sent to {lane.stream}, and the gateway keeps {publisher.seq}: "
                "its middleware changes them, or somebody else publishes there"
            )

    async def _consume(self, lane: Lane) -> None:
        await self._streams_exist.wait()
        subscriber = Subscriber(
            self._url,
            lane.stream,
            create=False,
            token=self._token,
            tls=self._tls,
            on_reconnect=self._patience,
            retry_for=self._patience.retry_for,
        )
        reader = Reader(lane.sent, self._latency)
        lane.readers.append(reader)
        async with self._measured(subscriber, self._connects[1]):
            await self._all_are_connected.wait()
            async with lane.giving_up():
                while subscriber.ended is None:
                    try:
                        await self._read(subscriber, reader)
                    except TextMismatch:
                        reader.altered += 1

    async def _read(self, subscriber: Subscriber, reader: Reader) -> None:
        """Note what comes, until the stream ends."""
        async for item in subscriber:
            now = time.perf_counter()
            if isinstance(item, Event):
                assert item.seq is not UNSET
                self._last_came = now
                reader.take(item.seq if item.first is UNSET else item.first, item.seq, now)
            elif item.reason == "epoch_changed":
                raise Failure(LOST_ITS_MEMORY)

    async def _close_anyway(self, publisher: Publisher) -> None:
        """Close the stream of a run that was broken off, if the gateway can still be told."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await publisher.close_stream()
        except (ClientError, TimeoutError):
            self._left_open.append(publisher.stream)

    async def _watch_itself(self) -> None:
        """Count how late this process is: by so much, at least, what it measures is wrong."""
        await self._all_are_connected.wait()
        while True:
            due = time.perf_counter() + TICK
            await asyncio.sleep(TICK)
            self._own_delay.add(max(0.0, time.perf_counter() - due))

    @asynccontextmanager
    async def _measured(self, client: Publisher | Subscriber, connects: Durations) -> AsyncIterator[None]:
        """Enter a client, and count how long it takes to connect."""
        async with AsyncExitStack() as stack:
            async with self._handshakes:
                begun = time.perf_counter()
                await stack.enter_async_context(client)
                connects.add(time.perf_counter() - begun)
            yield

    def _begin(self) -> None:
        """Note that all are connected; the first producer does."""
        if not self._begun:
            self._patience.is_connected = True
            self._begun, self._cpu = time.perf_counter(), time.process_time()
            asyncio.get_running_loop().call_later(self._load.seconds, self._is_time_over.set)

    def _note_wait(self, line: str) -> None:
        if self._patience.is_connected:
            self._reconnects += 1
        else:
            say(line)

    def _report(self, lanes: list[Lane]) -> Report:
        over = time.perf_counter() - self._begun
        seconds = max(lane.sent[-1] for lane in lanes) - self._begun
        sent = sum(len(lane.sent) for lane in lanes)
        readers = [reader for lane in lanes for reader in lane.readers]
        delivered = sum(reader.delivered for reader in readers)
        return Report(
            url=self._url,
            producers=self._load.producers,
            consumers=self._load.consumers,
            rate=self._load.rate,
            seconds=seconds,
            sent=sent,
            delivered=delivered,
            events_per_second=sent / seconds,
            deliveries_per_second=delivered / (self._last_came - self._begun) if delivered else 0.0,
            lost=sum(reader.lost for reader in readers),
            altered=sum(reader.altered for reader in readers),
            reconnects=self._reconnects,
            producer_connect=self._connects[0].summarise(),
            consumer_connect=self._connects[1].summarise(),
            latency=self._latency.summarise(),
            own_delay=self._own_delay.summarise(),
            cpu=(time.process_time() - self._cpu) / over,
        )
