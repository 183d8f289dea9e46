"""Publishing to a stream: numbered, pipelined, each event once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self

from protocol.addresses import OnFull
from protocol.codec import JSON, Codec
from protocol.events import Data, Event
from protocol.messages import Signal


class Publisher:
    """Publishes to one stream; an async context manager."""

    acked: int
    seq: int
    epoch: str
    consumers: int | None

    def __init__(
        self,
        url: str,
        stream: str,
        *,
        producer: str | None = None,
        generation: int = 0,
        on_full: OnFull = "wait",
        window: int = 1024,
        max_message: int = 64 * 1024,
        retry_for: float | None = 30.0,
        codec: Codec = JSON,
        on_reconnect: Callable[[str, float], None] | None = None,
    ) -> None:
        raise NotImplementedError

    async def send(self, item: Data | Event) -> None:
        raise NotImplementedError

    async def flush(self, timeout: float | None = None) -> None:
        raise NotImplementedError

    async def close_stream(self) -> None:
        raise NotImplementedError

    def signals(self) -> AsyncIterator[Signal]:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        raise NotImplementedError
