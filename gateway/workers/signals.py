"""Signals of a process without an event loop, as something to select on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType


class SignalPipe:
    """Signals of this process, in the order in which they come.

    Args:
        signals: the ones to take.

    Attributes:
        reader: a descriptor that can be read when signals have come.
    """

    def __init__(self, signals: Iterable[signal.Signals]) -> None:
        self.reader, self._writer = os.pipe()
        for end in (self.reader, self._writer):
            os.set_blocking(end, False)
        self._signals = tuple(signals)
        for it in self._signals:
            signal.signal(it, _note)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)

    def take(self) -> list[signal.Signals]:
        """Return the signals that have come since the last call."""
        try:
            return [signal.Signals(number) for number in os.read(self.reader, 256)]
        except BlockingIOError:
            return []

    def ignore_in_child(self) -> None:
        """In a process that was forked: ignore these signals, which are its parent's."""
        signal.set_wakeup_fd(-1)
        for it in self._signals:
            signal.signal(it, signal.SIG_DFL if it is signal.SIGCHLD else signal.SIG_IGN)
        os.close(self.reader)
        os.close(self._writer)


@contextmanager
def held_back() -> Iterator[None]:
    """Hold back all signals: a child must not take one for its parent before it has handlers of its own."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _note(_signum: int, _frame: FrameType | None) -> None:
    """Do nothing: the number of the signal is in the pipe."""
