"""Gateways on a Redis server, and what tests write and read there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol
from unittest.mock import patch

from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from tests.support.asking import http_client
from tests.support.peers import Addressed, consumer, producer, publish, text_delta
from tests.support.redis_server import RedisServer

DEFAULT = Settings()


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


def set_engine_timeout(gateway: Gateway, seconds: float = DEFAULT.engine_timeout, *, tells: bool = True) -> None:
    """Have a running gateway give up on its server after some seconds.

    A gateway that had a brief `engine_timeout` from the start would not get through that and what follows on a machine
    that stands still for a moment. This is for the time in which the server is away.

    Args:
        gateway: whose engine waits.
        seconds: to wait; by default as long as a gateway does.
        tells: whether clients are told after as many, too; they are not if it only asks again.
    """
    engine: Any = gateway.hub._engine
    committer = engine._committer
    committers = [committer, *(lane.committer for lane in getattr(committer, "_lanes", {}).values())]
    for it in committers:
        for part in (it, getattr(it, "_caller", it)):  # that of a cluster leaves calling to its lanes
            part._timeout = seconds
    if tells:
        for it in committers:
            it.health._timeout = seconds
        engine._timeout = seconds
        dispatcher: Any = gateway.hub.dispatcher
        dispatcher._engine_timeout = gateway._nodes._reach.timeout = seconds


@asynccontextmanager
async def session_over(gateway: Gateway, server: RedisServer) -> AsyncIterator[None]:
    """A block that begins when the time of a gateway's session is over, and in which it does not renew it."""
    engine: Any = gateway.hub._engine
    session, is_over = engine._session, asyncio.Event()

    def later(call: Callable[[], Awaitable[bool | None]]) -> Callable[[], Awaitable[bool | None]]:
        async def wait() -> bool | None:
            await is_over.wait()
            return await call()

        return wait

    try:
        with patch.multiple(session, renew=later(session.renew), begin=later(session.begin)):
            server.command("DEL", f"deltawire:node:{session.node}")
            yield
    finally:
        is_over.set()


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


async def is_ready(gateway: Addressed) -> bool:
    """Whether `/readyz` says so."""
    async with http_client(base_url=gateway.url.replace("ws://", "http://")) as client:
        return (await client.get("/readyz")).status_code == 200
