"""The load generator: one loop over raw sockets that sends on schedule and counts what comes.

What it does per read is kept to a few calls into C (`recv_into`, `count`, `find`, `int`), so that one core follows two
million events a second. What a read means is worked out after the run, from the raw notes in `Reads`.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Self

from scripts.bench.reads import Reads, clock
from scripts.bench.schedule import Schedule
from scripts.bench.sender import Producer, Sender
from scripts.bench.wire import MARKER, Template

BUFFER = 256 * 1024
"""Bytes read at once."""

AT_ONCE = 64
"""Sockets served before the schedule is looked at again: about 200 microseconds."""

CONNECTING = 200
"""Handshakes under way at a time, unless a storm is wanted."""

DROPPING = 60.0
"""Seconds to close the connections of all consumers may take."""

NAP = 200_000
"""Nanoseconds the load generator rests when nothing is to be read. It adds half of that to what latencies show."""


class Load:
    """Sockets in one epoll. A context manager that closes them."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._buffer = bytearray(BUFFER)
        self._readers: dict[int, Callable[[bytearray], int]] = {}
        self._others: dict[int, Callable[[int], None]] = {}
        self._names: dict[int, int] = {}
        self._halves: set[int] = set()
        self._socks: dict[int, socket.socket] = {}
        self.sender = Sender()
        self.reads = Reads()
        self.slept = 0
        self.lost_connections = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._socks.values():
            sock.close()
        self._epoll.close()

    # Sockets

    def watch(self, sock: socket.socket, handle: Callable[[int], None], mask: int) -> None:
        """Have a handler called with the events of a socket."""
        fd = sock.fileno()
        self._socks[fd] = sock
        if fd in self._others:
            self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)
        self._others[fd] = handle

    def forget(self, sock: socket.socket) -> None:
        """Close a socket."""
        fd = sock.fileno()
        if self._socks.pop(fd, None) is None:
            return
        self._readers.pop(fd, None)
        self._others.pop(fd, None)
        self._halves.discard(fd)
        self._epoll.unregister(fd)
        sock.close()

    def consume(self, sock: socket.socket, name: int, leftover: bytes = b"") -> None:
        """Count what comes on a socket from now on.

        Args:
            sock: connected.
            name: of the consumer, in the notes.
            leftover: what came already.
        """
        fd = sock.fileno()
        self._socks[fd] = sock
        self._names[fd] = name
        if self._others.pop(fd, None) is None:
            self._epoll.register(fd, select.EPOLLIN)
        else:
            self._epoll.modify(fd, select.EPOLLIN)
        self._readers[fd] = sock.recv_into
        events = leftover.count(MARKER)
        if leftover.endswith(MARKER[:1]):
            self._halves.add(fd)
        if events:
            self._buffer[: len(leftover)] = leftover
            self.reads.total += events
            self.reads.note(name, events, self._buffer, len(leftover))

    def drop_consumers(self) -> dict[int, int]:
        """Close the connections of all consumers, in a thread: thousands take long, and the schedule has to go on.

        Returns:
            How many events each got since `start`, when every read was noted.
        """
        dropped = {self._names[fd]: self._socks.pop(fd) for fd in self._readers}
        self._halves.difference_update(self._readers)
        self._readers.clear()

        def drop() -> dict[int, int]:
            for sock in dropped.values():
                sock.close()
            counts = self.reads.by_consumer()
            return {name: counts.get(name, 0) for name in dropped}

        with ThreadPoolExecutor(1) as thread:
            dropping = thread.submit(drop)
            self.run(DROPPING, dropping.done)
            return dropping.result()

    def produce(self, sock: socket.socket, template: Template) -> Producer:
        """Publish on a socket; what comes back is read and kept in part."""

        def watch_for_room(is_blocked: bool) -> None:  # noqa: FBT001 - a callback of one argument
            if sock.fileno() in self._others:
                self._epoll.modify(sock, select.EPOLLIN | (select.EPOLLOUT if is_blocked else 0))

        def handle(mask: int) -> None:
            if mask & select.EPOLLOUT:
                producer.send()
            if mask & ~select.EPOLLOUT:
                self._hear(producer)

        producer = Producer(sock, template, watch_for_room)
        self.sender.producers.append(producer)
        self.watch(sock, handle, select.EPOLLIN)
        return producer

    def _hear(self, producer: Producer) -> None:
        with suppress(BlockingIOError, ConnectionError):
            size = producer.sock.recv_into(self._buffer)
            if size:
                producer.heard = bytes(self._buffer[max(0, size - 100) : size])
                if producer.on_heard is not None:
                    producer.on_heard()
                return
        self._lose(producer.sock)

    def _lose(self, sock: socket.socket) -> None:
        self.lost_connections += 1
        self.forget(sock)

    # Running

    def start(self, schedule: Schedule, start: int, stride: int = 1) -> None:
        """Begin a schedule, and notes.

        Args:
            schedule: when what is sent.
            start: its beginning, in nanoseconds of the monotonic clock.
            stride: of the notes, see `Reads`.
        """
        self.sender.start(schedule, start)
        self.reads = Reads(stride)
        self.slept = 0

    def run(self, seconds: float, done: Callable[[], bool] = lambda: False) -> bool:
        """Send and read until a time has passed, or something is done.

        Returns:
            Whether it is done.
        """
        until = clock() + int(seconds * 1e9)
        poll, send_due = self._epoll.poll, self.sender.send_due
        while True:
            now = clock()
            send_due(now)
            ready = poll(0, AT_ONCE)
            if not ready:
                if done():
                    return True
                if now >= until:
                    return False
                self._sleep(until)
            elif now >= until:
                return done()
            else:
                self._serve(ready)

    def _serve(self, ready: list[tuple[int, int]]) -> None:
        """Read from the sockets that have something: the loop that all figures pass through."""
        readers, halves, buffer, reads = self._readers, self._halves, self._buffer, self.reads
        count, half, rest = buffer.count, MARKER[0], MARKER[1]
        for fd, mask in ready:
            read = readers.get(fd)
            if read is None:
                if fd in self._others:
                    self._others[fd](mask)
                continue
            try:
                size = read(buffer)
            except BlockingIOError:
                continue
            except OSError:
                size = 0
            if not size:
                self._lose(self._socks[fd])
                continue
            events = count(MARKER, 0, size)
            if halves and fd in halves:
                halves.discard(fd)
                events += buffer[0] == rest
            if buffer[size - 1] == half:
                halves.add(fd)
            reads.count += 1
            reads.total += events
            if events and not reads.count % reads.stride:
                reads.note(self._names[fd], events, buffer, size)

    def _sleep(self, until: int) -> None:
        """Rest until the next event on the schedule, `NAP` at most.

        Not in `epoll`: there every single write would wake this process, which the kernel does, and charges, in the
        server's `send()`. Consumers on other machines cost a server no such thing.
        """
        began = clock()
        due = min(until, self.sender.next_due or until)
        if due > began:
            time.sleep(min(due - began, NAP) / 1e9)
            self.slept += clock() - began
