"""Single keys of a terminal, while a command shows something there.

The terminal is in cbreak mode for that: keys come at once and are not shown, while Ctrl-C and Ctrl-Z still work. It
gets its own mode back however the command ends or stops. Only the job in the foreground touches it: a job in the
background would be stopped for that.
"""

from __future__ import annotations

import asyncio
import os
import signal
import termios
import tty
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress

from deltawire.gateway.cli.stdio import Input

_CHUNK = 64
"""Keys taken at once; nobody types more."""

_DEFAULTED = (signal.SIGTSTP, signal.SIGTERM, signal.SIGQUIT)
"""Signals that stop or end a process without a word to it; SIGINT becomes an exception."""


class Keyboard:
    """The keys of one terminal.

    Args:
        fd: the terminal; 0 is standard input.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._mode = termios.tcgetattr(fd)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the terminal to cbreak mode while the block runs, in an event loop."""
        loop = asyncio.get_running_loop()

        def obey(signum: signal.Signals) -> None:
            self._leave()
            loop.remove_signal_handler(signum)  # which brings its default back
            signal.raise_signal(signum)
            loop.add_signal_handler(signum, obey, signum)  # stopped, and now back in the foreground or not
            self._enter()

        for signum in _DEFAULTED:
            loop.add_signal_handler(signum, obey, signum)
        signal.signal(signal.SIGTTIN, signal.SIG_IGN)  # a read in the background fails instead of stopping us
        self._enter()
        try:
            yield
        finally:
            self._leave()
            for signum in _DEFAULTED:
                loop.remove_signal_handler(signum)
            signal.signal(signal.SIGTTIN, signal.SIG_DFL)

    async def keys(self) -> AsyncIterator[str]:
        """Every key as it is pressed, until the terminal is gone or used by another job."""
        with suppress(OSError):
            async for chunk in Input(self._fd, _CHUNK).chunks():
                for key in chunk.decode(errors="replace"):
                    yield key

    def _enter(self) -> None:
        if is_foreground(self._fd):
            tty.setcbreak(self._fd, termios.TCSADRAIN)

    def _leave(self) -> None:
        if is_foreground(self._fd):
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._mode)


def is_foreground(fd: int) -> bool:
    """Whether a terminal may be used by this process: it is not a job in the background there."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:  # not our controlling terminal: no job control
        return True
