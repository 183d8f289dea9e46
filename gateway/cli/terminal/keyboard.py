"""Single key presses on the terminal where a command shows its output.

The terminal is in cbreak mode meanwhile: keys arrive at once and are not echoed; Ctrl-C and Ctrl-Z still work. Its
previous mode is restored however the command ends or stops. Only a foreground job changes the mode: the system would
stop a background job that tried.
"""

from __future__ import annotations

import asyncio
import os
import signal
import termios
import tty
from codecs import getincrementaldecoder
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress

from deltawire.gateway.cli.stdio import Input
from deltawire.gateway.cli.terminal.keys import parse_keys

_CHUNK = 64
"""Bytes per read; nobody types more at once."""

_DEFAULTED = (signal.SIGTSTP, signal.SIGTERM, signal.SIGQUIT)
"""Signals whose default action stops or ends a process without notice; SIGINT raises an exception instead."""


class Keyboard:
    """The keys of one terminal.

    Args:
        fd: the terminal; 0 is standard input.
        leave: called before a signal stops or ends the process.
    """

    def __init__(self, fd: int, leave: Callable[[signal.Signals], None] = lambda _: None) -> None:
        self._fd = fd
        self._tell_leave = leave
        self._mode = termios.tcgetattr(fd)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Keep the terminal in cbreak mode while the block runs; needs a running event loop."""
        loop = asyncio.get_running_loop()

        def obey(signum: signal.Signals) -> None:
            self._tell_leave(signum)
            self._leave()
            loop.remove_signal_handler(signum)  # restores the default action
            signal.raise_signal(signum)
            loop.add_signal_handler(signum, obey, signum)  # we were stopped and continue, in the foreground or not
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
        """Yield every key as it is pressed (`parse_keys`), until the terminal is gone or another job uses it."""
        decoder = getincrementaldecoder("utf-8")(errors="replace")
        with suppress(OSError):
            async for chunk in Input(self._fd, _CHUNK).chunks():
                for key in parse_keys(decoder.decode(chunk)):
                    yield key

    def _enter(self) -> None:
        if is_foreground(self._fd):
            tty.setcbreak(self._fd, termios.TCSADRAIN)

    def _leave(self) -> None:
        if is_foreground(self._fd):
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._mode)


def is_foreground(fd: int) -> bool:
    """Whether this process may use a terminal: it is not a background job there."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:  # not our controlling terminal: no job control
        return True
