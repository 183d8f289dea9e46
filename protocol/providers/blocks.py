"""The content blocks of one choice: numbered from 0, started, and ended."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import UNSET, UnsetType

from deltawire.protocol.events import ContentEnd, ContentStart, Data


class Blocks:
    """Blocks of one choice.

    Args:
        emit: takes the events.
        choice: the `choice` of these.
    """

    def __init__(self, emit: Callable[[Data], None], choice: int | UnsetType) -> None:
        self.choice = choice
        self._emit = emit
        self._count = 0
        self._open: dict[int, None] = {}

    def reserve(self) -> int:
        """The index of a block that starts now or later."""
        self._count += 1
        return self._count - 1

    def start(self, index: int, kind: str | None, block_id: str | None = None, name: str | None = None) -> None:
        """A block opens."""
        self._open[index] = None
        self._emit(ContentStart(index, kind or UNSET, block_id or UNSET, name or UNSET, self.choice))

    def end(self, index: int) -> None:
        """A block is complete."""
        del self._open[index]
        self._emit(ContentEnd(index, self.choice))

    def end_all(self) -> None:
        """All that are open are complete."""
        for index in list(self._open):
            self.end(index)
