"""The healthy group, a process of its own: a producer, consumers of every policy, and newcomers.

Each event carries its number and when it was due. Told to by a line on its standard input, it answers with a line of
what it saw since the last one; at the end of its input it stops publishing, lets everybody read to the last event, and
says so once more.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from itertools import chain

import msgspec
import uvloop
from msgspec import Struct
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from deltawire.protocol.messages import Policy
from scripts.hardening.frames import MIB
from scripts.hardening.hostile import Hostile, NoAnswerError
from scripts.proof.children import Children

RATE = 200
"""Events a second."""

SIZE = 1000
"""Characters of an event: what a slow reader of the same stream leaves unread is felt within a second."""

POLICIES = (*Policy, Policy.COALESCE, Policy.COALESCE, Policy.COALESCE)
"""Of the consumers."""

NEWCOMERS = 0.25
"""Seconds between them."""

FINISH = 60.0
"""Seconds everybody has to read to the last event."""


class Job(Struct, frozen=True):
    """What it is told on its command line.

    Attributes:
        url: of the gateway.
        stream: to read and write.
        token: which allows both.
    """

    url: str
    stream: str
    token: str


class Seen(Struct):
    """What the group saw for a while.

    Attributes:
        events: that came, once for each consumer.
        lost: that came twice, not at all or in another order; and connections that ended.
        p50_ms: latency from when an event was due until a consumer had it, the median.
        p99_ms: what one in a hundred exceeds.
        max_ms: the longest.
        newcomers: who tried to come in.
        shut_out: of these, who did not get in.
        latencies_us: of the events, in microseconds.
    """

    events: int = 0
    lost: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    newcomers: int = 0
    shut_out: int = 0
    latencies_us: list[int] = []


def pooled(looks: Iterable[Seen]) -> Seen:
    """What was seen in several looks."""
    seen = tuple(looks)
    latencies = sorted(chain.from_iterable(it.latencies_us for it in seen))
    p50, p99 = (latencies[int(len(latencies) * part)] / 1000 if latencies else 0.0 for part in (0.5, 0.99))
    return Seen(
        events=len(latencies),
        lost=sum(it.lost for it in seen),
        p50_ms=p50,
        p99_ms=p99,
        max_ms=max(latencies, default=0) / 1000,
        newcomers=sum(it.newcomers for it in seen),
        shut_out=sum(it.shut_out for it in seen),
        latencies_us=latencies,
    )


class Group:
    """The group.

    Args:
        job: what it is told.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._seen = Seen()
        self._last = 0
        self._told_to_end = False
        self._all_read = asyncio.Event()
        self._reached = [0] * len(POLICIES)

    def look(self) -> Seen:
        """What was seen since the last look."""
        seen, self._seen = self._seen, Seen()
        return pooled([seen])

    def _connect(self, path: str) -> connect:
        return connect(
            f"{self._job.url}/v1/streams/{self._job.stream}/{path}",
            additional_headers={"Authorization": f"Bearer {self._job.token}"},
            proxy=None,
            compression=None,
        )

    async def run(self) -> None:
        """Be there until told to end, and until everybody has everything."""
        async with asyncio.TaskGroup() as tasks:
            ready = [asyncio.Event() for _ in POLICIES]
            reading = [
                tasks.create_task(self._read(number, policy, ready[number])) for number, policy in enumerate(POLICIES)
            ]
            for event in ready:
                await event.wait()
            coming = tasks.create_task(self._keep_coming())
            await self._write()
            try:
                async with asyncio.timeout(FINISH):
                    await self._all_read.wait()
            except TimeoutError:
                self._seen.lost += sum(self._last - reached for reached in self._reached)
            for task in (coming, *reading):
                task.cancel()

    def end(self) -> None:
        """Publish no more."""
        self._told_to_end = True

    async def _write(self) -> None:
        """Publish until told to end, on another connection where one is lost."""
        began = _now()  # the loop's time is up to a millisecond old
        while not self._told_to_end:
            try:
                async with self._connect("publish") as writing, asyncio.TaskGroup() as tasks:
                    acks = tasks.create_task(_read_away(writing))
                    await self._publish(writing, began)
                    acks.cancel()
            except* (OSError, WebSocketException) as lost:
                self._lose("the producer", str(lost.exceptions[0]))
                await asyncio.sleep(NEWCOMERS)

    async def _publish(self, writing: ClientConnection, began: int) -> None:
        """Publish on schedule; what is late is late for everybody."""
        while not self._told_to_end:
            due = began + self._last * 1_000_000 // RATE
            await asyncio.sleep((due - _now()) / 1_000_000)
            due = min(due, _now())  # a timer may also be early, by less than a millisecond
            words = f"{self._last + 1} {due}".ljust(SIZE, ".") + "|"
            await writing.send(json.dumps({"type": "text_delta", "data": {"text": words}}))
            self._last += 1

    async def _read(self, number: int, policy: Policy, ready: asyncio.Event) -> None:
        """Follow, and see that each event comes, once and in order."""
        try:
            async with self._connect(f"subscribe?policy={policy}&buffer=1000") as reading:
                async for text in reading:
                    message = msgspec.json.decode(text)
                    if message["type"] == "caught_up":
                        ready.set()
                    elif message["type"] == "text_delta":
                        self._take(number, message["data"]["text"])
                    elif message["type"] in ("gap", "problem", "stream_end"):
                        self._lose(policy, text)
        except WebSocketException as error:
            self._lose(policy, str(error))
        self._seen.lost += 1

    def _lose(self, whom: str, why: str | bytes) -> None:
        self._seen.lost += 1
        print(f"a neighbour ({whom}): {why!r:.200}", file=sys.stderr, flush=True)

    def _take(self, number: int, words: str) -> None:
        now = _now()
        for event in words.split("|")[:-1]:
            at, due = map(int, event.rstrip(".").split(" "))
            self._seen.lost += at != self._reached[number] + 1
            self._reached[number] = at
            self._seen.latencies_us.append(now - due)
        if self._told_to_end and min(self._reached) == self._last:
            self._all_read.set()

    async def _keep_coming(self) -> None:
        """Have newcomers knock; by hand, as a client library works for 6 ms at each, and readers here would wait."""
        while True:
            await asyncio.sleep(NEWCOMERS)
            self._seen.newcomers += 1
            self._seen.shut_out += not await self._comes_in()

    async def _comes_in(self) -> bool:
        path = f"/v1/streams/{self._job.stream}/subscribe?from=now"
        with suppress(OSError, NoAnswerError):
            async with Hostile(int(self._job.url.rpartition(":")[2])) as coming:
                return await coming.upgrade(path, self._job.token) == HTTPStatus.SWITCHING_PROTOCOLS
        return False


