"""A gateway in a process of its own that tells what it counts, what it takes, and how long a turn of its loop is.

A turn is measured in the time its thread ran: what the machine does meanwhile is no turn's doing.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import uvloop
from msgspec import Struct

from deltawire.gateway.cli.collector import calm
from deltawire.gateway.config import Settings
from deltawire.gateway.configuring import make_settings
from deltawire.gateway.logs import configure_logs
from deltawire.gateway.server import Gateway
from scripts.proof.children import Children, end_input, read_line


class Measure(Struct, frozen=True):
    """What was measured.

    Attributes:
        resident: bytes of the process.
        blocks: of memory that Python has in use, however scattered they are.
        counted: bytes the gateway counts towards `memory_limit`.
        streams: it has.
        connections: it has.
        faults: it counted, since it began.
        longest_ms: the longest turn since the last measure; 0 where turns are not timed.
    """

    resident: int
    blocks: int
    counted: int
    streams: int
    connections: int
    faults: int
    longest_ms: float


class TurnMeter:
    """Times the turns of the running loop, which never rests from then on."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._before = time.thread_time()
        self._longest = 0.0

    def start(self) -> None:
        """Time every turn from now on."""
        self._before = time.thread_time()
        self._loop.call_soon(self._count)

    def _count(self) -> None:
        now = time.thread_time()
        self._longest = max(self._longest, now - self._before)
        self._before = now
        self._loop.call_soon(self._count)

    def take(self) -> float:
        """Seconds of the longest turn since the last call."""
        longest, self._longest = self._longest, 0.0
        self._before = time.thread_time()
        return longest


class Measured:
    """A gateway's process.

    Args:
        process: which answers every line with a measure.

    Attributes:
        url: where it listens.
        port: likewise.
    """

    def __init__(self, process: Process, url: str) -> None:
        self._process = process
        self.url = url
        self.port = int(url.rpartition(":")[2])

    async def measure(self) -> Measure:
        """What it is now."""
        assert self._process.stdin is not None, "it was asked for"
        self._process.stdin.write(b"\n")
        line = await read_line(self._process)
        if not line:
            raise RuntimeError("the gateway died")
        return msgspec.json.decode(line, type=Measure)


@asynccontextmanager
async def measuring(
    children: Children, *, is_timed: bool, allocator: str = "pymalloc", **settings: float | str
) -> AsyncIterator[Measured]:
    """A gateway on a free port; it drains on leaving.

    Args:
        children: where its process is started.
        is_timed: whether its turns are.
        allocator: Python's: `pymalloc`, or `malloc` for that of the C library.
        settings: by their names.
    """
    arguments = msgspec.json.encode({"port": 0, "drain_timeout": 1.0, "log_level": "error", **settings}).decode()
    timed = ["timed"] if is_timed else []
    command = ("-m", "scripts.hardening.measured", arguments, *timed)
    process = await children.start(*command, variables={"PYTHONMALLOC": allocator}, stdin=PIPE, stdout=PIPE)
    yield Measured(process, (await read_line(process)).decode().strip())
    await end_input(process)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def serve(settings: Settings, *, is_timed: bool) -> None:
    """Say where it listens, then answer each line of standard input with a measure, until its end."""
    asked = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asked), sys.stdin)
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(Gateway(settings))
        calm(stack)
        print(gateway.url, flush=True)
        meter = TurnMeter()
        if is_timed:
            meter.start()
        while await asked.readline():
            hub = gateway.hub
            measure = Measure(
                resident=_resident(),
                blocks=sys.getallocatedblocks(),
                counted=hub.manager.bytes,
                streams=hub.count(),
                connections=gateway.connections,
                faults=hub.tally.faults,
                longest_ms=meter.take() * 1000,
            )
            print(msgspec.json.encode(measure).decode(), flush=True)


if __name__ == "__main__":
    chosen = make_settings(msgspec.json.decode(sys.argv[1]))
    configure_logs(chosen)
    uvloop.run(serve(chosen, is_timed="timed" in sys.argv[2:]))
