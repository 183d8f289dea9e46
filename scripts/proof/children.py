"""Processes that end with the one that started them, however it ends."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import msgspec

from scripts.proof.workers import Job

_PR_SET_PDEATHSIG = 1  # prctl(2)
_ROOT = Path(__file__).parent.parent.parent


class Children:
    """The processes started here; an async context manager that leaves none behind."""

    def __init__(self) -> None:
        self._processes: list[Process] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):
                process.kill()
        await asyncio.gather(*(process.wait() for process in self._processes))

    async def start(self, *arguments: str, variables: Mapping[str, str] | None = None, **options: Any) -> Process:
        """Start a Python process of this project, with some variables of the environment.

        Options are as for `asyncio.create_subprocess_exec`.
        """
        process = await self.spawn(*arguments, env={**_environment(), **(variables or {})}, **options)
        self._processes = [it for it in self._processes if it.returncode is None] + [process]
        return process

    async def spawn(self, *arguments: str, **options: Any) -> Process:
        """Start a Python process in the project's folder."""
        return await asyncio.create_subprocess_exec(
            *(sys.executable, *arguments), cwd=_ROOT, preexec_fn=_die_with_parent, **options
        )


async def read_line(process: Process) -> bytes:
    """The next line that a process prints."""
    assert process.stdout is not None, "it was asked for"
    return await process.stdout.readline()


async def end_input(process: Process) -> None:
    """End the standard input of a process that lives as long as there is any, and wait for its end."""
    assert process.stdin is not None, "it was asked for"
    process.stdin.close()
    await process.wait()


class Served(NamedTuple):
    """A gateway's process and address."""

    process: Process
    url: str

    @property
    def http(self) -> str:
        """The same address, for HTTP."""
        return self.url.replace("ws://", "http://")


@asynccontextmanager
async def serving(children: Children, program: str = "deltawire", /, **settings: object) -> AsyncIterator[Served]:
    """A gateway on a free port, with settings by their names; it drains on leaving.

    Args:
        children: where its process is started.
        program: the module that is run.
        settings: by their names.
    """
    flags = [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    process = await children.start(
        *("-m", program, "serve", "--port", "0", "--log-format", "json", "--log-level", "info", *flags),
        stderr=PIPE,
    )
    assert process.stderr is not None, "it was asked for"
    while "url" not in (entry := json.loads(await process.stderr.readline())):
        pass  # the machine is so busy that its loop complains first
    async with asyncio.TaskGroup() as tasks:
        listening = tasks.create_task(_forward(process.stderr))
        yield Served(process, entry["url"])
        with suppress(ProcessLookupError):
            process.terminate()
        await listening
        await process.wait()


async def _forward(log: asyncio.StreamReader) -> None:
    """Show what the gateway complains about; the rest of its log must be read too, or it would stand still."""
    while line := await log.readline():
        if not line.startswith(b"{") or json.loads(line).get("level") in ("error", "critical"):
            sys.stderr.write(line.decode())


class Worker:
    """One producer or consumer, through all its processes.

    Args:
        children: where they are started.
        job: what they do.
        log: file of what they complain about.

    Attributes:
        failures: how processes ended that nobody killed, and that did not end well.
    """

    def __init__(self, children: Children, job: Job, log: Path) -> None:
        self._children = children
        self._job = job
        self._log = log
        self._process: Process | None = None
        self.failures: list[str] = []

    async def start(self) -> None:
        """Start a process and wait until it has begun its work."""
        with self._log.open("ab") as log:
            job = msgspec.json.encode(self._job).decode()
            self._process = await self._children.start("-m", "scripts.proof.workers", job, stdout=PIPE, stderr=log)
        assert self._process.stdout is not None, "it was asked for"
        await self._process.stdout.readline()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; one that has ended already does not get it."""
        with suppress(ProcessLookupError):
            self._running.send_signal(number)

    async def kill(self) -> None:
        """End it at once, as a power cut would."""
        self.signal(signal.SIGKILL)
        await self.wait(-signal.SIGKILL)

    async def wait(self, expected: int, timeout: float | None = None) -> None:
        """Wait for the end of the process; another status than expected is a failure, as is none in time."""
        try:
            async with asyncio.timeout(timeout):
                status = await self._running.wait()
        except TimeoutError:
            self.failures.append(f"{self._log.stem} did not end within {timeout} s")
            self.signal(signal.SIGKILL)
            return
        if status != expected:
            complaint = self._log.read_text().strip().rpartition("\n")[2]
            self.failures.append(f"{self._log.stem} ended with {status} instead of {expected}: {complaint}")

    @property
    def has_ended(self) -> bool:
        """Whether its process is gone."""
        return self._running.returncode is not None

    @property
    def _running(self) -> Process:
        assert self._process is not None, "it was started"
        return self._process


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("DELTAWIRE_")}


def _die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it ends, a stopped one too; Linux alone can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
