"""A client over TLS, step by step: it stops in the middle of its handshake, or reading, when it likes."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Self

from tests.support.rawpeer import HANDSHAKE
from tests.support.waiting import DEADLINE


class TlsPeer:
    """One connection over TLS, below the library that would read ahead.

    Args:
        sock: connected.
        context: whom it trusts, and what it shows.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="127.0.0.1")
        self.data = b""
        self.is_over = False

    @classmethod
    async def connect(cls, port: int, context: ssl.SSLContext, receive_buffer: int | None = None) -> Self:
        """Open a TCP connection; nothing is sent yet."""
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        return cls(sock, context)

    def close(self) -> None:
        """Let the socket go, whatever the state."""
        self._sock.close()

    async def shake_hands(self, then: bytes = b"") -> None:
        """Do the handshake of TLS, with bytes sent along with its end.

        Raises:
            ssl.SSLError: the gateway refuses it, or hangs up.
        """
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._exchange()
        await self.send(then)

    async def send(self, data: bytes) -> None:
        """Send bytes, and what TLS has to say before them."""
        if data:
            self._tls.write(data)
        await self._loop.sock_sendall(self._sock, self._outgoing.read())

    async def upgrade(self, path: str) -> None:
        """Do the handshakes of TLS and of a WebSocket, without waiting for an answer to the second."""
        await self.shake_hands(HANDSHAKE.format(path=path, headers="").encode())

    async def _exchange(self) -> None:
        if data := self._outgoing.read():
            await self._loop.sock_sendall(self._sock, data)
        async with asyncio.timeout(DEADLINE):
            try:
                got = await self._loop.sock_recv(self._sock, 65536)
            except ConnectionResetError:
                got = b""
        if got:
            self._incoming.write(got)
        else:
            self._incoming.write_eof()

    async def read_until(self, mark: bytes) -> None:
        """Read until something has come, or the gateway has hung up."""
        while mark not in self.data and not self.is_over:
            try:
                data = self._tls.read(65536)
                self.data += data
                self.is_over = not data
            except ssl.SSLWantReadError:
                await self._exchange()
            except ssl.SSLError:
                self.is_over = True

    async def read_all(self) -> bytes:
        """Everything until the gateway hangs up."""
        while not self.is_over:
            await self.read_until(b"\0 never sent \0")
        return self.data


def make_hello(context: ssl.SSLContext) -> bytes:
    """What a client begins its handshake with (RFC 8446 §4.1.2)."""
    outgoing = ssl.MemoryBIO()
    try:
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="127.0.0.1").do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a client waits for the answer to its hello")
