"""One connection of a node that follows a stream to the owner of the stream: a WebSocket, from the client's side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

from websockets.frames import Close, Frame, Opcode

from deltawire.gateway.server.relaying.frames import FrameEnds
from deltawire.gateway.server.relaying.messages import FollowMessage, encode
from deltawire.protocol.framing import payload_start, split_frames

SWITCHING: Final = b"HTTP/1.1 101 "
MAX_HEAD: Final = 16 * 1024
"""Bytes of the head of an answer, at most."""

OPCODE: Final = 0x0F
"""Mask of the opcode in a frame's first byte (RFC 6455 §5.2)."""


class Link(asyncio.Protocol):
    """One connection.

    Args:
        received: called with the whole frames that have come, in order, but for those of the WebSocket itself.

    Attributes:
        lost: done when it is gone.
        heard_at: monotonic seconds when something came last.
    """

    _transport: asyncio.Transport

    def __init__(self, received: Callable[[list[bytes]], None]) -> None:
        self._received = received
        self._loop = asyncio.get_running_loop()
        self._head: bytes | None = b""  # of the answer, while it is incomplete
        self._ends = FrameEnds()
        self._rest = b""  # the beginning of a frame
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self.heard_at = self._loop.time()

    # Called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is connected."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Pass on the frames that are complete."""
        self.heard_at = self._loop.time()
        if self._head is not None:
            data = self._read_head(self._head + data)
        end = self._ends.feed(data)
        if not end:
            self._rest += data
            return
        whole, self._rest = self._rest + data[:end], data[end:]
        self._received([frame for frame in split_frames(whole) if not self._answers(frame)])

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's signature
        """It is gone."""
        if not self.lost.done():
            self.lost.set_result(None)

    def _read_head(self, data: bytes) -> bytes:
        """Read the answer to the request; return what follows it. Only a WebSocket will do."""
        head, end, rest = data.partition(b"\r\n\r\n")
        if not head.startswith(SWITCHING[: len(head)]) or len(head) > MAX_HEAD:
            self._transport.abort()
            return b""
        self._head = None if end else data
        return rest

    def _answers(self, frame: bytes) -> bool:
        """Answer a frame of the WebSocket itself; whether it was one."""
        opcode = frame[0] & OPCODE
        if opcode == Opcode.PING:
            self._write(Opcode.PONG, frame[payload_start(frame) :])
        elif opcode == Opcode.CLOSE:
            self._write(Opcode.CLOSE, frame[payload_start(frame) :])
            self._transport.close()
        return opcode in (Opcode.PING, Opcode.PONG, Opcode.CLOSE)

    # Called by the follow

    def ask(self, head: bytes) -> None:
        """Send the request."""
        self._transport.write(head)

    def send(self, message: FollowMessage) -> None:
        """Send a message."""
        self._write(Opcode.BINARY, encode(message))

    def close(self) -> None:
        """Leave."""
        self._write(Opcode.CLOSE, Close(1000, "").serialize())
        self._transport.close()

    def abort(self) -> None:
        """Close it at once."""
        self._transport.abort()

    def _write(self, opcode: Opcode, payload: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(Frame(opcode, payload).serialize(mask=True))
