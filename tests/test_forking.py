"""Programs that are forked for tests (`tests/support/forking.py`) are what new interpreters would be."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import threading
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import pytest

from tests.support.forking import CAN_FORK, LOST, start_module
from tests.support.processes import ROOT, clean_environment
from tests.support.waiting import DEADLINE

MODULE = "tests.test_forking"

pytestmark = pytest.mark.skipif(not CAN_FORK, reason="programs are not forked on this system")


async def run(*arguments: str, is_forked: bool, **options: Any) -> tuple[int | None, str, str]:
    """Run this module as a program; its status, and what it wrote."""
    options = {"cwd": ROOT, "env": clean_environment(), "stdin": PIPE, "stdout": PIPE, "stderr": PIPE, **options}
    if is_forked:
        process = await start_module(MODULE, *arguments, **options)
    else:
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", MODULE, *arguments, **options)
    output, errors = await process.communicate(b"typed" if process.stdin else None)
    return process.returncode, output.decode(), (errors or b"").decode()


@pytest.mark.parametrize("options", [{}, {"start_new_session": True}, {"stderr": STDOUT}, {"stdin": DEVNULL}])
async def test_a_forked_program_finds_what_a_new_interpreter_finds(options: dict[str, Any], tmp_path: Path) -> None:
    options |= {"cwd": tmp_path, "env": clean_environment(TZ="Asia/Kathmandu", PYTHONPATH=f"{ROOT}:{_PACKAGE}")}
    programs = [await run("describe", "two words", is_forked=it, **options) for it in (True, False)]
    forked, other = (json.loads(output) for _, output, _ in programs)
    assert forked == other
    assert forked["read"] == ("" if "stdin" in options else "typed")


@pytest.mark.parametrize("end", ["normally", "exit", "message", "fault", "kill", "interrupt"])
async def test_a_forked_program_ends_as_others_do(end: str) -> None:
    forked = await run(end, is_forked=True)
    assert forked[:2] == (await run(end, is_forked=False))[:2]
    status, _, errors = forked
    assert status == {"exit": 3, "message": 1, "fault": 1, "kill": -9, "interrupt": -2}.get(end, 0)
    assert {"message": "it says why\n", "fault": "ZeroDivisionError: division by zero\n"}.get(end, "") in errors


async def test_programs_end_with_the_process_that_forks_them_and_the_next_has_another() -> None:
    options: dict[str, Any] = {
        "cwd": ROOT,
        "env": clean_environment(),
        "stdin": PIPE,
        "stdout": PIPE,
        "stderr": DEVNULL,
    }
    process = await start_module(MODULE, "wait", **options)
    assert process.stdout is not None
    os.kill(int(await process.stdout.readline()), signal.SIGKILL)
    async with asyncio.timeout(DEADLINE):
        assert await process.wait() == LOST
    assert await run("normally", is_forked=True) == (0, "the end\n", "")


_PACKAGE = ROOT / "scripts" / "package"


def describe() -> dict[str, Any]:
    """What a program finds when it begins."""
    return {
        "arguments": sys.argv,
        "folder": str(Path.cwd()),
        "environment": dict(os.environ),
        "descriptors": sorted(int(it.name) for it in Path("/proc/self/fd").iterdir()),
        "leads": os.getpid() == os.getsid(0),
        "signals": {it: str(signal.getsignal(it)).partition(" at ")[0] for it in range(1, 32)},
        "streams": [
            (it.fileno(), it.mode, it.encoding, it.errors, it.line_buffering, it.write_through)
            for it in (sys.stdin, sys.stdout, sys.stderr)
            if isinstance(it, TextIOWrapper)
        ],
        "threads": threading.active_count(),
        "thresholds": gc.get_threshold(),
        "read": sys.stdin.read(),
    }


def _end(how: str) -> None:
    sys.stdout.write("the end\n")
    match how:
        case "exit":
            sys.exit(3)
        case "message":
            sys.exit("it says why")
        case "fault":
            sys.stdout.write(str(1 / 0))
        case "kill":
            sys.stdout.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        case "interrupt":
            os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    if sys.argv[1] == "describe":
        sys.stdout.write(json.dumps(describe()))
    elif sys.argv[1] == "wait":
        sys.stdout.write(f"{os.getppid()}\n")
        sys.stdout.flush()
        signal.pause()
    else:
        _end(sys.argv[1])
