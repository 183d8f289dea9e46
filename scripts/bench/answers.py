"""A provider and its callers in one loop, as little of HTTP as they need: many answers at once, by a schedule."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from scripts.bench.figures import Histogram
from scripts.bench.reads import clock
from scripts.bench.schedule import Schedule
from scripts.bench.wire import MARKER, STAMP_DIGITS, Template, last_stamp

HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST: Final = b"0\r\n\r\n"
QUESTION: Final = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"Hi"}]}'

PAUSE: Final = 0.0005
"""Seconds for which the loop sleeps when it has nothing to do: the gateway may share its core."""

TIMEOUT: Final = 30.0
"""Seconds that answers have to begin and to end, beside the schedule."""


def chunked(payload: bytes) -> bytes:
    """One chunk of a body (RFC 9112 §7.1)."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def token(text: bytes) -> bytes:
    """An event of Chat Completions, as long as the provider's own."""
    return (
        b'data: {"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion.chunk","created":1741570283,'
        b'"model":"gpt-5-2025-08-07","service_tier":"default","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,'
        b'"delta":{"content":"' + text + b'"},"logprobs":null,"finish_reason":null}]}\n\n'
    )


TOKEN: Final = Template(chunked(token(b" w " + b"0" * STAMP_DIGITS + MARKER)))
STOP: Final = chunked(token(b"").replace(b'"finish_reason":null', b'"finish_reason":"stop"') + b"data: [DONE]\n\n")


def ask(port: int, *fields: str) -> bytes:
    """A request for a streamed answer."""
    lines = [
        "POST /v1/chat/completions HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Content-Type: application/json",
        f"Content-Length: {len(QUESTION)}",
        *fields,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + QUESTION


class Answers:
    """A provider that answers, and callers that read.

    Attributes:
        port: where the provider listens.
        latencies: of the tokens, from the time they were due to the read.
        tokens: number of tokens that callers have read.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.latencies = Histogram()
        self.tokens = 0
        self._poll = select.epoll()
        self._poll.register(self._listener, select.EPOLLIN)
        self._asked: dict[int, socket.socket] = {}
        self._answering: list[socket.socket] = []
        self._callers: dict[int, socket.socket] = {}
        self._begun: set[int] = set()
        self._ended: set[int] = set()
        self._tails: dict[int, bytes] = {}

    def close(self) -> None:
        """Close every connection."""
        for sock in (self._listener, *self._asked.values(), *self._callers.values()):
            sock.close()
        self._poll.close()

    def call(self, port: int, number: int) -> None:
        """Ask so many times at once, at this port, and wait until all answers have begun.

        Raises:
            TimeoutError: one did not.
        """
        for _ in range(number):
            sock = socket.create_connection(("127.0.0.1", port))
            sock.setblocking(False)
            sock.send(ask(port))
            self._callers[sock.fileno()] = sock
            self._poll.register(sock, select.EPOLLIN)
            self._turn()
        self._until(lambda: len(self._begun) == number == len(self._answering), "begun")

    def play(self, schedule: Schedule) -> None:
        """Send tokens when they are due, read them, and end the answers.

        Raises:
            TimeoutError: an answer has not come to its end.
        """
        start = clock()
        for due, producer in zip(schedule.times, schedule.producers, strict=True):
            while clock() - start < due:
                if not self._turn():
                    time.sleep(PAUSE)
            self._send(self._answering[producer], TOKEN.fill((start + due) // 1000))
        while clock() - start < schedule.duration:
            self._turn()
        for sock in self._answering:
            self._send(sock, STOP + LAST)
        self._until(lambda: len(self._ended) == len(self._callers), "ended")

    def _until(self, is_so: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + TIMEOUT
        while not is_so():
            if time.monotonic() > until:
                raise TimeoutError(f"{len(self._begun)} answers have begun, {len(self._ended)} ended; not all {what}")
            if not self._turn():
                time.sleep(PAUSE)

    def _send(self, sock: socket.socket, data: bytes) -> None:
        while data:
            with suppress(BlockingIOError):
                data = data[sock.send(data) :]

    def _turn(self) -> int:
        ready = self._poll.poll(0)
        for fd, _ in ready:
            if fd in self._callers:
                self._read(fd)
            elif fd == self._listener.fileno():
                sock, _ = self._listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._poll.register(sock, select.EPOLLIN)
                self._asked[sock.fileno()] = sock
            else:
                self._answer(fd)
        return len(ready)

    def _answer(self, fd: int) -> None:
        sock = self._asked[fd]
        data = sock.recv(65536)
        if not data:
            self._poll.unregister(fd)
            sock.close()
            del self._asked[fd]
        elif data.endswith(QUESTION):
            self._answering.append(sock)
            self._send(sock, HEAD)

    def _read(self, fd: int) -> None:
        sock = self._callers[fd]
        data = self._tails.get(fd, b"") + sock.recv(65536)
        if fd not in self._begun and b"\r\n\r\n" in data:
            self._begun.add(fd)
        if events := data.count(MARKER):
            self.tokens += events
            stamp = last_stamp(bytearray(data), len(data))
            self.latencies.add(clock() // 1000 - stamp, events)
            data = data[data.rfind(MARKER) + len(MARKER) :]
        if data.endswith(LAST):
            self._ended.add(fd)
        self._tails[fd] = data[-STAMP_DIGITS - 4 :]
