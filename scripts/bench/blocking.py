"""One connection at a time, with calls that wait: for scenarios where a single peer matters, not their number."""

from __future__ import annotations

import socket
from typing import Self

from scripts.bench.handshake import HandshakeError

PATIENCE = 30.0


class Connection:
    """A WebSocket whose frames are not taken apart: what comes is bytes, to be searched. A context manager.

    Args:
        port: on 127.0.0.1.
        request: its handshake.

    Attributes:
        received: everything that came after the handshake.

    Raises:
        HandshakeError: the server refused.
    """

    def __init__(self, port: int, request: bytes) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock.sendall(request)
        self.received = bytearray()
        self.read_until(b"\r\n\r\n")
        head, _, rest = self.received.partition(b"\r\n\r\n")
        if b" 101 " not in head.partition(b"\r\n")[0]:
            raise HandshakeError(f"refused: {bytes(head[:300])!r}")
        self.received = rest

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def send(self, data: bytes) -> None:
        """Send everything."""
        self._sock.sendall(data)

    def read_until(self, text: bytes) -> None:
        """Read until something has come.

        Raises:
            OSError: nothing came for `PATIENCE`, or the connection is gone.
        """
        searched = 0
        while self.received.find(text, max(0, searched - len(text))) < 0:
            searched = len(self.received)
            data = self._sock.recv(256 * 1024)
            if not data:
                raise OSError(f"the connection ended before {text!r} came: {bytes(self.received[-300:])!r}")
            self.received += data
