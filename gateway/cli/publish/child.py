"""The command that `publish … -- COMMAND` runs and whose standard output it reads.

The child stays in our process group: it may read the keyboard, and Ctrl-C in the terminal reaches it.
"""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from deltawire.gateway.cli.alongside import run_alongside
from deltawire.gateway.cli.ending import Failure
from deltawire.gateway.cli.stdio import Input

GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL; output in this time is still published."""

LINGER = 0.5
"""Seconds to wait for the end of the output after the command has ended: with `COMMAND > >(tee log)`, tee prints the
last lines a moment after the shell has ended."""


class Child:
    """A running command.

    Args:
        process: the command.
        output: its standard output.
    """

    def __init__(self, process: Process, output: Input) -> None:
        self.output = output
        self._process = process

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more; what it has started may."""
        return self._process.returncode is not None

    async def wait(self) -> int:
        """Wait until it has ended; return its exit status, which is 128 + n if signal n ended it, as in shells."""
        status = await self._process.wait()
        return status if status >= 0 else 128 - status

    async def end_output(self, linger: float = LINGER) -> None:
        """Wait until it has ended, then end the output: all that the command printed is still read.

        Args:
            linger: seconds in which output of processes that the command started is read too.
        """
        await self._process.wait()
        await asyncio.sleep(linger)
        self.output.stop_when_empty()

    async def stop(self, grace: float = GRACE) -> None:
        """Make it end; return when no more of its output will be read.

        The output normally ends with the command. Processes that the command started get no signal and may hold the
        output open; therefore reading stops when the time of the command is over.

        Args:
            grace: seconds between SIGTERM and SIGKILL.
        """
        self._send(signal.SIGTERM)
        await asyncio.sleep(grace)
        self.kill()
        self.output.stop()

    def kill(self) -> None:
        """End it at once."""
        self._send(signal.SIGKILL)

    def _send(self, signum: signal.Signals) -> None:
        # Not `process.send_signal`: it polls for the exit status first, and `wait` then misses that status.
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signum)


@asynccontextmanager
async def run_child(command: Sequence[str], chunk: int) -> AsyncIterator[Child]:
    """Run a command while the block runs; stop the command if the block ends early.

    Args:
        command: the program and its arguments.
        chunk: maximum bytes of one read of its output.

    Raises:
        Failure: the command can't be run.
    """
    reader, writer = os.pipe()
    try:
        try:
            process = await asyncio.create_subprocess_exec(*command, stdout=writer)
        except OSError as error:
            raise Failure(f"can't run {command[0]!r}: {error.strerror}") from None
        finally:
            os.close(writer)
        child = Child(process, Input(reader, chunk))
        try:
            yield child
        finally:
            async with run_alongside(child.stop()):
                await child.wait()
    finally:
        os.close(reader)
