"""What a subscriber receives, as it was received."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, Self

from deltawire.protocol.events import Event
from deltawire.protocol.messages import Message


class Frame(NamedTuple):
    """A payload as received, and its decoded message; None for a type that this version doesn't know."""

    payload: bytes
    message: Event | Message | None


class Frames:
    """Iterates over frames. Not a generator: cancelling the wait for its next frame would end it."""

    def __init__(self, next_frame: Callable[[], Awaitable[Frame]]) -> None:
        self._next_frame = next_frame

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Frame:
        return await self._next_frame()
