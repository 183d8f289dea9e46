"""Files that survive a SIGKILL: each line is handed to the kernel before the next message is asked for."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from msgspec import UNSET

from deltawire.protocol.codec import JSON
from deltawire.protocol.events import Event
from deltawire.protocol.messages import Gap, Message, Subscribed
from deltawire.protocol.position import Position


class Journal:
    """A file written line by line; a context manager. A line cut short by a crash does not count.

    Args:
        path: of the file, which is made if there is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Self:
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.truncate(self.path, sum(len(line) + 1 for line in self.lines()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def append(self, line: bytes) -> None:
        """Write one line."""
        os.write(self._file, line + b"\n")

    def lines(self) -> list[bytes]:
        """The whole lines written so far, by this process or earlier ones; none where there is no file."""
        return self.path.read_bytes().split(b"\n")[:-1] if self.path.exists() else []


def read_messages(path: Path) -> list[Event | Message]:
    """What a consumer noted."""
    messages = map(JSON.decode_to_consumer, Journal(path).lines())
    return [message for message in messages if message is not None]


def position_in(messages: list[Event | Message]) -> Position | None:
    """Where a consumer with these notes resumes; None from the start."""
    position: Position | None = None
    for message in messages:
        match message:
            case Subscribed() if position is None:
                position = Position(message.epoch, message.after)
            case Event() | Gap() if position is not None:
                assert message.seq is not UNSET, "the gateway numbers every event"
                position = position._replace(seq=message.seq)
    return position


def read_number(path: Path) -> int:
    """The last number a producer noted; 0 where it noted none."""
    lines = Journal(path).lines()
    return int(lines[-1]) if lines else 0
