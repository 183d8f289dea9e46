"""Gateways on a Redis server, and what tests write and read there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from tests.support.peers import Addressed, consumer, producer, publish, text_delta


class Stored(Protocol):
    """A server, or a cluster of them."""

    @property
    def url(self) -> str:
        """For `engine_url`."""


@asynccontextmanager
async def gateway_on(server: Stored, **settings: Any) -> AsyncIterator[Gateway]:
    common: dict[str, Any] = {"port": 0, "drain_timeout": 0.2, "engine_url": server.url}
    async with Gateway(Settings(**common | settings)) as gateway:
        yield gateway


def numbered(begin: int, end: int) -> list[dict[str, Any]]:
    return [text_delta(f"{number} ", producer_seq=number) for number in range(begin, end + 1)]


async def write(gateway: Addressed, begin: int, end: int, stream: str = "demo") -> None:
    async with producer(gateway, "producer=p", stream=stream) as writing:
        await publish(writing, *numbered(begin, end), upto=end)


async def read(gateway: Addressed, query: str = "", stream: str = "demo") -> list[dict[str, Any]]:
    async with consumer(gateway, f"policy=disconnect&{query}".rstrip("&"), stream=stream) as reading:
        return await reading.read_until("caught_up")


async def expect_all(gateway: Addressed, upto: int, epoch: str = "", stream: str = "demo") -> str:
    """Every event is there once, in order, with its own text; returns the epoch."""
    subscribed, *events, _ = await read(gateway, stream=stream)
    assert [(it["seq"], it["data"]["text"]) for it in events] == [(n, f"{n} ") for n in range(1, upto + 1)]
    assert subscribed["epoch"] == (epoch or subscribed["epoch"])
    return str(subscribed["epoch"])
