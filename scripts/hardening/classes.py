"""`python -m scripts.hardening.classes`: a stream of class `high` is served first, whatever others send.

A healthy group (`neighbours`) follows a stream at a steady rate, by turns alone and beside a flood: producers of other
streams that send as fast as their sockets take it, each of which keeps the gateway busy by itself. The group's p99
beside the flood is at most `FACTOR` times that of the quiet run if its stream is `high`; that of a `normal` one is
printed to compare with. No flooded stream starves.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from contextlib import AsyncExitStack
from typing import Final

import msgspec
import uvloop
from msgspec import Struct

from scripts.bench.wire import request
from scripts.hardening import neighbours
from scripts.hardening.frames import MIB, delta
from scripts.hardening.hostile import YIELDING, Hostile
from scripts.hardening.measured import measuring
from scripts.hardening.neighbours import Seen, living, pooled
from scripts.hardening.turns import FACTOR, FLOOR_MS
from scripts.proof.children import Children, end_input, read_line

FLOODS: Final = 40
"""Producers that flood: a few of them keep the gateway busy, so this is several times what it can take."""

READERS: Final = 2
"""Consumers of each flooded stream."""

BURST: Final = 64
"""Messages written at once."""

ROUNDS: Final = 6
"""Quiet and flooded whiles, in turn, so that whatever else the machine does falls on both alike."""

WHILE: Final = 1.0
"""Seconds of each."""

SETTLING: Final = 0.2
"""Seconds that a flood takes to begin and to end."""


class Job(Struct, frozen=True):
    """What a flood is told on its command line.

    Attributes:
        port: of the gateway.
    """

    port: int


async def _read(reading: Hostile) -> None:
    while await reading.take(MIB):
        pass


async def _flood(port: int, number: int, is_on: asyncio.Event) -> None:
    burst = delta("x" * 40) * BURST
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        for _ in range(READERS):
            reading = await stack.enter_async_context(Hostile(port))
            await reading.ask(request(f"/v1/streams/flood-{number}/subscribe", port, "deltawire.v1.json"))
            tasks.create_task(_read(reading))
        writing = await stack.enter_async_context(Hostile(port))
        await writing.ask(request(f"/v1/streams/flood-{number}/publish", port, "deltawire.v1.json"))
        tasks.create_task(_read(writing))
        while True:
            await is_on.wait()
            await writing.send(burst)


async def serve(job: Job) -> None:
    """Flood or rest, as the lines of standard input say, until its end."""
    os.nice(YIELDING)
    asked = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asked), sys.stdin)
    is_on = asyncio.Event()
    flooding = [asyncio.create_task(_flood(job.port, number, is_on)) for number in range(FLOODS)]
    while line := await asked.readline():
        if line == b"flood\n":
            is_on.set()
        else:
            is_on.clear()
        print(flush=True)
    for task in flooding:
        task.cancel()


async def watch(classes: str) -> tuple[Seen, Seen, list[int]]:
    """What the group saw alone and beside the flood, and how many events of each flooded stream got through."""
    async with AsyncExitStack() as stack:
        children = await stack.enter_async_context(Children())
        gateway = await stack.enter_async_context(
            measuring(children, is_timed=False, connection_rate=0.0, message_rate=0.0, stream_classes=classes)
        )
        group_job = neighbours.Job(url=gateway.url, stream="neighbours", token="none")  # noqa: S106 - it asks for none
        group = await stack.enter_async_context(living(children, group_job))
        arguments = msgspec.json.encode(Job(gateway.port)).decode()
        flood = await children.start("-m", "scripts.hardening.classes", arguments, stdin=PIPE, stdout=PIPE)
        assert flood.stdin is not None, "it was asked for"
        quiet, flooded = list[Seen](), list[Seen]()
        for _ in range(ROUNDS):
            for order, seen in ((b"rest\n", quiet), (b"flood\n", flooded)):
                flood.stdin.write(order)
                await read_line(flood)
                await asyncio.sleep(SETTLING)
                await group.look()
                await asyncio.sleep(WHILE)
                seen.append(await group.look())
        flood.stdin.write(b"rest\n")
        await read_line(flood)
        heads = [await _head(gateway.port, f"flood-{number}") for number in range(FLOODS)]
        await end_input(flood)
        await group.finish()
    return pooled(quiet), pooled(flooded), heads


async def _head(port: int, stream: str) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /v1/streams/{stream} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n".encode())
    _, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(msgspec.json.decode(body)["head"])


async def prove() -> list[str]:
    """What must not have happened."""
    failures: list[str] = []
    for stream_class in ("normal", "high"):
        quiet, flooded, heads = await watch(f"neighbours={stream_class}")
        limit = FACTOR * max(quiet.p99_ms, FLOOR_MS)
        print(
            f"{stream_class}: p99 {quiet.p99_ms:.2f} ms alone, {flooded.p99_ms:.2f} ms beside the flood "
            f"(limit {limit:.2f}), p50 {quiet.p50_ms:.2f} and {flooded.p50_ms:.2f}; {flooded.events} deliveries; "
            f"flooded: {sum(heads)} events, {min(heads)} to {max(heads)} a stream",
            flush=True,
        )
        if quiet.lost or flooded.lost:
            failures.append(f"{stream_class}: {quiet.lost + flooded.lost} events were lost")
        if not min(heads):
            failures.append(f"{stream_class}: a flooded stream starved")
        if stream_class == "high" and flooded.p99_ms > limit:
            failures.append(f"high: p99 {flooded.p99_ms:.2f} ms beside the flood, over {limit:.2f}")
    return failures


def main() -> int:
    """The exit status."""
    failures = uvloop.run(prove())
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    if len(sys.argv) > 1:
        uvloop.run(serve(msgspec.json.decode(sys.argv[1], type=Job)))
    else:
        sys.exit(main())
