"""Standard input and output of an asyncio program: waiting for either never holds the event loop up.

asyncio's own pipe transports refuse regular files and set `O_NONBLOCK`, which on a terminal changes the shell's side
too. Here a descriptor is asked whether it is ready, and waited for only when it is not: regular files always are.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
import stat
import termios
from array import array
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

PIPE_BUF = select.PIPE_BUF
"""Bytes a pipe takes without blocking once it is writable (POSIX `write`)."""


class Input:
    """A descriptor read in the chunks it comes in.

    Args:
        fd: the descriptor; 0 is standard input.
        chunk: most bytes one read gives.
    """

    def __init__(self, fd: int, chunk: int) -> None:
        self._fd = fd
        self._chunk = chunk
        self._is_stopped = False
        self._left: int | None = None  # bytes that are still wanted, once that is known
        self._has_ended = False
        self._woken = asyncio.Event()

    @property
    def is_cut(self) -> bool:
        """Whether it was left before its end."""
        return not self._has_ended

    @property
    def is_ready(self) -> bool:
        """Whether there is something to read at this moment, be it the end."""
        return bool(select.select([self._fd], [], [], 0)[0])

    def stop_when_empty(self) -> None:
        """Read what a pipe holds at this moment, and no more."""
        held = array("i", (0,))
        fcntl.ioctl(self._fd, termios.FIONREAD, held)
        self._left = held[0]
        self._woken.set()

    def stop(self) -> None:
        """Read no more, whatever is or will be there."""
        self._is_stopped = True
        self._woken.set()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Every chunk as soon as it is there, until the end of the input or `stop`.

        Waiting can be cancelled, and begun again by another call: nothing is lost.
        """
        while not self._is_stopped:
            is_ready = self.is_ready
            if is_ready:
                await asyncio.sleep(0)  # an input that is always ready leaves room for signals and pings
            elif self._left is None:
                loop = asyncio.get_running_loop()
                await _wait_ready(self._fd, loop.add_reader, loop.remove_reader, self._woken)
                continue  # or somebody has said that it is to stop
            if self._is_stopped:
                return
            if self._left == 0:
                self._has_ended = is_ready and not os.read(self._fd, 1)
                return
            data = os.read(self._fd, self._chunk if self._left is None else min(self._chunk, self._left))
            if not data:
                self._has_ended = True
                return
            if self._left is not None:
                self._left -= len(data)
            yield data


class Output:
    """A descriptor written whole, however slowly its reader takes it.

    Args:
        fd: the descriptor; 1 is standard output.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    async def write(self, data: bytes) -> None:
        """Write all of `data`, waiting for the reader where it must.

        Raises:
            BrokenPipeError: the reader is gone.
        """
        rest = memoryview(data)
        while rest:
            if not select.select([], [self._fd], [], 0)[1]:
                loop = asyncio.get_running_loop()
                await _wait_ready(self._fd, loop.add_writer, loop.remove_writer, asyncio.Event())
            rest = rest[os.write(self._fd, rest[:PIPE_BUF]) :]

    @asynccontextmanager
    async def watch_reader(self) -> AsyncIterator[None]:
        """End the block when the reader of a pipe goes away, also while there is nothing to write.

        `tail … | head -1` would otherwise linger until the stream's next event.

        Raises:
            BrokenPipeError: the reader went away within the block.
        """
        if not stat.S_ISFIFO(os.fstat(self._fd).st_mode):
            yield
            return
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        is_gone = False

        def leave() -> None:
            nonlocal is_gone
            is_gone = True
            loop.remove_reader(self._fd)
            task.cancel()

        # The writing end of a pipe becomes "readable" only when its reading end is closed.
        loop.add_reader(self._fd, leave)
        try:
            yield
        except asyncio.CancelledError:
            if is_gone and task.uncancel() == 0:
                raise BrokenPipeError from None
            raise
        finally:
            loop.remove_reader(self._fd)


async def _wait_ready(
    fd: int, add: Callable[[int, Callable[[], None]], None], remove: Callable[[int], bool], woken: asyncio.Event
) -> None:
    """Wait until the loop says that a descriptor is ready, or somebody else sets the event.

    Args:
        fd: the descriptor.
        add: the loop's `add_reader` or `add_writer`.
        remove: its counterpart.
        woken: set when the wait is over.
    """
    woken.clear()
    add(fd, woken.set)
    try:
        await woken.wait()
    finally:
        remove(fd)
