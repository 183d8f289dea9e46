"""A TCP proxy that does to connections what networks do: cut, truncate, half-close, delay, throttle."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random
from urllib.parse import urlsplit

SOCKET_BUFFER = 8 * 1024
"""Bytes of each socket buffer and chunk: a network that keeps little back, so that a slow reader is felt."""


class Link:
    """One connection through the proxy: two sockets, two directions.

    Args:
        near: the socket of the client.
        far: the socket of the gateway.
        door: where it came by.
    """

    def __init__(self, near: Ends, far: Ends, door: Door) -> None:
        self._near = near
        self._far = far
        self._door = door
        self._passing = asyncio.Event()
        self._passing.set()
        self._truncates = False

    async def carry(self) -> None:
        """Pass bytes on until both directions have ended."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._copy(self._near, self._far, is_paced=False))
                tasks.create_task(self._copy(self._far, self._near, is_paced=True))
        except* OSError:
            pass  # what one side does to its socket, the other gets
        finally:
            self.cut()

    async def _copy(self, source: Ends, target: Ends, *, is_paced: bool) -> None:
        while data := await source.reader.read(SOCKET_BUFFER):
            await self._passing.wait()
            if target.is_finished:
                continue  # as far as the source knows, all is well
            if self._truncates:
                target.writer.write(data[: len(data) // 2])
                break
            target.writer.write(data)
            await target.writer.drain()
            if is_paced and self._door.rate is not None:
                await asyncio.sleep(len(data) / self._door.rate)
        target.finish()

    def cut(self) -> None:
        """Reset both sockets."""
        self._near.writer.transport.abort()
        self._far.writer.transport.abort()

    def truncate(self) -> None:
        """Pass on half of what comes next, in the middle of a frame likely, then hang up."""
        self._truncates = True

    def half_close(self, dice: Random) -> None:
        """Tell one side that the other sends no more, though it does."""
        dice.choice((self._near, self._far)).finish()

    def delay(self, seconds: float) -> None:
        """Pass nothing on for some time."""
        self._passing.clear()
        asyncio.get_running_loop().call_later(seconds, self._passing.set)


class Ends:
    """The two ends of one socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        writer.transport.set_write_buffer_limits(SOCKET_BUFFER)
        self.is_finished = False

    def finish(self) -> None:
        """Send no more."""
        self.is_finished = True
        with suppress(OSError, RuntimeError):  # uvloop's: the socket is closed already
            self.writer.write_eof()


class Door:
    """An address of the proxy, and the connections that came by it.

    Args:
        gateway: the gateway's address.
        rate: bytes a second towards each client; None for as fast as they take them.

    Attributes:
        rate: as given; may be changed.
        is_shut: whether it takes no new connections.
        url: where clients connect.
        links: the connections now.
    """

    def __init__(self, gateway: str, rate: float | None) -> None:
        self._gateway = urlsplit(gateway)
        self.rate = rate
        self.url = ""
        self.is_shut = False
        self.links: set[Link] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connect a client to the gateway."""
        if self.is_shut:
            writer.transport.abort()
            return
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
        try:
            await asyncio.get_running_loop().sock_connect(sock, (self._gateway.hostname, self._gateway.port))
        except OSError:
            sock.close()
            writer.transport.abort()
            return
        link = Link(Ends(reader, writer), Ends(*await asyncio.open_connection(sock=sock)), self)
        self.links.add(link)
        try:
            await link.carry()
        finally:
            self.links.discard(link)


@asynccontextmanager
async def open_door(gateway: str, rate: float | None = None) -> AsyncIterator[Door]:
    """An address that leads to the gateway until the context is left; arguments as those of `Door`."""
    door = Door(gateway, rate)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
    server = await asyncio.start_server(door.accept, sock=listener)  # noqa: TID251 - `links` has all of its connections
    async with server:
        door.url = f"ws://127.0.0.1:{listener.getsockname()[1]}"
        try:
            yield door
        finally:
            server.close()
            for link in tuple(door.links):
                link.cut()
