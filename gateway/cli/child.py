"""The command that `publish … -- COMMAND` runs, and whose standard output it reads.

The child stays in our process group: it may read the keyboard, and Ctrl-C reaches it from the terminal.
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
"""Seconds a command has to end after SIGTERM; what it prints in them is still published."""

LINGER = 0.5
"""Seconds after the command's end in which its output may end by itself: in `COMMAND > >(tee log)` the last lines come
from tee, a moment after the shell has ended."""


class Child:
    """A running command.

    Args:
        process: the command.
        output: what it prints.
    """

    def __init__(self, process: Process, output: Input) -> None:
        self.output = output
        self._process = process

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more; what it has started may."""
        return self._process.returncode is not None

    async def wait(self) -> int:
        """Its exit status, once it has ended: 128 + n where signal n ended it, as shells have it."""
        status = await self._process.wait()
        return status if status >= 0 else 128 - status

    async def end_output(self, linger: float = LINGER) -> None:
        """Once it has ended, read all that it has printed, and not for long what others print that it has started.

        Args:
            linger: seconds these have to end too.
        """
        await self._process.wait()
        await asyncio.sleep(linger)
        self.output.stop_when_empty()

    async def stop(self, grace: float = GRACE) -> None:
        """Make it end; returns when nothing more will be read of it.

        The output ends with the command. It may be held open by what the command has started, and which got no signal;
        therefore it is read no longer than the command may live.

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
        # Not by the process's own method: that one asks for the exit status first, which is then lost to `wait`.
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signum)


@asynccontextmanager
async def run_child(command: Sequence[str], chunk: int) -> AsyncIterator[Child]:
    """Run a command while the block runs; when it is left early, the command is made to end.

    Args:
        command: the program and its arguments.
        chunk: most bytes one read of its output gives.

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
