"""Connections with TLS whose stream lives in another worker: their bytes are relayed.

A session of TLS can't be handed over with its socket. The worker that accepted it keeps it, and hands over one end of a
pair of Unix sockets in its place. Neither side reads more than the other has taken, beyond the buffers of a socket, so
that a reader's lag stays in its cursor.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from deltawire.gateway.server.accepting.listening import SEND_BUFFER
from deltawire.gateway.server.relaying.pairs import Relay, Relays


class WorkerRelays(Relays[Relay]):
    """The relayed connections of one worker."""

    def __init__(self) -> None:
        super().__init__()
        self._tasks: set[asyncio.Task[None]] = set()

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
        relay = Relay(transport, self.discard)
        self.add(relay)
        task = asyncio.get_running_loop().create_task(_start(relay, near))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _start(relay: Relay, near: socket.socket) -> None:
    """Begin to relay, over this worker's end of the pair."""
    await asyncio.get_running_loop().connect_accepted_socket(lambda: relay.far, near)
    relay.peer.resume_reading()
