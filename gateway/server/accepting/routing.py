"""Which worker serves a socket, where a gateway has several: the one that its stream lives in.

The line of the request says it. Everything before that line ends is held here, and nothing of it is parsed twice. No
more than a few KiB are read at a time, so that the body of a request stays in the socket for the worker that gets it.
The interface of `Siblings` is all that the server knows of other workers; `gateway.workers` implements it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final, NamedTuple, Protocol

from websockets.http11 import Request, Response

from deltawire.gateway.server.http.target import Target, parse_target
from deltawire.gateway.server.responses import Refusal

MAX_LINE: Final = 8192
"""Bytes of the line of a request, as the library's parser limits it; a longer one is its to refuse."""

MAX_HEAD: Final = 48 * 1024
"""Bytes of a request that can be handed over; they go in one message, for which the kernel has 208 KiB by default."""


_READ: Final = bytearray(MAX_LINE)
"""Where bytes are read to, by one socket at a time: none waits while its bytes are here."""


class Remote(NamedTuple):
    """Who is at the other end of a connection.

    Attributes:
        host: numeric address; empty if it is not known.
        port: of the address.
        has_tls: whether the connection is encrypted, here or in the worker that accepted it.
        has_certificate: whether the peer has shown a certificate, which was then verified.
    """

    host: str
    port: int = 0
    has_tls: bool = False
    has_certificate: bool = False


UNKNOWN: Final = Remote("")


class Handed(NamedTuple):
    """A socket that another worker has handed over.

    Attributes:
        remote: who is at its other end.
        since: monotonic seconds when it was accepted.
        head: the bytes read from it.
        is_question: whether another worker asks, for an answer that is gathered from all of them.
    """

    remote: Remote
    since: float
    head: bytes
    is_question: bool = False


class Siblings(Protocol):
    """The other workers of a gateway.

    Attributes:
        is_draining: the whole gateway shuts down: what is another worker's is refused, as that may be gone.
        key: by which other gateways know that they may relay to any of them.
    """

    is_draining: bool
    key: str

    def own(self, stream_id: str) -> bool:
        """Whether a stream lives in this worker."""

    def hand_over(self, transport: asyncio.Transport, stream_id: str, handed: Handed) -> Refusal | None:
        """Give a socket to the worker of a stream; return a refusal, with the socket untouched, if it can't."""

    def complete(self, request: Request, target: Target, response: Response) -> Response | Awaitable[Response]:
        """Complete this worker's response to a request with those of the others, if it speaks for all of them."""


def remote_of(transport: asyncio.BaseTransport) -> Remote:
    """Who is at the other end of a transport; without an address if the socket is gone, or is no TCP socket."""
    try:
        name = transport.get_extra_info("peername")
    except ValueError:  # uvloop raises it for a socket that was lost in this turn
        return UNKNOWN
    host, port = (str(name[0]), int(name[1])) if isinstance(name, tuple) and name else ("", 0)
    has_tls = transport.get_extra_info("sslcontext") is not None
    return Remote(host, port, has_tls, has_tls and bool(transport.get_extra_info("peercert")))


class RoutedSocket(asyncio.BufferedProtocol):
    """A socket whose worker is not known yet.

    Args:
        siblings: the other workers.
        since: monotonic seconds when it was accepted.
        stay: called with what came, if it is served here.
        leave: called before another worker gets it, and when it is gone.
        refuse: called with what came and a refusal, if the other worker can't take it.
    """

    _transport: asyncio.Transport

    def __init__(
        self,
        siblings: Siblings,
        since: float,
        stay: Callable[[asyncio.Transport, bytes], None],
        leave: Callable[[], None],
        refuse: Callable[[asyncio.Transport, bytes, Refusal], None],
    ) -> None:
        self._siblings = siblings
        self._since = since
        self._stay = stay
        self._leave = leave
        self._refuse = refuse
        self._head = b""

    def let_in(self, transport: asyncio.Transport) -> None:
        """Begin to read its request."""
        self._transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - the loop's signature
        """Where to read to."""
        return _READ

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        self.data_received(bytes(_READ[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Read a part of its request, and find its worker when the first line is complete."""
        if self._transport.is_closing():
            return
        self._head += data
        line, newline, _ = self._head.partition(b"\n")
        if not newline and len(line) <= MAX_LINE and line[:1].isupper():
            return
        stream_id = stream_of(line)
        if not stream_id or self._siblings.own(stream_id):
            self._stay(self._transport, self._head)
        else:
            self._leave()  # first: the other worker may count it before this one goes on
            if (refusal := self._hand_over(stream_id)) is not None:
                self._refuse(self._transport, self._head, refusal)

    def _hand_over(self, stream_id: str) -> Refusal | None:
        if self._siblings.is_draining:
            return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "the gateway is shutting down")
        if len(self._head) > MAX_HEAD:
            return Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"the request is over {MAX_HEAD} bytes")
        handed = Handed(remote_of(self._transport), self._since, self._head)
        return self._siblings.hand_over(self._transport, stream_id, handed)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's signature
        """The socket is gone."""
        self._leave()


def stream_of(line: bytes) -> str:
    """Return the id of the stream that the line of a request is about, valid or not; empty if there is none."""
    _, _, rest = line.partition(b" ")
    target, _, _ = rest.partition(b" ")
    return parse_target(target.decode("ascii", "surrogateescape")).stream_id
