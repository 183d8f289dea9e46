"""Several gateways on one Redis server, each of which says where it is."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import Any

import httpx

from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from scripts.proof.children import Children, Served, serving
from tests.support.asking import http_client
from tests.support.forking import ForkedChildren
from tests.support.redis_server import RedisServer
from tests.support.serving import listening


@asynccontextmanager
async def node_on(
    server: RedisServer, clock: Callable[[], float] = time.time, **settings: Any
) -> AsyncIterator[Gateway]:
    """A gateway to which others relay."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        scheme = "wss" if "tls_cert" in settings else "ws"
        common: dict[str, Any] = {
            "drain_timeout": 0.5,
            "engine_url": server.url,
            "advertise_url": f"{scheme}://127.0.0.1:{sock.getsockname()[1]}",
        }
        async with Gateway(Settings(**common | settings), sockets=[sock], clock=clock) as gateway:
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


class Processes:
    """Gateways as processes of their own, each on a port that it has again after it was killed."""

    def __init__(
        self, server: RedisServer, children: Children, stack: AsyncExitStack, count: int, **settings: object
    ) -> None:
        self._settings: dict[str, object] = {"engine_url": server.url} | settings
        self._children = children
        self._stack = stack
        with ExitStack() as probes:
            made = [probes.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
            self._ports = [int(it.getsockname()[1]) for it in made]
        self.served: list[Served] = []

    async def start(self) -> None:
        """Start all that are not there yet."""
        for number in range(len(self.served), len(self._ports)):
            self.served.append(await self._serve(number))

    async def _serve(self, number: int) -> Served:
        port = self._ports[number]
        settings = self._settings | {"port": port, "advertise_url": f"ws://127.0.0.1:{port}"}
        return await self._stack.enter_async_context(serving(self._children, **settings))

    async def kill(self, number: int) -> None:
        """Kill one at once."""
        process = self.served[number].process
        process.kill()
        await process.wait()

    def drain(self, number: int) -> None:
        """Have one drain, and end when that is done."""
        self.served[number].process.terminate()

    async def restart(self, number: int) -> None:
        """Start one again that has ended."""
        self.served[number] = await self._serve(number)


@asynccontextmanager
async def processes_on(server: RedisServer, count: int, **settings: object) -> AsyncIterator[Processes]:
    """Some gateways that can be killed."""
    async with ForkedChildren() as children, AsyncExitStack() as stack:
        processes = Processes(server, children, stack, count, **settings)
        await processes.start()
        yield processes


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[str]:
    """A node that sends some bytes and hangs up, whatever it is asked; its address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)

    async with listening(serve) as port:
        yield f"ws://127.0.0.1:{port}"
