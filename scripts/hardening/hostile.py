"""A connection that does what it likes: sends any bytes, reads or not, from an address of its own."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from typing import Any, Self

from scripts.bench.wire import request
from scripts.hardening import answers
from scripts.hardening.frames import CLOSE, FINAL, TEXT, frame

PATIENCE = 30.0
"""Seconds after which an answer is taken to never come."""

YIELDING = 10
"""By how much attackers give way to the neighbours, which share a core with them where there are only two."""


class NoAnswerError(Exception):
    """The gateway neither answered nor hung up: it hangs."""


class Hostile:
    """One connection. A context manager that resets it.

    Args:
        port: of the gateway, on 127.0.0.1.
        source: the address it comes from, of 127.0.0.0/8; where there is only 127.0.0.1, that.
        receive_buffer: SO_RCVBUF in bytes; 0 leaves it.
    """

    def __init__(self, port: int, source: str = "", receive_buffer: int = 0) -> None:
        self.port = port
        self._loop = asyncio.get_running_loop()
        self._sock = socket.socket()
        self._sock.setblocking(False)
        if source and sys.platform == "linux":
            self._sock.bind((source, 0))
        if receive_buffer:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._buffer = b""

    async def __aenter__(self) -> Self:
        await self._loop.sock_connect(self._sock, ("127.0.0.1", self.port))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._sock.close()

    async def send(self, data: bytes) -> bool:
        """Send bytes; False where the gateway hung up."""
        try:
            await self._loop.sock_sendall(self._sock, data)
        except ConnectionError:
            return False
        return True

    async def upgrade(self, path: str, token: str = "", headers: str = "") -> int:
        """Do a handshake; returns the status, 0 where the gateway hung up."""
        asked = request(path, self.port, token=token)
        return await self.ask(asked[:-2] + headers.encode() + b"\r\n")

    async def ask(self, data: bytes) -> int:
        """Send what may be a request; returns the status of the answer, 0 where the gateway hung up."""
        await self.send(data)
        while b"\r\n\r\n" not in self._buffer:
            if not await self._receive():
                return 0
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1])

    async def take(self, size: int) -> bool:
        """Read a few bytes and forget them; False when the gateway has hung up."""
        try:
            return bool(await self._loop.sock_recv(self._sock, size))
        except ConnectionError:
            return False

    async def read_rest(self) -> bytes:
        """Everything until the gateway hangs up."""
        while await self._receive():
            pass
        rest, self._buffer = self._buffer, b""
        return rest

    async def read_message(self) -> dict[str, Any] | None:
        """The next message in JSON; None when there is none any more."""
        while (got := await self._read_frame()) is not None:
            first, payload = got
            if first == FINAL | TEXT:
                message: dict[str, Any] = json.loads(payload)
                return message
            if first == FINAL | CLOSE:
                self._buffer = frame(FINAL | CLOSE, payload, masked=False) + self._buffer
                return None
        return None

    async def read_problem(self) -> str:
        """The answer to a message that is wrong."""
        while (message := await self.read_message()) is not None:
            if message["type"] == "problem":
                return answers.of_problem(message["code"])
        return await self.read_ending()

    async def read_ending(self) -> str:
        """How the gateway ends the connection, its close answered."""
        code = None
        while (got := await self._read_frame()) is not None:
            first, payload = got
            if first == FINAL | CLOSE:
                code = int.from_bytes(payload[:2]) if payload else 1005
                await self.send(frame(FINAL | CLOSE, payload))
        return answers.of_close(code)

    async def _read_frame(self) -> tuple[int, bytes] | None:
        head = await self._read(2)
        if head is None:
            return None
        size = head[1]
        if size >= 126:
            extended = await self._read(2 if size == 126 else 8)
            if extended is None:
                return None
            size = int.from_bytes(extended)
        payload = await self._read(size)
        return None if payload is None else (head[0], payload)

    async def _read(self, size: int) -> bytes | None:
        while len(self._buffer) < size:
            if not await self._receive():
                return None
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    async def _receive(self) -> bool:
        try:
            async with asyncio.timeout(PATIENCE):
                data = await self._loop.sock_recv(self._sock, 256 * 1024)
        except ConnectionError:
            return False
        except TimeoutError:
            raise NoAnswerError(f"no answer for {PATIENCE:g} s") from None
        self._buffer += data
        return bool(data)
