"""The events that a stage holds back, in order: the oldest is not decided, and what is behind it waits too. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from deltawire.gateway.middleware.stage import Item

MAX_HELD: Final = 256
"""Events held at a time; past that, the stage has to let all out."""

MAX_HELD_TEXT: Final = 64 * 1024
"""Characters in them, likewise."""

HELD_COST: Final = 400
"""Bytes an event costs while it is held, beside its text (CPython 3.11)."""


class Held(Protocol):
    """An event that waits."""

    origin: int

    @property
    def size(self) -> int:
        """Characters in it."""

    @property
    def is_decided(self) -> bool:
        """Whether it waits for nothing itself."""

    def items(self) -> Sequence[Item]:
        """What becomes of it, once it is decided."""


class HoldingQueue:
    """The events that one stage of one stream holds.

    Attributes:
        events: these, to look at; for each event that comes, a stage asks whether there are any.
    """

    __slots__ = ("_size", "events")

    def __init__(self) -> None:
        self.events: deque[Held] = deque()
        self._size = 0

    @property
    def oldest(self) -> int | None:
        """Number of the oldest event; None if there is none."""
        return self.events[0].origin if self.events else None

    @property
    def bytes(self) -> int:
        """What they cost: a character is up to four bytes."""
        return len(self.events) * HELD_COST + 4 * self._size

    def add(self, held: Held) -> bool:
        """Add an event; return whether there is still room."""
        self.events.append(held)
        self._size += held.size
        return len(self.events) <= MAX_HELD and self._size <= MAX_HELD_TEXT

    def take_decided(self) -> list[Item]:
        """Return what becomes of the events that need not wait any longer."""
        items: list[Item] = []
        while self.events and self.events[0].is_decided:
            held = self.events.popleft()
            self._size -= held.size
            items += held.items()
        return items
