"""What a worker does with the other workers: hand sockets over, take theirs, ask them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable
from functools import partial
from http import HTTPStatus
from typing import Final

from websockets.http11 import Request, Response

from deltawire.gateway.logs import get_logger
from deltawire.gateway.server import Gateway
from deltawire.gateway.server.accepting.routing import Handed, Remote
from deltawire.gateway.server.http.target import Target
from deltawire.gateway.server.responses import Refusal
from deltawire.gateway.workers.gathering import SILENT, Answer, gather, speaks_for_all
from deltawire.gateway.workers.links import Links
from deltawire.gateway.workers.relaying import WorkerRelays
from deltawire.gateway.workers.shards import worker_of

ANSWER_TIMEOUT: Final = 2.0
"""Seconds another worker has to answer: more than it takes one that died to come back, less than a probe waits."""

TOKEN_HEADERS: Final = ("Authorization", "Sec-WebSocket-Protocol")
"""Headers that may carry the token of a request."""

OURSELVES: Final = Remote("", has_certificate=True)
"""Another worker of this gateway, to which the peer has shown what it must."""

log = get_logger()


class WorkerSiblings:
    """The other workers, for one of them.

    Args:
        worker: the number of this one.
        workers: how many there are.
        links: to all of them.
        key: by which other gateways know that they may relay to any of them.

    Attributes:
        is_draining: the whole gateway shuts down.
        relays: connections with TLS that were accepted here, and are served by others.
    """

    def __init__(self, worker: int, workers: int, links: Links, key: str) -> None:
        self._worker = worker
        self._workers = workers
        self._links = links
        self.key = key
        self._tasks: set[asyncio.Task[None]] = set()
        self.is_draining = False
        self.relays = WorkerRelays()

    # Sockets accepted here

    def own(self, stream_id: str) -> bool:
        """Whether a stream lives in this worker."""
        return worker_of(stream_id, self._workers) == self._worker

    def hand_over(self, transport: asyncio.Transport, stream_id: str, handed: Handed) -> Refusal | None:
        """Give a socket to the worker of a stream; return a refusal, with the socket untouched, if it can't."""
        owner = worker_of(stream_id, self._workers)
        try:
            if handed.remote.has_tls:
                self.relays.open(transport, lambda far: self._links.send(owner, far.fileno(), handed))
            else:
                self._links.send(owner, transport.get_extra_info("socket").fileno(), handed)
                transport.abort()  # closes this process's descriptor alone
        except OSError:
            return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, f"worker {owner} does not take the connections it gets")
        return None

    # Sockets accepted by others

    def start(self, gateway: Gateway) -> None:
        """Serve the sockets that others hand over."""
        self._links.start(partial(self._take, gateway))

    def stop(self) -> None:
        """Take no more sockets."""
        self._links.stop()

    def _take(self, gateway: Gateway, sock: socket.socket, handed: Handed) -> None:
        task = asyncio.get_running_loop().create_task(self._adopt(gateway, sock, handed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _adopt(gateway: Gateway, sock: socket.socket, handed: Handed) -> None:
        try:
            await gateway.adopt(sock, handed)
        except OSError:  # it was lost meanwhile
            sock.close()

    # Questions

    def complete(self, request: Request, target: Target, response: Response) -> Response | Awaitable[Response]:
        """Complete this worker's response to a request with those of the others, if it speaks for all of them."""
        if response.status_code != HTTPStatus.OK or not speaks_for_all(target):
            return response
        return self._gather(request, target, response)

    async def _gather(self, request: Request, target: Target, response: Response) -> Response:
        question = _repeat(request)
        answers = await asyncio.gather(
            *(self._ask(worker, question) for worker in range(self._workers) if worker != self._worker)
        )
        by_worker = [*answers[: self._worker], Answer(HTTPStatus.OK, bytes(response.body)), *answers[self._worker :]]
        return gather(target, dict(enumerate(by_worker)))

    async def _ask(self, worker: int, question: bytes) -> Answer:
        near, far = socket.socketpair()
        with near:
            near.setblocking(False)
            try:
                with far:
                    now = asyncio.get_running_loop().time()
                    self._links.send(worker, far.fileno(), Handed(OURSELVES, now, question, is_question=True))
                async with asyncio.timeout(ANSWER_TIMEOUT):
                    return await _read_answer(near)
            except OSError:  # it takes nothing, died meanwhile, or took too long
                return SILENT


def _repeat(request: Request) -> bytes:
    """Return a request with its token and nothing else: what else a peer sent has been judged."""
    lines = [f"GET {request.path} HTTP/1.1", "Host: gateway"]
    lines += [f"{name}: {value}" for name in TOKEN_HEADERS for value in request.headers.get_all(name)]
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii", "surrogateescape")


async def _read_answer(near: socket.socket) -> Answer:
    received = b""
    while data := await asyncio.get_running_loop().sock_recv(near, 256 * 1024):
        received += data
    head, _, body = received.partition(b"\r\n\r\n")
    if not body:
        return SILENT
    return Answer(int(head.split(b" ", 2)[1]), body)
