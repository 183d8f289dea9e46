"""Fixtures that run the `deltawire` command; whatever a test leaves behind is ended."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.forking import can_fork, start_module
from tests.support.processes import COMMAND, ROOT, Done, Run, Serve, Served, Start, call, clean_environment, wait_logged


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start a command with pipes; whatever still runs at the end of the test is killed."""
    processes: list[Process] = []

    async def start(
        *arguments: str, wrapper: tuple[str, ...] = (), env: dict[str, str] | None = None, **options: Any
    ) -> Process:
        options = {"stdin": DEVNULL, "stdout": PIPE, "stderr": PIPE, "cwd": ROOT, **options}
        options["env"] = clean_environment(**(env or {}))
        if wrapper or not can_fork(options["env"]):
            process = await asyncio.create_subprocess_exec(*wrapper, *COMMAND, *arguments, **options)
        else:
            process = await start_module(COMMAND[-1], *arguments, **options)
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.returncode is None:
            process.kill()
        if process.stdin is not None:
            process.stdin.close()
        await process.communicate()


@pytest.fixture
def run() -> Run:
    """Run a command to its end, in a thread of this process: a process of its own takes ten times as long."""

    async def run(*arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> Done:
        return await asyncio.to_thread(call, arguments, stdin, clean_environment(**(env or {})))

    return run


@pytest.fixture
def run_process(start: Start) -> Run:
    """Run a command to its end as a process, where that is what matters."""

    async def run(*arguments: str, **options: Any) -> Done:
        process = await start(*arguments, **options)
        output, errors = await process.communicate()
        assert process.returncode is not None
        return Done(process.returncode, (output or b"").decode(), (errors or b"").decode())

    return run


@pytest.fixture
def serve(start: Start) -> Serve:
    """Start a gateway on a free port, and wait until it listens."""

    async def serve(*arguments: str, **options: Any) -> Served:
        process = await start("serve", *(arguments or ("--port", "0")), **options)
        return Served(process, await wait_logged(process, "gateway.started"))

    return serve
