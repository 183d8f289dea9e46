"""Readers of proxied answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from deltawire.gateway.client import Subscriber
from deltawire.gateway.server import Gateway
from deltawire.protocol.events import Data, Event, MessageStop, TextDelta
from deltawire.protocol.messages import Policy
from tests.support.waiting import DEADLINE


@asynccontextmanager
async def reading(gateway: Gateway, stream: str = "chat-7") -> AsyncIterator[Subscriber]:
    async with Subscriber(gateway.url, stream, policy=Policy.BLOCK, buffer=10_000) as subscriber:
        yield subscriber


async def read_message(subscriber: Subscriber) -> list[Data]:
    """The events up to the stop of a message."""
    events: list[Data] = []
    async with asyncio.timeout(DEADLINE):
        async for item in subscriber:
            assert isinstance(item, Event)
            events.append(item.data)
            if isinstance(item.data, MessageStop):
                break
    return events


def said(events: list[Data]) -> str:
    return "".join(data.text for data in events if isinstance(data, TextDelta))


def reason_of(events: list[Data]) -> str:
    stop = events[-1]
    assert isinstance(stop, MessageStop)
    return stop.stop_reason
