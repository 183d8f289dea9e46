"""Opening many WebSocket connections at once, on the loop of the load generator."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterable
from typing import NamedTuple

from scripts.bench.load import CONNECTING, Load

SOURCES = 8
"""Addresses of 127.0.1.x the connections come from, so that ports don't run out."""

FIRST = 32
"""Connections begun at once. Each that is accepted begins two more, so that the loop never stands still for long."""

TIMEOUT = 60.0
"""Seconds all handshakes together may take."""


class Door(NamedTuple):
    """A connection to open.

    Attributes:
        request: its handshake.
        opened: called with the socket and what came after the answer.
        greeting: sent after the handshake.
        receive_buffer: SO_RCVBUF in bytes; 0 leaves it.
    """

    request: bytes
    opened: Callable[[socket.socket, bytes], None]
    greeting: bytes = b""
    receive_buffer: int = 0


class HandshakeError(Exception):
    """A server did not accept a connection."""


class Opening:
    """Handshakes under way.

    Args:
        load: where they run.
        port: on 127.0.0.1.
        doors: what to open.
        window: how many at a time.
    """

    def __init__(self, load: Load, port: int, doors: Iterable[Door], window: int = CONNECTING) -> None:
        self._load = load
        self._port = port
        self._waiting = list(reversed(list(doors)))
        self._window = window
        self._under_way = 0
        self._begun = 0
        self._go_on(FIRST)

    @property
    def is_done(self) -> bool:
        """Whether all are open."""
        return not self._waiting and not self._under_way

    def _go_on(self, most: int) -> None:
        for _ in range(min(most, len(self._waiting), self._window - self._under_way)):
            self._begin(self._waiting.pop())

    def _begin(self, door: Door) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if door.receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, door.receive_buffer)
        sock.bind((f"127.0.1.{1 + self._begun % SOURCES}", 0))
        self._begun += 1
        self._under_way += 1
        sock.connect_ex(("127.0.0.1", self._port))
        self._load.watch(sock, lambda _: self._ask(sock, door), select.EPOLLOUT)

    def _ask(self, sock: socket.socket, door: Door) -> None:
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise HandshakeError(f"connect: errno {error}")
        sock.send(door.request)
        answer = bytearray()
        self._load.watch(sock, lambda _: self._hear(sock, door, answer), select.EPOLLIN)
        self._go_on(2)

    def _hear(self, sock: socket.socket, door: Door, answer: bytearray) -> None:
        data = sock.recv(65536)
        answer += data
        head, found, rest = bytes(answer).partition(b"\r\n\r\n")
        if not data or (found and head.split(b" ", 2)[1] not in {b"101", b"200"}):
            raise HandshakeError(f"refused: {bytes(answer[:300])!r}")
        if not found:
            return
        self._under_way -= 1
        if door.greeting:
            sock.send(door.greeting)
        door.opened(sock, rest)
        self._go_on(1)


def open_all(load: Load, port: int, doors: Iterable[Door], window: int = CONNECTING) -> None:
    """Open connections and wait until all are.

    Raises:
        HandshakeError: one was refused, or it took too long.
    """
    opening = Opening(load, port, doors, window)
    if not load.run(TIMEOUT, lambda: opening.is_done):
        raise HandshakeError(f"not all connections were open after {TIMEOUT} s")
