"""Several gateways on one Redis server, each of which says where it is."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx

from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from tests.support.asking import http_client
from tests.support.redis_server import RedisServer


@asynccontextmanager
async def node_on(server: RedisServer, **settings: Any) -> AsyncIterator[Gateway]:
    """A gateway to which others relay."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        scheme = "wss" if "tls_cert" in settings else "ws"
        common: dict[str, Any] = {
            "drain_timeout": 0.5,
            "engine_url": server.url,
            "advertise_url": f"{scheme}://127.0.0.1:{sock.getsockname()[1]}",
        }
        async with Gateway(Settings(**common | settings), sockets=[sock]) as gateway:
            yield gateway


@asynccontextmanager
async def nodes_on(server: RedisServer, count: int = 2, **settings: Any) -> AsyncIterator[list[Gateway]]:
    """Some gateways, all with the same settings."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(node_on(server, **settings)) for _ in range(count)]


def is_owner(gateway: Gateway, stream: str = "demo") -> bool:
    """Whether a stream lives in a gateway."""
    return gateway.hub.manager.has(stream)


def http(gateway: Gateway) -> httpx.AsyncClient:
    """A client of a gateway."""
    return http_client(base_url=gateway.url.replace("ws", "http", 1))
