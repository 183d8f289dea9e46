"""The link between workers: sockets handed over, each with one message that says what it is.

Every worker has one inbox, a pair of Unix sockets made before workers are forked, and the sending ends of all others.
The supervisor keeps both ends: what is sent to a worker that has died waits for the next one in its place.

A message is what `Handed` says, in MessagePack. A question travels the same way: the socket is then one end of a pair,
on which the other worker answers a request of HTTP like any client's.
"""

from __future__ import annotations

import array
import asyncio
import errno
import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec

from deltawire.gateway.server.accepting.routing import MAX_HEAD, Handed

KIND: Final = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_DGRAM
"""Both keep messages whole. Of datagrams, Linux queues ten only; elsewhere there are no others."""

MAX_MESSAGE: Final = MAX_HEAD + 1024

TAKEN_AT_ONCE: Final = 16
"""Sockets taken from the inbox in one turn of the loop."""


class Inbox(NamedTuple):
    """Where one worker gets sockets.

    Attributes:
        reader: its worker's end.
        writer: that of all others.
    """

    reader: socket.socket
    writer: socket.socket

    @classmethod
    def make(cls) -> Inbox:
        """Make an inbox; neither end blocks."""
        pair = cls(*socket.socketpair(socket.AF_UNIX, KIND))
        for end in pair:
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * MAX_MESSAGE)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * MAX_MESSAGE)  # which bounds a datagram of BSD's
        return pair


Take = Callable[[socket.socket, Handed], None]


class Links:
    """The links of one worker.

    Args:
        worker: its number.
        inboxes: of all workers.
    """

    def __init__(self, worker: int, inboxes: Sequence[Inbox]) -> None:
        self._reader = inboxes[worker].reader
        self._writers = [inbox.writer for inbox in inboxes]

    def send(self, worker: int, fd: int, handed: Handed) -> None:
        """Hand a socket over; this process may close its descriptor afterwards.

        Raises:
            OSError: the message is too long, the other worker does not take what it gets, or too many descriptors are
                under way.
        """
        message = msgspec.msgpack.encode(handed)
        if len(message) > MAX_MESSAGE:  # it would be cut
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        self._writers[worker].sendmsg([message], rights)

    def start(self, take: Take) -> None:
        """Call a function with every socket that comes."""
        asyncio.get_running_loop().add_reader(self._reader, self._receive, take)

    def stop(self) -> None:
        """Take no more; what comes waits for the next worker in this place."""
        asyncio.get_running_loop().remove_reader(self._reader)

    def _receive(self, take: Take) -> None:
        for _ in range(TAKEN_AT_ONCE):
            try:
                message, fds, _, _ = socket.recv_fds(self._reader, MAX_MESSAGE, 1)
            except BlockingIOError:
                return
            if not fds:  # this process has no descriptor left for it
                continue
            sock = socket.socket(fileno=fds[0])
            sock.setblocking(False)
            sock.set_inheritable(False)
            take(sock, msgspec.msgpack.decode(message, type=Handed))


def discard(inbox: Inbox) -> None:
    """Close every socket that waits in an inbox."""
    with suppress(BlockingIOError):
        while fds := socket.recv_fds(inbox.reader, MAX_MESSAGE, 1)[1]:
            socket.socket(fileno=fds[0]).close()
