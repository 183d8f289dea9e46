"""Real processes of the `deltawire` command, and terminals for them."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import sys
import termios
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Sequence
from io import TextIOWrapper
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple
from unittest.mock import patch

from deltawire.gateway.cli import main
from tests.support.waiting import DEADLINE

ROOT = Path(__file__).parent.parent.parent
COMMAND = (sys.executable, "-m", "deltawire")

SUBSCRIBED = {
    "type": "subscribed",
    "stream": "demo",
    "epoch": "e",
    "floor": 1,
    "head": 1,
    "after": 0,
    "policy": "coalesce",
    "buffer": 100,
    "recovered": True,
    "closed": False,
}
"""What a scripted gateway says first to a reader."""

Start = Callable[..., Awaitable[Process]]


class Done(NamedTuple):
    """How a command ended, and all it said."""

    status: int
    output: str
    errors: str


class Served(NamedTuple):
    """A running `deltawire serve`, and what its first log line said."""

    process: Process
    started: dict[str, Any]

    @property
    def url(self) -> str:
        return str(self.started["url"])


Run = Callable[..., Awaitable[Done]]
Serve = Callable[..., Awaitable[Served]]


def clean_environment(**changes: str) -> dict[str, str]:
    """This process's environment without settings of its own; programs buffer what they print, as anyone's do."""
    dropped = ("DELTAWIRE_", "PYTHONUNBUFFERED")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, **changes}


async def read_json(process: Process, stream: asyncio.StreamReader | None) -> dict[str, Any]:
    """The next line of a process, which has to be a JSON object."""
    assert stream is not None
    line = await stream.readline()
    assert line, f"the command ended with {await process.wait()}"
    assert line.startswith(b"{"), line
    message: dict[str, Any] = json.loads(line)
    return message


async def wait_logged(process: Process, event: str) -> dict[str, Any]:
    """The next line of a process's log that is about an event.

    Raises:
        AssertionError: none came within `DEADLINE`, or the process ended, or wrote what is none; with what came.
    """
    before: list[dict[str, Any]] = []
    try:
        async with asyncio.timeout(DEADLINE):
            while (entry := await read_json(process, process.stderr))["event"] != event:
                before.append(entry)
            return entry
    except (AssertionError, TimeoutError) as error:
        raise AssertionError("\n".join((f"{event} was not logged ({error!r}), but", *map(str, before)))) from None


def call(arguments: Sequence[str], stdin: bytes, environment: dict[str, str]) -> Done:
    """Run a command in this process, with standard streams and an environment of its own."""
    with TemporaryFile() as given, TemporaryFile() as output, TemporaryFile() as errors:
        given.write(stdin)
        given.seek(0)
        with (
            patch.dict(os.environ, environment, clear=True),
            patch.object(sys, "stdin", given),
            patch.object(sys, "stdout", TextIOWrapper(output, write_through=True)) as printed,
            patch.object(sys, "stderr", TextIOWrapper(errors, write_through=True)) as said,
        ):
            status = main(list(arguments))
            texts = []
            for wrapper in (printed, said):
                file = wrapper.detach()
                file.seek(0)
                texts.append(file.read().decode())
        return Done(status, *texts)


class Terminal:
    """A pseudo-terminal: what a command shows there, and what a person types."""

    def __init__(self) -> None:
        self.keyboard, self.side = pty.openpty()
        self.shown = ""
        self._changed = asyncio.Event()
        asyncio.get_running_loop().add_reader(self.keyboard, self._read)

    def _read(self) -> None:
        self.shown += os.read(self.keyboard, 65536).decode()
        self._changed.set()

    async def wait_shown(self, text: str) -> None:
        while text not in self.shown:
            await self.wait_changed()

    async def wait_changed(self) -> None:
        """Wait until more is shown."""
        self._changed.clear()
        await self._changed.wait()

    async def start_session(self, start: Start, *arguments: str, script: str = 'exec "$@"') -> Process:
        """Start a command with this as its controlling terminal, as a terminal emulator does.

        Args:
            start: starts processes.
            arguments: of the command.
            script: what the shell does with it, as `"$@"`; with `-m` set, jobs have process groups of their own.
        """
        tty = os.ttyname(self.side)
        opened = f"exec <{tty} >{tty} 2>&1; {script}"  # the first terminal a session leader opens becomes its own
        return await start(*arguments, wrapper=("sh", "-c", opened, "sh"), start_new_session=True)

    def mode(self) -> list[Any]:
        """The settings of the terminal."""
        return termios.tcgetattr(self.side)

    def type(self, text: str) -> None:
        os.write(self.keyboard, text.encode())

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.keyboard)
        os.close(self.keyboard)
        os.close(self.side)


AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.argv[2], sys.argv[2:])
"""


def passing(fd: int) -> dict[str, Any]:
    """What makes a process start with a descriptor as systemd passes one."""
    return {"wrapper": (sys.executable, "-c", AS_SYSTEMD, str(fd)), "pass_fds": (fd,)}
