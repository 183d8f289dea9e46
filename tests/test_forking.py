"""Programs that are forked for tests (`tests/support/forking.py`) are what new interpreters would be."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import run_process, start
from tests.support.forking import CAN_FORK, KILLED, fork_module
from tests.support.processes import ROOT, Run, clean_environment
from tests.support.waiting import DEADLINE

__all__ = ["run_process", "start"]  # fixtures

MODULE = "tests.support.program"

pytestmark = pytest.mark.skipif(not CAN_FORK, reason="programs are not forked on this system")


async def run(*arguments: str, is_forked: bool, **options: Any) -> tuple[int | None, str, str]:
    """Run the program; its status, and what it wrote."""
    options = {"cwd": ROOT, "env": clean_environment(), "stdin": PIPE, "stdout": PIPE, "stderr": PIPE, **options}
    if is_forked:
        process = await fork_module(MODULE, *arguments, **options)
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
    process = await fork_module(MODULE, "wait", **options)
    assert process.stdout is not None
    os.kill(int(await process.stdout.readline()), signal.SIGKILL)
    async with asyncio.timeout(DEADLINE):
        assert await process.wait() == KILLED
    assert await run("normally", is_forked=True) == (0, "the end\n", "")


async def test_a_program_that_has_begun_leads_its_session_and_can_be_ended() -> None:
    options: dict[str, Any] = {"stdin": PIPE, "stdout": DEVNULL, "stderr": DEVNULL, "start_new_session": True}
    for _ in range(10):  # at first, it was told of too early most times
        process = await fork_module(MODULE, "describe", cwd=ROOT, env=clean_environment(), **options)
        os.killpg(process.pid, signal.SIGTERM)
        await process.communicate()
        assert process.returncode == -signal.SIGTERM


async def test_a_program_that_can_not_begin_is_told(tmp_path: Path) -> None:
    options: dict[str, Any] = {"stdin": DEVNULL, "stdout": DEVNULL, "stderr": DEVNULL}
    with pytest.raises(AssertionError, match="could not begin"):
        await fork_module(MODULE, "normally", cwd=tmp_path / "absent", env=clean_environment(), **options)


async def test_a_command_reads_what_an_interpreter_reads_as_it_begins(run_process: Run, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('customized')")
    done = await run_process("--version", env={"PYTHONPATH": f"{tmp_path}:{_PACKAGE}"})
    assert done.output.startswith("customized\n")


_PACKAGE = ROOT / "scripts" / "package"
