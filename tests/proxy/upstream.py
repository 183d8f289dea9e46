"""A provider on a bare socket, and a proxy in front of it: what is asked and answered is known byte by byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, NamedTuple, Self, TypeAlias

from deltawire.gateway.proxy import Proxy
from tests.support.rawpeer import RawPeer
from tests.support.serving import listening
from tests.support.waiting import DEADLINE, eventually, turn

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Request-Id: r-1\r\nConnection: close\r\n\r\n"
"""Of an answer that ends with its connection."""

Part: TypeAlias = bytes | asyncio.Event
"""Sent, or waited for."""


class Asked(NamedTuple):
    """A request as it came."""

    head: bytes
    line: bytes
    fields: dict[bytes, bytes]
    body: bytes = b""


class Upstream:
    """Answers each request with the same bytes.

    Args:
        parts: what is sent, in turn.
        breaks: whether the connection is reset afterwards.
        stays: whether it stays open until the other side closes it.
    """

    def __init__(self, *parts: Part, breaks: bool = False, stays: bool = False) -> None:
        self.parts: Sequence[Part] = parts
        self.asked: list[Asked] = []
        self.was_left = asyncio.Event()
        self._breaks = breaks
        self._stays = stays
        self._running = AsyncExitStack()
        self.url = ""

    async def __aenter__(self) -> Self:
        self.url = f"http://127.0.0.1:{await self._running.enter_async_context(listening(self._serve))}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._running.aclose()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        finally:
            if self._breaks:
                writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(await _read_request(reader))
        leaving = asyncio.create_task(self._notice(reader))
        try:
            for part in self.parts:
                if isinstance(part, bytes):
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0)
                else:
                    waiting = asyncio.create_task(part.wait())
                    await asyncio.wait([waiting, leaving], return_when=asyncio.FIRST_COMPLETED)
                    waiting.cancel()
                    if leaving.done():
                        return
            if self._stays:
                await leaving
        finally:
            leaving.cancel()

    async def _notice(self, reader: asyncio.StreamReader) -> None:
        with suppress(ConnectionError):
            await reader.read()
        self.was_left.set()


async def _read_request(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n"))[:-4]
    line, *fields = head.split(b"\r\n")
    named = (field.partition(b":") for field in fields)
    asked = Asked(head, line, {name.lower(): value.strip() for name, _, value in named})
    if (length := asked.fields.get(b"content-length")) is not None:
        return asked._replace(body=await reader.readexactly(int(length)))
    body = b""
    if asked.fields.get(b"transfer-encoding") == b"chunked":
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    return asked._replace(body=body)


def sse(*payloads: str, done: bool = True) -> list[bytes]:
    """Server-sent events with these payloads."""
    return [f"data: {payload}\n\n".encode() for payload in (*payloads, *(["[DONE]"] if done else []))]


def chat(text: str, **choice: Any) -> str:
    """A chunk of Chat Completions."""
    more = "".join(f',"{name}":"{value}"' for name, value in choice.items())
    return f'{{"id":"c-1","model":"m","choices":[{{"index":0,"delta":{{"content":"{text}"}}{more}}}]}}'


WORDS = ("Hello ", "from ", "a ", "proxy")
ANSWER: Sequence[bytes] = [HEAD, *sse(*map(chat, WORDS), chat("", finish_reason="stop"))]


class Served(NamedTuple):
    """A proxy that is served."""

    proxy: Proxy
    url: str

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way, and readers have all they will get."""
        return not self.proxy._exchanges and not self.proxy._endings

    @property
    def dropped(self) -> float:
        """Chunks of which readers did not get everything."""
        return self.counted("dropped_chunks")

    def counted(self, name: str) -> float:
        """A counter of the proxy."""
        _, _, rest = self.proxy.tally.render().decode().partition(f"\ndeltawire_proxy_{name}_total ")
        return float(rest.split()[0])


@asynccontextmanager
async def serving(upstream: str, gateway: str, **arguments: Any) -> AsyncIterator[Served]:
    """Serve a proxy on a free port."""
    from deltawire.gateway.proxy.serving import ProxyServer  # noqa: PLC0415 - an optional extra

    proxy = Proxy(upstream, gateway, **arguments)
    server = ProxyServer(proxy, "127.0.0.1", 0, DEADLINE, gateway)
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup()
    try:
        yield Served(proxy, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}")
    finally:  # as in uvicorn's `shutdown`, which looks ten times a second only
        for listener in server.servers:
            listener.close()
        await turn(2)  # until a connection that was accepted just now is among them
        state = server.server_state
        for connection in list(state.connections):
            connection.shutdown()
        try:
            await eventually(lambda: not (state.connections or state.tasks), "that all answers end")
        finally:
            await proxy.aclose(0)


@asynccontextmanager
async def calling(url: str) -> AsyncIterator[RawPeer]:
    """A connection to what is served there, byte by byte."""
    peer = await RawPeer.connect(int(url.rpartition(":")[2]))
    try:
        yield peer
    finally:
        peer.close()
