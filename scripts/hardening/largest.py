"""One message of the largest size of every shape, in both encodings, to both endpoints, from a process of its own.

It makes a few messages at a time. Told to by a line on its standard input, it sends these one after another, and says
when all are done; after the last ones it begins again. So what it takes to make them holds up nobody.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import msgspec
import uvloop
from msgspec import Struct

from scripts.bench.wire import request
from scripts.hardening.generated import CONSUMED, LARGEST, PRODUCED, SUBPROTOCOLS, encode, shapes
from scripts.hardening.hostile import YIELDING, Hostile
from scripts.proof.children import Children, end_input, read_line

AT_A_TIME: Final = 100
"""Messages made and sent at a time: half a second of attack."""


class Job(Struct, frozen=True):
    """What it is told on its command line.

    Attributes:
        port: of the gateway.
        every: one of so many shapes is sent.
        seed: which.
    """

    port: int
    every: int
    seed: int


class Message(NamedTuple):
    """A message.

    Attributes:
        name: of its shape, its endpoint and its encoding.
        endpoint: `publish` or `subscribe`.
        subprotocol: of its encoding.
        data: its frame.
    """

    name: str
    endpoint: str
    subprotocol: str
    data: bytes


def messages(job: Job) -> Iterator[Message]:
    """Yield the messages: one of so many shapes, and all that are a whole message, which are few and the worst."""
    for endpoint, kinds in (("publish", PRODUCED), ("subscribe", CONSUMED)):
        for at, shape in enumerate(shapes(kinds)):
            if shape.is_whole or (at + job.seed) % job.every == 0:
                for subprotocol in SUBPROTOCOLS:
                    data = encode(shape.make(LARGEST), is_text=subprotocol == SUBPROTOCOLS[0])
                    yield Message(f"{shape.name} ({endpoint}, {subprotocol})", endpoint, subprotocol, data)


async def send(port: int, message: Message) -> None:
    """Send one message, beside a reader of each encoding, and wait until it is done."""
    async with Hostile(port) as it, Hostile(port) as json_reader, Hostile(port) as other:
        for reader, wanted in zip((json_reader, other), SUBPROTOCOLS, strict=True):
            await reader.ask(request("/v1/streams/one/subscribe?from=now", port, wanted))
        await it.ask(request(f"/v1/streams/one/{message.endpoint}", port, message.subprotocol))
        await it.send(message.data)
        await it.send(b"\x88\x82\0\0\0\0\x03\xe8")  # a close, answered when all before it is done
        await it.read_rest()


async def serve(job: Job) -> None:
    """Make and send messages, a few for each line of standard input, until its end."""
    os.nice(YIELDING)
    asked = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asked), sys.stdin)
    endless = itertools.chain.from_iterable(messages(job) for _ in itertools.count())
    while True:
        made = list(itertools.islice(endless, AT_A_TIME))
        print(flush=True)
        if not await asked.readline():
            break
        for message in made:
            await send(job.port, message)
        print(flush=True)


class Sender:
    """That process, seen from the one that started it."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def make(self) -> None:
        """Wait until the next messages are made."""
        await read_line(self._process)

    async def send(self) -> None:
        """Have them sent."""
        assert self._process.stdin is not None, "it was asked for"
        self._process.stdin.write(b"\n")
        if not await read_line(self._process):
            raise RuntimeError("the process that sends the largest messages died")


@asynccontextmanager
async def sending(children: Children, job: Job) -> AsyncIterator[Sender]:
    """A process that sends messages when it is told to."""
    arguments = msgspec.json.encode(job).decode()
    process = await children.start("-m", "scripts.hardening.largest", arguments, stdin=PIPE, stdout=PIPE)
    yield Sender(process)
    await end_input(process)


if __name__ == "__main__":
    uvloop.run(serve(msgspec.json.decode(sys.argv[1], type=Job)))
