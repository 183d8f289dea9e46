"""Standard input and output of an asyncio program: waiting for either never blocks the event loop.

asyncio's own pipe transports refuse regular files and set `O_NONBLOCK`, which on a terminal also affects the shell.
This module polls a descriptor instead, and waits only if it is not ready; regular files are always ready.
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
"""Bytes that a writable pipe accepts without blocking (POSIX `write`)."""


class Input:
    """A descriptor that is read chunk by chunk.

    Args:
        fd: the descriptor; 0 is standard input.
        chunk: maximum bytes per read.
    """

    def __init__(self, fd: int, chunk: int) -> None:
        self._fd = fd
        self._chunk = chunk
        self._is_stopped = False
        self._left: int | None = None  # bytes still to read, once `stop_when_empty` has set it
        self._has_ended = False
        self._woken = asyncio.Event()

    @property
    def is_cut(self) -> bool:
        """Whether reading stopped before the end of the input."""
        return not self._has_ended

    @property
    def is_ready(self) -> bool:
        """Whether there is something to read at this moment, be it the end."""
        return bool(select.select([self._fd], [], [], 0)[0])

    def stop_when_empty(self) -> None:
        """Read what the pipe holds now, then stop."""
        held = array("i", (0,))
        fcntl.ioctl(self._fd, termios.FIONREAD, held)
        self._left = held[0]
        self._woken.set()

    def stop(self) -> None:
        """Stop reading at once."""
        self._is_stopped = True
        self._woken.set()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield every chunk as soon as it arrives, until the end of the input or `stop`.

        Waiting can be cancelled, and begun again by another call: nothing is lost.
        """
        while not self._is_stopped:
            is_ready = self.is_ready
            if is_ready:
                await asyncio.sleep(0)  # an input that is always ready must not starve signals and pings
            elif self._left is None:
                loop = asyncio.get_running_loop()
                await _wait_ready(self._fd, loop.add_reader, loop.remove_reader, self._woken)
                continue  # ready, or told to stop
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
    """A descriptor that is written completely, however slow its reader is.

    Args:
        fd: the descriptor; 1 is standard output.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._turn = asyncio.Lock()

    async def write(self, data: bytes) -> None:
        """Write all of `data`, waiting for the reader if necessary; what several tasks write does not mix.

        Raises:
            BrokenPipeError: the reader is gone.
        """
        rest = memoryview(data)
        async with self._turn:
            while rest:
                if not select.select([], [self._fd], [], 0)[1]:
                    loop = asyncio.get_running_loop()
                    await _wait_ready(self._fd, loop.add_writer, loop.remove_writer, asyncio.Event())
                rest = rest[os.write(self._fd, rest[:PIPE_BUF]) :]

    @asynccontextmanager
    async def watch_reader(self) -> AsyncIterator[None]:
        """End the block when the reader closes the pipe, even while there is nothing to write.

        `tail … | head -1` would otherwise run until the stream's next event.

        Raises:
            BrokenPipeError: the reader closed the pipe within the block.
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

        # The write end of a pipe becomes "readable" only when its read end is closed.
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
    """Wait until the loop reports a descriptor as ready, or another task sets the event.

    Args:
        fd: the descriptor.
        add: the loop's `add_reader` or `add_writer`.
        remove: its counterpart.
        woken: ends the wait when set.
    """
    woken.clear()
    add(fd, woken.set)
    try:
        await woken.wait()
    finally:
        remove(fd)
