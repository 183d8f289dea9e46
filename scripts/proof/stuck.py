"""Consumers that stop reading and stay."""

from __future__ import annotations

import asyncio
import socket
from urllib.parse import urlsplit

from deltawire.protocol.messages import Policy

RECEIVE_BUFFER = 4096
"""Bytes: full after a few events."""

LEAVING = frozenset({Policy.BLOCK, Policy.DISCONNECT})
"""Policies that part with a consumer that stands still; the others keep it until `send_timeout`."""

RETURN_INTERVAL = 10.0
"""Seconds after which consumers that were parted with are replaced."""

_HANDSHAKE = (
    "GET /v1/streams/{stream}/subscribe?from=now&policy={policy}&buffer=100 HTTP/1.1\r\nHost: gateway\r\n"
    "Upgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Stuck:
    """So many consumers of every policy in turn, none of which reads a byte.

    Args:
        url: the gateway's address.
        streams: what they subscribe to, in turn.
        count: how many there are.
    """

    def __init__(self, url: str, streams: list[str], count: int) -> None:
        self._address = urlsplit(url)
        policies = list(Policy)
        self._asked = [
            (streams[at // len(policies) % len(streams)], policies[at % len(policies)]) for at in range(count)
        ]
        self._sockets: dict[int, socket.socket] = {}

    async def stay(self) -> None:
        """Be there until cancelled; whoever was parted with comes back."""
        try:
            while True:
                for at, (stream, policy) in enumerate(self._asked):
                    if at not in self._sockets or policy in LEAVING:
                        await self._connect(at, stream, policy)
                await asyncio.sleep(RETURN_INTERVAL)
        finally:
            for sock in self._sockets.values():
                sock.close()

    async def _connect(self, at: int, stream: str, policy: Policy) -> None:
        if at in self._sockets:
            self._sockets.pop(at).close()
        sock = self._sockets[at] = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, (self._address.hostname, self._address.port))
        await loop.sock_sendall(sock, _HANDSHAKE.format(stream=stream, policy=policy).encode())
