"""Connections with TLS whose stream lives in another worker: their bytes are relayed.

A session of TLS can't be handed over with its socket. The worker that accepted it keeps it, and hands over one end of a
pair of Unix sockets in its place. Neither side reads more than the other has taken, beyond the buffers of a socket, so
that a reader's lag stays in its cursor.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from deltawire.gateway.server.accepting.listening import SEND_BUFFER
from deltawire.gateway.server.connection.sending import CLOSE_TIMEOUT


class Relays:
    """The relayed connections of one worker."""

    def __init__(self) -> None:
        self._relays: set[Relay] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._all_gone = asyncio.Event()
        self._all_gone.set()

    def __len__(self) -> int:
        """Connections relayed now."""
        return len(self._relays)

    def open(self, transport: asyncio.Transport, hand_over: Callable[[socket.socket], None]) -> None:
        """Relay a connection.

        Args:
            transport: of the peer.
            hand_over: gives the other worker its end of the pair.

        Raises:
            OSError: there are no descriptors left, or the other worker can't take it; the transport is untouched.
        """
        near, far = socket.socketpair()
        try:
            for end in (near, far):
                end.setblocking(False)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            with far:
                hand_over(far)
        except OSError:
            near.close()
            raise
        relay = Relay(transport, self._leave)
        self._relays.add(relay)
        self._all_gone.clear()
        task = asyncio.get_running_loop().create_task(relay.start(near))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _leave(self, relay: Relay) -> None:
        self._relays.discard(relay)
        if not self._relays:
            self._all_gone.set()

    async def wait_all_gone(self, deadline: float) -> None:
        """Wait until nothing is relayed any more.

        Args:
            deadline: monotonic seconds when to stop waiting.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await self._all_gone.wait()

    def abort(self) -> None:
        """Abort every relayed connection."""
        for relay in tuple(self._relays):
            relay.abort()


class Relay:
    """Two sockets, each of which is sent what comes from the other one.

    Args:
        transport: of the peer.
        gone: called when both are gone.
    """

    def __init__(self, transport: asyncio.Transport, gone: Callable[[Relay], None]) -> None:
        self._gone = gone
        self._peer = _Side(self, transport)
        self._worker = _Side(self)
        transport.pause_reading()
        transport.set_protocol(self._peer)

    async def start(self, near: socket.socket) -> None:
        """Begin to relay.

        Args:
            near: this worker's end of the pair.
        """
        await asyncio.get_running_loop().connect_accepted_socket(lambda: self._worker, near)
        self._peer.resume_reading()

    def other(self, side: _Side) -> _Side:
        """The other side."""
        return self._worker if side is self._peer else self._peer

    def lost(self, side: _Side) -> None:
        """End the other side: it gets what it was sent, for as long as a closing connection may take."""
        other = self.other(side)
        if side.is_lost and other.is_lost:
            self._gone(self)
        else:
            other.end()

    def abort(self) -> None:
        """Abort both sides."""
        for side in (self._peer, self._worker):
            side.abort()


class _Side(asyncio.Protocol):
    def __init__(self, relay: Relay, transport: asyncio.Transport | None = None) -> None:
        self._relay = relay
        self._transport = transport
        self._is_ending = False
        self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._is_ending:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._relay.other(self).write(data)

    def eof_received(self) -> bool:
        return False  # closes it, when it has sent what it has

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's signature
        self.is_lost = True
        self._relay.lost(self)

    def pause_writing(self) -> None:
        self._relay.other(self).pause_reading()

    def resume_writing(self) -> None:
        self._relay.other(self).resume_reading()

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def pause_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def end(self) -> None:
        self._is_ending = True
        if self._transport is not None and not self.is_lost:
            self._transport.close()
            asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self.abort)

    def abort(self) -> None:
        self._is_ending = True
        if self._transport is not None:
            self._transport.abort()
