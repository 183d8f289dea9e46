"""A gateway in a process of its own that tells how many tasks it runs, and what that process takes."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import uvloop
from msgspec import Struct

from deltawire.gateway.config import Settings
from deltawire.gateway.configuring import make_settings
from deltawire.gateway.server import Gateway
from scripts.proof.children import Children, end_input, read_line


class Usage(Struct, frozen=True):
    """What a process takes at one moment: resident memory in bytes, and things it has open."""

    memory: int
    descriptors: int
    threads: int
    tasks: int


class Watched:
    """A gateway's process.

    Args:
        process: which answers every line with its number of tasks.

    Attributes:
        url: where it listens.
    """

    def __init__(self, process: Process, url: str) -> None:
        self._process = process
        self.url = url

    async def usage(self) -> Usage:
        """What it takes now."""
        assert self._process.stdin is not None, "it was asked for"
        self._process.stdin.write(b"\n")
        tasks = int(await read_line(self._process))
        return _read_usage(self._process.pid, tasks)


@asynccontextmanager
async def watching(children: Children, **settings: float) -> AsyncIterator[Watched]:
    """A gateway on a free port, with settings by their names; it drains on leaving."""
    arguments = msgspec.json.encode({"port": 0, **settings}).decode()
    process = await children.start("-m", "scripts.proof.watched", arguments, stdin=PIPE, stdout=PIPE)
    yield Watched(process, (await read_line(process)).decode().strip())
    await end_input(process)


def _read_usage(pid: int, tasks: int) -> Usage:
    of_process = Path(f"/proc/{pid}")
    pages = int((of_process / "statm").read_text().split()[1])
    return Usage(
        memory=pages * os.sysconf("SC_PAGE_SIZE"),
        descriptors=len(list((of_process / "fd").iterdir())),
        threads=len(list((of_process / "task").iterdir())),
        tasks=tasks,
    )


async def serve(settings: Settings) -> None:
    """Say where it listens, then answer each line of standard input with the number of tasks, until its end."""
    asked = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asked), sys.stdin)
    async with Gateway(settings) as gateway:
        print(gateway.url, flush=True)
        while await asked.readline():
            print(len(asyncio.all_tasks()), flush=True)


if __name__ == "__main__":
    uvloop.run(serve(make_settings(msgspec.json.decode(sys.argv[1]))))
