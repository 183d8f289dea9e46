"""Reading a stream: each event once, through lost connections."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from types import TracebackType
from typing import Any, NamedTuple, Self

from msgspec import UNSET

from protocol.addresses import Start
from protocol.codec import JSON, Codec
from protocol.events import Event, EventType
from protocol.messages import Gap, Message, Policy, StreamEnd, Subscribed
from protocol.position import Position


class Frame(NamedTuple):
    """A payload as it came and what it says; None for a type this version doesn't know."""

    payload: bytes
    message: Event | Message | None


class Subscriber:
    """Reads one stream; an async context manager and an async iterable."""

    position: Position | None
    subscribed: Subscribed | None
    ended: StreamEnd | None
    caught_up: bool

    def __init__(
        self,
        url: str,
        stream: str,
        *,
        start: Start = "start",
        position: Position | None = None,
        policy: Policy | None = None,
        buffer: int | None = None,
        types: Collection[EventType] | None = None,
        interval: int = 0,
        retry_for: float | None = 30.0,
        codec: Codec = JSON,
        on_reconnect: Callable[[str, float], None] | None = None,
    ) -> None:
        raise NotImplementedError

    def frames(self) -> AsyncIterator[Frame]:
        raise NotImplementedError

    def __aiter__(self) -> AsyncIterator[Event | Gap]:
        raise NotImplementedError

    async def signal(self, name: str, data: Any = UNSET, timeout: float = 10.0) -> int:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        raise NotImplementedError
