"""The floor: what it costs at least to give each event to each consumer with a `send()` of its own.

Not a server: it takes the first connection that publishes by its word, looks for nothing but markers in what comes, and
calls `send()` with a frame of the gateway's size on every consumer's socket. In Python, which adds about a tenth of
a microsecond to each `send()`. Two streams are not told apart.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys

from scripts.bench.wire import EVENT, MARKER, STAMP_DIGITS, unmasked

ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: none\r\n\r\n"
)

OUT = (
    b'{"type":"text_delta","seq":1000,"timestamp":"2026-11-22T11:00:00.123456Z","data":' + EVENT.split(b'"data":', 1)[1]
)


def serve(port: int) -> None:
    """Accept and forward, for ever."""
    head, tail = unmasked(OUT).split(b"0" * STAMP_DIGITS + MARKER)
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    listener.setblocking(False)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    new: dict[int, socket.socket] = {}
    producers: dict[int, socket.socket] = {}
    unfinished: dict[int, bytes] = {}
    consumers: list[socket.socket] = []
    while True:
        for fd, _ in poll.poll():
            if fd == listener.fileno():
                sock, _ = listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                poll.register(sock, select.EPOLLIN)
                new[sock.fileno()] = sock
            elif fd in new:
                sock = new.pop(fd)
                request = sock.recv(65536)
                if not request:
                    poll.unregister(fd)
                    sock.close()
                    continue
                sock.send(ANSWER)
                if b"/publish" in request:
                    producers[fd] = sock
                else:
                    consumers.append(sock)
                    poll.unregister(fd)
            else:
                data = producers[fd].recv(65536)
                if not data:
                    poll.unregister(fd)
                *pieces, unfinished[fd] = (unfinished.get(fd, b"") + data).split(MARKER)
                for piece in pieces:
                    frame = head + piece[-STAMP_DIGITS:] + MARKER + tail
                    for sock in consumers:
                        with contextlib.suppress(BlockingIOError):
                            sock.send(frame)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
