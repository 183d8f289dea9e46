"""The command whose output is published, without a gateway."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from deltawire.gateway.cli.alongside import run_alongside
from deltawire.gateway.cli.ending import Failure
from deltawire.gateway.cli.publish.child import Child, run_child

IGNORES_SIGTERM = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here', flush=True); "


def python(script: str) -> list[str]:
    return [sys.executable, "-IS", "-c", script]


async def read_all(child: Child) -> bytes:
    return b"".join([chunk async for chunk in child.output.chunks()])


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill $$", 143)])
async def test_its_status_is_what_a_shell_says(script: str, status: int) -> None:
    async with run_child(["sh", "-c", script], 100) as child:
        assert await read_all(child) == b""
        assert await child.wait() == status


async def test_what_it_prints_is_read_to_its_end() -> None:
    async with run_child(["sh", "-c", "echo one; echo two"], 100) as child:
        assert await read_all(child) == b"one\ntwo\n"
        await child.wait()


async def test_a_command_that_does_not_end_when_asked_is_made_to() -> None:
    async with run_child(python(IGNORES_SIGTERM + "signal.pause()"), 100) as child:
        assert await anext(child.output.chunks()) == b"here\n"
        await child.stop(grace=0)
        assert await child.wait() == 137
        assert await read_all(child) == b""


async def test_output_held_open_by_others_is_read_no_longer_than_the_command_may_live(fifo: Path) -> None:
    async with run_child(["sh", "-c", f"exec 3<{fifo}; cat <&3 & echo here; wait"], 100) as child:
        assert await anext(child.output.chunks()) == b"here\n"
        reading = asyncio.ensure_future(read_all(child))
        await child.stop(grace=0)
        assert await reading == b""
        assert await child.wait() in (137, 143)


async def test_output_is_read_no_longer_than_the_command_runs(fifo: Path) -> None:
    """All that it printed itself, however much is held open by what it has started."""
    script = f"exec 3<{fifo}; cat <&3 & head -c 50000 /dev/zero"
    async with run_child(["sh", "-c", script], 100) as child, run_alongside(child.end_output(linger=0)):
        assert len(await read_all(child)) == 50_000
        assert child.output.is_cut
        assert await child.wait() == 0


async def test_what_others_print_a_moment_after_the_command_has_ended_is_read(tmp_path: Path) -> None:
    """As the last lines of `COMMAND > >(tee log)`. The shell opens the pipe: cat might do so when the test has left."""
    os.mkfifo(fifo := tmp_path / "fifo")
    held = os.open(fifo, os.O_RDWR)
    try:
        async with (
            run_child(["sh", "-c", f"exec 3<{fifo}; cat <&3 & echo one"], 100) as child,
            run_alongside(child.end_output(linger=600)),
        ):
            reading = asyncio.ensure_future(read_all(child))
            assert await child.wait() == 0
            os.write(held, b"two\n")
            os.close(held)
            held = -1
            assert await reading == b"one\ntwo\n"
            assert not child.output.is_cut
    finally:
        if held >= 0:
            os.close(held)


async def test_output_that_ends_with_the_command_is_not_cut() -> None:
    for script in ("true", "echo one"):
        async with run_child(["sh", "-c", script], 100) as child, run_alongside(child.end_output()):
            await read_all(child)
            assert not child.output.is_cut


async def test_a_block_left_early_leaves_no_command_behind() -> None:
    children: list[Child] = []

    async def fail() -> None:
        async with run_child(["cat", "/dev/zero"], 100) as child:
            children.append(child)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await children[0].wait() == 128 + 15


@pytest.mark.parametrize("command", ["no-such-command", "/"])
async def test_a_command_that_cannot_be_run_is_named(command: str) -> None:
    with pytest.raises(Failure, match=f"can't run '{command}': "):
        async with run_child([command], 100):
            pytest.fail("it was not run")


async def test_a_command_that_has_ended_can_be_stopped() -> None:
    async with run_child(["true"], 100) as child:
        await child.wait()
        await child.stop(grace=0)
        assert await child.wait() == 0
