"""A terminal that is kept up to date at a bounded rate, whatever the rate of what is shown there."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import click

from deltawire.gateway.cli.alongside import run_alongside
from deltawire.gateway.cli.stdio import Output
from deltawire.gateway.cli.terminal.keyboard import is_foreground

if TYPE_CHECKING:
    from deltawire.gateway.cli.tail.rendered import Rendered  # needs Rich

INTERVAL: Final = 0.08
"""Seconds between two drawings: twelve a second look like typing."""

_SHARE: Final = 4
"""A drawing that takes long is followed by a pause so many times as long: most of the time is for what arrives."""


class Drawing:
    """Draws a view on a terminal.

    Args:
        view: what is shown.
        output: the terminal.
        fd: its descriptor.
    """

    def __init__(self, view: Rendered, output: Output, fd: int) -> None:
        self._view = view
        self._output = output
        self._fd = fd

    @asynccontextmanager
    async def drawing(self) -> AsyncIterator[None]:
        """Draw while the block runs."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCONT, self._resume)
        try:
            async with run_alongside(self._run()):
                yield
        finally:
            loop.remove_signal_handler(signal.SIGCONT)

    async def catch_up(self) -> None:
        """Draw before more is read, if much has come that is not drawn: a terminal that is slow holds the stream up."""
        if self._view.is_behind:
            await self._draw()

    def _resume(self) -> None:
        """Go on after a stop: others have written meanwhile, and what is above the cursor is not known."""
        with suppress(OSError):  # the terminal is gone
            click.echo(self._view.resume(), nl=False)

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            await self._draw()
            await asyncio.sleep(max(INTERVAL, _SHARE * (clock() - began)))

    async def _draw(self) -> None:
        if is_foreground(self._fd):
            text = self._view.draw(asyncio.get_running_loop().time(), os.get_terminal_size(self._fd))
        else:  # the lines of another program may be below: only what stays is written
            text = self._view.interrupt()
        await self._output.write(text.encode())
