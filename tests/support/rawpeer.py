"""A client on a bare socket: it stops reading when it likes, and sends bytes no library would."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple, Self

from tests.support.heard import note_close, note_message
from tests.support.waiting import DEADLINE

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
FIN = 0x80
MASK = 0x80
KEY = b"\x11\x22\x33\x44"

HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
)


class Frame(NamedTuple):
    """A frame as it came."""

    opcode: int
    payload: bytes


def frame(opcode: int, payload: bytes = b"", *, first: int | None = None, masked: bool = True) -> bytes:
    """A frame as a client sends it.

    Args:
        opcode: of a frame that is complete.
        payload: unmasked.
        first: the whole first byte, where it is not the usual one.
        masked: whether the frame is masked, as RFC 6455 wants it.
    """
    size = len(payload)
    head = bytes((FIN | opcode if first is None else first,))
    mask = MASK if masked else 0
    if size < 126:
        head += bytes((mask | size,))
    elif size < 0x10000:
        head += bytes((mask | 126,)) + size.to_bytes(2)
    else:
        head += bytes((mask | 127,)) + size.to_bytes(8)
    if not masked:
        return head + payload
    key = (KEY * (size // 4 + 1))[:size]
    return head + KEY + (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(size)


def text(message: Any) -> bytes:
    """A message as a whole text frame."""
    return frame(TEXT, (message if isinstance(message, str) else json.dumps(message)).encode())


class RawPeer:
    """One connection, byte by byte."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._loop = asyncio.get_running_loop()
        self._buffer = b""

    @classmethod
    async def connect(cls, port: int, receive_buffer: int | None = None, source: str = "") -> Self:
        """Open a TCP connection, from an address of its own where one is given.

        A small receive buffer makes a reader that stops felt at once.
        """
        sock = socket.socket()
        if source:
            sock.bind((source, 0))
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        it = cls(sock)
        try:
            await it._loop.sock_connect(sock, ("127.0.0.1", port))
        except OSError:
            sock.close()
            raise
        return it

    def close(self) -> None:
        """Let the socket go, whatever the state."""
        self.sock.close()

    def reset(self) -> None:
        """Lose the connection: the gateway gets a reset, not an end."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def finish_sending(self) -> None:
        """Say that no more bytes come; a gateway that hung up already is no error."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    async def send(self, data: bytes) -> None:
        """Send bytes; a gateway that hung up already is no error."""
        with suppress(BrokenPipeError, ConnectionResetError):
            await self._loop.sock_sendall(self.sock, data)

    async def upgrade(self, path: str, headers: str = "", then: bytes = b"") -> bytes:
        """Do the handshake, with bytes sent along after it; returns the head of the answer."""
        await self.send(HANDSHAKE.format(path=path, headers=headers).encode() + then)
        return await self.read_head()

    async def read_head(self) -> bytes:
        """The head of an HTTP answer."""
        while b"\r\n\r\n" not in self._buffer:
            assert await self._receive(), f"hung up in the head: {self._buffer!r}"
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        return head

    async def read_some(self) -> bytes:
        """What has come, or comes next; nothing when the gateway has hung up."""
        if not self._buffer:
            await self._receive()
        data, self._buffer = self._buffer, b""
        return data

    async def read_rest(self) -> bytes:
        """Everything until the gateway hangs up."""
        while await self._receive():
            pass
        rest, self._buffer = self._buffer, b""
        return rest

    async def _receive(self) -> bool:
        try:
            async with asyncio.timeout(DEADLINE):
                data = await self._loop.sock_recv(self.sock, 65536)
        except ConnectionResetError:
            return False
        self._buffer += data
        return bool(data)

    async def _read(self, size: int) -> bytes | None:
        while len(self._buffer) < size:
            if not await self._receive():
                return None
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    async def read_frame(self) -> Frame | None:
        """The next frame; None when the gateway has hung up."""
        head = await self._read(2)
        if head is None:
            return None
        size = head[1]
        assert size < 128, "a gateway does not mask"
        if size >= 126:
            extended = await self._read(2 if size == 126 else 8)
            assert extended is not None
            size = int.from_bytes(extended)
        payload = await self._read(size)
        return None if payload is None else Frame(head[0] & 0x0F, payload)

    async def read_message(self) -> dict[str, Any]:
        """The next message, in JSON."""
        got = await self.read_frame()
        assert got is not None, "the gateway hung up"
        assert got.opcode == TEXT, got
        message = json.loads(got.payload)
        assert isinstance(message, dict)
        note_message(message)
        return message

    async def read_until(self, type: str, **fields: Any) -> list[dict[str, Any]]:
        """Messages up to the first one of a type with these fields, it included."""
        messages = [await self.read_message()]
        while messages[-1]["type"] != type or messages[-1] | fields != messages[-1]:
            messages.append(await self.read_message())
        return messages

    async def read_ending(self) -> tuple[list[dict[str, Any]], int | None]:
        """Messages until the gateway hangs up, its close answered; and its close code, None where it sent none."""
        messages = []
        code = None
        while (got := await self.read_frame()) is not None:
            if got.opcode == TEXT:
                messages.append(json.loads(got.payload))
                note_message(messages[-1])
            elif got.opcode == CLOSE:
                code = int.from_bytes(got.payload[:2]) if got.payload else 1005
                note_close(code)
                await self.send(frame(CLOSE, got.payload))
        self.close()
        return messages, code


@asynccontextmanager
async def raw_peer(
    port: int, path: str, receive_buffer: int | None = None, headers: str = ""
) -> AsyncIterator[RawPeer]:
    """A connection that has been upgraded."""
    it = await RawPeer.connect(port, receive_buffer)
    try:
        head = await it.upgrade(path, headers)
        assert b" 101 " in head.splitlines()[0], head
        yield it
    finally:
        it.close()