async def _read_away(writing: ClientConnection) -> None:
    with suppress(WebSocketException):  # which writing finds too
        async for _ in writing:
            pass


def _now() -> int:
    return time.monotonic_ns() // 1000


async def serve(job: Job) -> None:
    """Answer each line of standard input, until its end."""
    asked = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asked), sys.stdin)
    group = Group(job)
    running = asyncio.create_task(group.run())
    while await asked.readline():
        print(msgspec.json.encode(group.look()).decode(), flush=True)
    group.end()
    await running
    print(msgspec.json.encode(group.look()).decode(), flush=True)


class Neighbours:
    """The group, seen from the process that started it."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def look(self) -> Seen:
        """What it saw since the last look."""
        assert self._process.stdin is not None, "it was asked for"
        self._process.stdin.write(b"\n")
        return await self._read()

    async def finish(self) -> Seen:
        """Let it end; what it saw since the last look."""
        assert self._process.stdin is not None, "it was asked for"
        self._process.stdin.close()
        return await self._read()

    async def _read(self) -> Seen:
        assert self._process.stdout is not None, "it was asked for"
        return msgspec.json.decode(await self._process.stdout.readline(), type=Seen)


@asynccontextmanager
async def living(children: Children, job: Job) -> AsyncIterator[Neighbours]:
    """A group that is there, and follows its stream."""
    arguments = msgspec.json.encode(job).decode()
    process = await children.start("-m", "scripts.hardening.neighbours", arguments, stdin=PIPE, stdout=PIPE, limit=MIB)
    neighbours = Neighbours(process)
    while True:
        await asyncio.sleep(0.1)
        if (await neighbours.look()).events:
            break
    yield neighbours


if __name__ == "__main__":
    uvloop.run(serve(msgspec.json.decode(sys.argv[1], type=Job)))
