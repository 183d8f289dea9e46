"""Time to a first token through programs that stand in front of a provider, by turns."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from statistics import median
from threading import Thread
from typing import Final, NamedTuple

from scripts.bench.answers import HEAD, LAST, QUESTION, TOKEN, ask

PAUSE: Final = 0.015
"""Seconds after each answer: what stands in front tells readers meanwhile."""

TIMEOUT: Final = 10.0
"""Seconds for which a provider or a caller waits for the other."""

CLOSES: Final = "X-Bench: close"
"""Field of a request whose answer closes the provider's connection."""


class Times(NamedTuple):
    """Milliseconds from a request to the first token of its answer.

    Attributes:
        p50: the median.
        later: the median of the differences to the provider alone in the same round.
    """

    p50: float
    later: float


@contextmanager
def answering_at_once() -> Iterator[int]:
    """The port of a provider that answers each request with one token."""

    def serve(sock: socket.socket) -> None:
        asked = b""
        with sock, suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := sock.recv(65536):
                asked += data
                if not asked.endswith(QUESTION):
                    continue
                closes = CLOSES.lower().encode() in asked.lower()
                head = HEAD.replace(b"Content", b"Connection: close\r\nContent", 1) if closes else HEAD
                sock.sendall(head + TOKEN.fill(0) + LAST)
                asked = b""
                if closes:
                    return

    serving: list[Thread] = []

    def accept() -> None:
        with suppress(OSError):
            while True:
                sock, _ = listener.accept()
                serving.append(Thread(target=serve, args=(sock,), daemon=True))
                serving[-1].start()

    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        accepting = Thread(target=accept, daemon=True)
        accepting.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
        for thread in serving:  # whose callers have hung up
            thread.join()


def time_first_tokens(ports: Mapping[str, int], rounds: int, *, keep: bool) -> dict[str, Times]:
    """Ask once at each port in each round, in an order of chance.

    Args:
        ports: by name; the first one is the provider's.
        rounds: how many.
        keep: whether connections are used again, to the provider as well; else each request makes new ones.
    """
    taken: dict[str, list[float]] = {name: [] for name in ports}
    with ExitStack() as stack:
        kept = {name: stack.enter_context(_connect(port)) for name, port in ports.items()} if keep else {}
        for _ in range(rounds):
            for name in random.sample(list(ports), len(ports)):
                question = ask(ports[name]) if keep else ask(ports[name], CLOSES)
                began = time.perf_counter()
                sock = kept[name] if keep else _connect(ports[name])
                sock.sendall(question)
                data = _read(sock, b"data: ")
                taken[name].append((time.perf_counter() - began) * 1000)
                if not data.endswith(LAST):
                    _read(sock, LAST)
                if not keep:
                    sock.close()
                time.sleep(PAUSE)
    alone = next(iter(taken.values()))
    return {
        name: Times(median(times), median(time - least for time, least in zip(times, alone, strict=True)))
        for name, times in taken.items()
    }


def _connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _read(sock: socket.socket, until: bytes) -> bytes:
    data = b""
    while until not in data:
        if not (piece := sock.recv(65536)):
            raise ConnectionError(f"an answer ended before {until!r}")
        data += piece
    return data
