"""Answers as an SDK would stream them, and what readers of a stream get of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from deltawire.gateway.client import Subscriber
from deltawire.protocol.events import ContentEnd, Data, Event, MessageStart, MessageStop, TextDelta
from deltawire.protocol.messages import Policy

STREAM = "answer"


def chunk(text: str, **choice: Any) -> dict[str, Any]:
    return {"id": "c-1", "model": "m", "choices": [{"index": 0, "delta": {"content": text}, **choice}]}


WORDS = ["Hello ", "from ", "an ", "SDK"]
CHUNKS = [*(chunk(word) for word in WORDS), chunk("", finish_reason="stop")]


class Answer:
    """A stream of chunks as SDKs have it: to iterate over, and to close.

    Args:
        chunks: what it yields; an exception is raised in its place, and an event is waited for.
    """

    def __init__(self, *chunks: Any) -> None:
        self._chunks = chunks
        self.asked = 0
        self.was_closed = False
        self.was_left = False

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            for item in self._chunks:
                self.asked += 1
                if isinstance(item, Exception):
                    raise item
                if isinstance(item, asyncio.Event):
                    await item.wait()
                else:
                    yield item
        finally:
            self.was_left = True

    async def close(self) -> None:
        self.was_closed = True


async def read(url: str, upto: int | None = None) -> list[Data]:
    """The events of the stream, until one stop of a message, or as many as asked for."""
    events: list[Data] = []
    stops = 0
    async with Subscriber(url, STREAM, policy=Policy.BLOCK, buffer=10_000) as subscriber:
        async for item in subscriber:
            assert isinstance(item, Event)
            data = item.data
            stops += isinstance(data, MessageStop)
            events.append(_as_published(data))
            if stops == (upto or 1):
                break
    return events


def _as_published(data: Data) -> Data:
    """Without what the gateway adds."""
    match data:
        case MessageStop():
            return MessageStop(data.message_id, data.stop_reason, data.choice)
        case ContentEnd():
            return ContentEnd(data.index, data.choice)
        case _:
            return data


def text_of(events: list[Data]) -> str:
    return "".join(data.text for data in events if isinstance(data, TextDelta))


def ids_of(events: list[Data]) -> list[str]:
    return [data.message_id for data in events if isinstance(data, MessageStart)]
