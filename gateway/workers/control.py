"""What a supervisor and its workers tell each other: single bytes on a pair of Unix sockets for each worker.

Workers ignore signals, which a terminal and service managers send to whole groups of processes: the supervisor alone
obeys them, and passes each on once. A pair whose supervisor's end is closed means that the supervisor has died: its
workers drain.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from typing import Final

BEAT_INTERVAL: Final = 1.0
"""Seconds between two beats."""


class Word(IntEnum):
    """What is said, in one byte."""

    READY = ord("r")  # from a worker: it serves
    BEAT = ord("b")  # from a worker: its event loop turns
    RELOADED = ord("l")  # from a worker: it has read certificates and keys again, or found that they can't be used
    DRAIN = ord("D")  # to a worker: the gateway shuts down
    LEAVE = ord("L")  # to a worker: make room for the next one in this place
    RELOAD = ord("R")  # to a worker: read certificates and keys again


def tell(end: socket.socket, word: Word) -> None:
    """Say something to the other side; one that is gone, or does not listen, hears nothing."""
    with suppress(OSError):
        end.send(bytes((word,)))


class Orders:
    """A worker's side, on its event loop.

    Args:
        end: of the pair.
        obey: called with each word of the supervisor; `Word.DRAIN` if there is no supervisor any more.
    """

    def __init__(self, end: socket.socket, obey: Callable[[Word], None]) -> None:
        self._end = end
        self._obey = obey
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Listen, and say from time to time that the loop turns."""
        self._loop.add_reader(self._end, self._read)
        self._beat()

    def stop(self) -> None:
        """Stop both."""
        self._loop.remove_reader(self._end)
        if self._timer is not None:
            self._timer.cancel()

    def tell(self, word: Word) -> None:
        """Say something to the supervisor."""
        tell(self._end, word)

    def _beat(self) -> None:
        self.tell(Word.BEAT)
        self._timer = self._loop.call_later(BEAT_INTERVAL, self._beat)

    def _read(self) -> None:
        try:
            words = self._end.recv(64)
        except OSError:
            words = b""
        if not words:
            self._loop.remove_reader(self._end)
            self._obey(Word.DRAIN)
        for word in words:
            self._obey(Word(word))
