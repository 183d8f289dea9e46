"""The main job in ten seconds: one answer, one gateway, three followers with three fates, one text.

Starts a gateway on a free port and publishes an answer to it, a token at a time. One consumer follows from the
beginning, one joins late, and one loses its connection half-way and resumes. Exits 0 if all three texts are equal.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from deltawire.gateway.client import Publisher, Subscriber
from deltawire.protocol.events import (
    ContentEnd,
    ContentStart,
    Event,
    MessageStart,
    MessageStop,
    TextDelta,
    Thinking,
    Usage,
)

STREAM = "demo"
TOKENS_PER_SECOND = 60
ANSWER = """\
A stream is one append-only log of encoded frames, and a subscription is a cursor on that log. Because replay, resume \
and live are one read path, there is no seam at which a token could be lost, doubled or reordered. Whoever joins late \
gets the answer so far in one folded frame; whoever loses the connection says which number came last and gets exactly \
the rest; and whoever reads slowly holds nobody up, because a consumer costs a cursor and not a queue."""


class Follower:
    """A consumer, and a record of what reached it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = ""
        self.frames = 0
        self.folded = 0
        self.reconnects = 0

    async def follow(self, url: str) -> None:
        """Read the stream to its end, through lost connections."""
        async with Subscriber(url, STREAM, on_reconnect=self._note_reconnect) as subscriber:
            head = subscriber.subscribed.head if subscriber.subscribed else 0
            say(f"{self.name}: subscribed, the stream is at {head}")
            async for item in subscriber:
                self.frames += 1
                if isinstance(item, Event) and isinstance(item.data, TextDelta):
                    self.text += item.data.text
                    if isinstance(item.first, int) and isinstance(item.seq, int):
                        self.folded += item.seq - item.first + 1
                        say(f"{self.name}: events {item.first}…{item.seq} came folded into one frame")

    def _note_reconnect(self, reason: object, _delay: float) -> None:
        self.reconnects += 1
        say(f"{self.name}: connection lost ({reason}); resuming")

    def report(self, expected: str) -> bool:
        """Print what came; whether it is the whole answer."""
        is_whole = self.text == expected
        say(
            f"{self.name}: {self.frames} frames, {len(self.text)} characters, {self.folded} events folded, "
            f"{self.reconnects} reconnects: {'whole answer' if is_whole else 'NOT the whole answer'}"
        )
        return is_whole


class Relay:
    """A TCP relay whose connections can be cut, as networks do."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._host, self._port = address.hostname, address.port
        self._writers: set[asyncio.StreamWriter] = set()
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Relay]:
        """Relay until the context is left."""
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)  # noqa: TID251 - no test: its process ends with it
        async with server:
            self.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield self
            self.cut()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._host, self._port)
        self._writers |= {writer, back}
        await asyncio.gather(_copy(reader, back), _copy(there, writer))
        self._writers -= {writer, back}

    def cut(self) -> None:
        """Drop every connection without a word."""
        for writer in self._writers:
            writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


def say(line: str) -> None:
    """One line to the person watching."""
    print(f"  {line}", flush=True)


@asynccontextmanager
async def started_gateway() -> AsyncIterator[str]:
    """A gateway process on a free port; yields its address."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "deltawire", "serve", "--port", "0", "--log-format", "json"),
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None, "it was asked for"
    try:
        while "url" not in (entry := json.loads(await process.stderr.readline())):
            pass  # a busy machine may be told of before the address
        yield entry["url"]
    finally:
        process.terminate()
        await process.communicate()


async def publish(url: str, half_way: asyncio.Event) -> None:
    """Publish the answer, a token at a time; say when half of it is out."""
    tokens = ANSWER.split(" ")
    tokens = [tokens[0], *(f" {token}" for token in tokens[1:])]
    async with Publisher(url, STREAM) as publisher:
        await publisher.send(MessageStart(message_id="demo-1", model="a patient model"))
        await publisher.send(Thinking(thinking="They want to see what happens when things go wrong."))
        await publisher.send(ContentStart(index=0, kind="text"))
        for count, token in enumerate(tokens, 1):
            await publisher.send(TextDelta(text=token, index=0))
            await asyncio.sleep(1 / TOKENS_PER_SECOND)
            if count == len(tokens) // 2:
                half_way.set()
        await publisher.send(ContentEnd(index=0))
        await publisher.send(Usage(prompt_tokens=12, completion_tokens=len(tokens), total_tokens=12 + len(tokens)))
        await publisher.send(MessageStop(message_id="demo-1", stop_reason="end_turn"))
        await publisher.close_stream()
        say(f"producer: {publisher.acked} events sent, {publisher.acked} acknowledged; stream closed")


async def main() -> int:
    """Run the demo; the exit status."""
    early, late, unlucky = Follower("early"), Follower("late"), Follower("unlucky")
    async with started_gateway() as url, Relay(url).running() as relay, asyncio.TaskGroup() as tasks:
        print(f"gateway on {url}; stream {STREAM!r}, {TOKENS_PER_SECOND} tokens a second")
        half_way = asyncio.Event()
        tasks.create_task(early.follow(url))
        tasks.create_task(unlucky.follow(relay.url))
        tasks.create_task(publish(url, half_way))
        await half_way.wait()
        say("half of the answer is out: one consumer joins, one loses its connection")
        relay.cut()
        tasks.create_task(late.follow(url))
    print("what each saw:")
    is_whole = [follower.report(ANSWER) for follower in (early, late, unlucky)]
    print("all texts are equal" if all(is_whole) else "the texts DIFFER")
    return 0 if all(is_whole) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
