"""Standard input and output that hold nothing up."""

from __future__ import annotations

import asyncio
import os
import pty
import tty
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deltawire.gateway.cli.stdio import Input, Output

MUCH = os.urandom(1 << 20)  # more than any pipe holds


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            continue  # the test has closed it


async def read_all(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def test_a_pipe_is_read_in_the_chunks_it_comes_in(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    chunks = Input(reader, 100).chunks()
    for text in (b"one", b"two"):
        waiting = asyncio.ensure_future(anext(chunks))
        await asyncio.wait([waiting], timeout=0)
        assert not waiting.done()
        os.write(writer, text)
        assert await waiting == text
    os.close(writer)
    assert [chunk async for chunk in chunks] == []


async def test_a_chunk_is_never_longer_than_asked(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.write(writer, b"abcdefg")
    os.close(writer)
    assert [chunk async for chunk in Input(reader, 3).chunks()] == [b"abc", b"def", b"g"]


async def test_a_regular_file_is_read_and_written(tmp_path: Path) -> None:
    path = tmp_path / "data"
    with path.open("wb") as file:
        output = Output(file.fileno())
        async with output.watch_reader():
            await output.write(MUCH)
    with path.open("rb") as file:
        assert await read_all(Input(file.fileno(), 65536).chunks()) == MUCH


async def test_an_input_that_never_ends_can_be_left() -> None:
    with Path("/dev/zero").open("rb") as zeros:  # noqa: ASYNC230 - a device
        reading = asyncio.ensure_future(read_all(Input(zeros.fileno(), 100).chunks()))
        for _ in range(10):
            await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading


async def test_a_terminal_is_read_and_written() -> None:
    keyboard, terminal = pty.openpty()
    tty.setraw(terminal)
    try:
        os.write(keyboard, b"typed")
        assert await anext(Input(terminal, 100).chunks()) == b"typed"
        async with Output(terminal).watch_reader():
            await Output(terminal).write(b"shown")
        assert os.read(keyboard, 100) == b"shown"
    finally:
        os.close(keyboard)
        os.close(terminal)


async def test_a_slow_reader_of_the_output_holds_only_the_writer_up(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    writing = asyncio.ensure_future(Output(writer).write(MUCH))
    writing.add_done_callback(lambda _: os.close(writer))
    assert await read_all(Input(reader, 65536).chunks()) == MUCH
    await writing


async def test_a_wait_for_input_can_be_cancelled(pipe: tuple[int, int]) -> None:
    waiting = asyncio.ensure_future(read_all(Input(pipe[0], 10).chunks()))
    await asyncio.wait([waiting], timeout=0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not asyncio.get_running_loop().remove_reader(pipe[0])


async def test_an_input_can_be_stopped_while_it_is_idle_and_while_it_never_is(pipe: tuple[int, int]) -> None:
    idle = Input(pipe[0], 10)
    waiting = asyncio.ensure_future(read_all(idle.chunks()))
    await asyncio.wait([waiting], timeout=0)
    idle.stop()
    assert await waiting == b""
    with Path("/dev/zero").open("rb") as zeros:  # noqa: ASYNC230 - a device
        busy = Input(zeros.fileno(), 10)
        reading = asyncio.ensure_future(read_all(busy.chunks()))
        await asyncio.wait([reading], timeout=0)
        busy.stop()
        await reading


async def test_writing_to_a_reader_that_is_gone_says_so(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    with pytest.raises(BrokenPipeError):
        await Output(pipe[1]).write(b"x")


async def test_a_reader_that_goes_away_ends_an_idle_block(pipe: tuple[int, int]) -> None:
    async def idle() -> None:
        async with Output(pipe[1]).watch_reader():
            os.close(pipe[0])
            await asyncio.Event().wait()

    with pytest.raises(BrokenPipeError):
        await idle()
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0


async def test_cancelling_an_idle_block_is_not_taken_for_a_reader_that_left(pipe: tuple[int, int]) -> None:
    async def idle() -> None:
        async with Output(pipe[1]).watch_reader():
            await asyncio.Event().wait()

    waiting = asyncio.ensure_future(idle())
    await asyncio.wait([waiting], timeout=0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
