"""A connection without a kernel: an asyncio transport whose other end a test holds."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from tests.support.loop import VirtualLoop


class VirtualSocket(asyncio.Transport):
    """The gateway's side of a connection.

    What is written is at the other end at once, as long as that reads; otherwise it piles up, and the protocol is
    paused and resumed as by a transport of asyncio. But for `pause_writing`, callbacks come from the loop, never from
    within a call of the protocol.

    Attributes:
        room: bytes the other end will still take; None, whatever comes.
        stuck_since: when the other end last took a byte, or the gateway was told to write no more, if that was later.
    """

    def __init__(self, loop: VirtualLoop, on_bytes: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        super().__init__()
        self._loop = loop
        self._protocol: asyncio.Protocol
        self._on_bytes = on_bytes
        self._on_end = on_end  # a half-close, a close or an abort
        self.room: int | None = None
        self.stuck_since = 0.0
        self._unsent = bytearray()
        self._high, self._low = 64 * 1024, 16 * 1024
        self._is_paused = False
        self._is_read = True
        self._incoming: deque[bytes | ConnectionResetError | None] = deque()  # None: end of what comes
        self._is_finished = False  # nothing more is written
        self._is_closing = False
        self._is_lost = False
        loop.call_soon(self._accept)

    def _accept(self) -> None:
        self._protocol = self._loop.accept()
        self._protocol.connection_made(self)

    # The other end

    def arrive(self, item: bytes | ConnectionResetError | None) -> None:
        """Bytes come, the end of them (None), or the end of everything."""
        self._incoming.append(item)
        self._loop.call_soon(self._take_incoming)

    def make_room(self, room: int | None) -> None:
        """The other end takes so many bytes from now on."""
        self.room = room
        self._loop.call_soon(self._flush)

    @property
    def is_full(self) -> bool:
        """Whether the gateway was told to write no more."""
        return self._is_paused

    @property
    def is_lost(self) -> bool:
        """Whether the gateway has been told that it is gone."""
        return self._is_lost

    # The loop's side

    def _take_incoming(self) -> None:
        while self._incoming and self._is_read and not self._is_closing:
            match self._incoming.popleft():
                case bytes() as data:
                    self._protocol.data_received(data)
                case None:
                    if not self._protocol.eof_received():
                        self.close()
                case failure:
                    self._lose(failure)

    def _send(self) -> None:
        size = len(self._unsent) if self.room is None else min(self.room, len(self._unsent))
        if size:
            data = bytes(self._unsent[:size])
            del self._unsent[:size]
            if self.room is not None:
                self.room -= size
            self.stuck_since = self._loop.time()
            self._on_bytes(data)

    def _flush(self) -> None:
        if self._is_lost:
            return
        self._send()
        if self._is_paused and len(self._unsent) <= self._low:
            self._is_paused = False
            self._protocol.resume_writing()
        if self._is_closing and not self._unsent:
            self._lose(None)
        elif self._is_finished and not self._unsent:
            self._on_end()

    def _lose(self, failure: Exception | None) -> None:
        self._is_closing = True
        if not self._is_lost:
            self._is_lost = True
            self._unsent.clear()
            self._on_end()
            self._loop.call_soon(self._protocol.connection_lost, failure)

    # The gateway's side

    def write(self, data: Any) -> None:
        if self._is_finished:
            raise RuntimeError("write after write_eof")
        if self._is_closing:
            return
        if any(isinstance(item, ConnectionResetError) for item in self._incoming):  # a dead socket is felt by writing
            self._lose(ConnectionResetError())
            return
        self._unsent += data
        self._send()
        if len(self._unsent) > self._high and not self._is_paused:
            self._is_paused = True
            self.stuck_since = self._loop.time()
            self._protocol.pause_writing()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._is_finished:
            self._is_finished = True
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._loop.call_soon(self._flush)

    def abort(self) -> None:
        self._lose(None)

    def is_closing(self) -> bool:
        return self._is_closing

    def pause_reading(self) -> None:
        self._is_read = False

    def resume_reading(self) -> None:
        self._is_read = True
        self._loop.call_soon(self._take_incoming)

    def is_reading(self) -> bool:
        return self._is_read and not self._is_closing

    def get_write_buffer_size(self) -> int:
        return len(self._unsent)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 64 * 1024 if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 50_000), "sockname": ("127.0.0.1", 8765)}.get(name, default)
