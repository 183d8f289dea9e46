"""Sockets from accept to complete request, and sockets that are refused at once.

    accepted ──► over a limit? ──► [TLS] ──no──► [another worker's?] ──► request ──► admission
                                     │yes
                                     ▼
                                  its request is read past, answered, and the socket closed

A socket whose request is incomplete costs nearly as much as one that is served, and anybody can open it. There are at
most `max_handshakes` of them. Beyond that, the oldest is dropped, and a new one is not refused, so that sockets which
only send a byte now and then keep nobody out. A socket accepted less than `GRACE` ago is never dropped for another:
when thousands reconnect at one moment, none of them has had time to send its request. The grace is counted in ticks of
a timer. A busy loop makes fewer ticks: thousands of handshakes keep it busy for seconds, in which it has not read what
the sockets sent.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from typing import Final, NamedTuple, Protocol, cast

from websockets.http11 import Response

from deltawire.gateway.access.origins import cors_headers, parse_origins
from deltawire.gateway.config import Settings
from deltawire.gateway.hub import Hub
from deltawire.gateway.logs import get_logger
from deltawire.gateway.server.accepting.forwarding import Proxies, limited_address
from deltawire.gateway.server.accepting.limits import Limits
from deltawire.gateway.server.accepting.routing import Handed, RoutedSocket, Siblings, remote_of
from deltawire.gateway.server.accepting.tls import ServerTls, TlsHandshake
from deltawire.gateway.server.responses import Refusal, leave_out_body, respond_refusal

GRACE: Final = 1.0
"""Seconds a socket has for its request, however many come: several times what a request takes over a bad line."""

TLS_GRACE: Final = 5.0
"""The same with TLS: a client that returns with thousands of connections has a millisecond of work for each."""

TICK: Final = 0.05
"""Seconds between two ticks while a socket waits; less than a loop turn that reads a thousand requests."""

MAX_REQUEST: Final = 16 * 1024
"""Bytes of a request to read and discard before it is refused even though it is incomplete."""

PROBES: Final = re.compile(rb"(?:GET|HEAD) (?:(?i:https?)://[^/ ]+)?/(?:livez|readyz|healthz|metrics)[ ?]")
"""Requests that are answered even at `max_connections`: a supervisor must not kill a gateway for being busy, and an
operator must be able to see why it is."""

ORIGIN: Final = re.compile(rb"\r\norigin:([^\r\n]*)", re.IGNORECASE)
"""The header of a request that is not parsed."""

log = get_logger()


class Served(Protocol):
    """A protocol that serves a socket, or refuses it."""

    def let_in(self, transport: asyncio.Transport) -> None:
        """Serve or refuse the socket."""

    def data_received(self, data: bytes) -> None:
        """Take bytes that it sent."""


class Waiting(NamedTuple):
    """A socket whose request is not complete.

    Attributes:
        transport: of the socket, or of TLS on it.
        since: monotonic seconds when it was accepted.
        tick: number of the tick then.
    """

    transport: asyncio.Transport
    since: float
    tick: int


class Handshakes:
    """The sockets of one gateway whose request is not complete.

    Args:
        settings: how many sockets may be in their handshake, and how long.
        tls: the certificates, if there are any.
        limits: counts connections, in all and per address.
        proxies: trusted to say where a request came from.
        hub: its clock, and its tally, which counts refusals.
        siblings: the other workers of the gateway, if there are any.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what a gateway has for its sockets
        self,
        settings: Settings,
        tls: ServerTls | None,
        limits: Limits,
        proxies: Proxies,
        hub: Hub,
        siblings: Siblings | None = None,
    ) -> None:
        self._settings = settings
        self._siblings = siblings
        self._tls = tls
        self._grace = GRACE if tls is None else TLS_GRACE
        self._limits = limits
        self._proxies = proxies
        self._now = hub.now
        self._tally = hub.tally
        self._waiting: dict[Served, Waiting] = {}  # the longest waiting first
        self._tick = 0
        self._ticking: asyncio.TimerHandle | None = None
        self._dropped = 0  # since the last sweep
        self._is_over = False
        self._origins = parse_origins(settings.allowed_origins)

    def __len__(self) -> int:
        """Sockets whose request is not complete."""
        return len(self._waiting)

    def __iter__(self) -> Iterator[Served]:
        """Iterate over the protocols of these sockets, which serve or refuse them."""
        return iter(tuple(self._waiting))

    def receive(self, served: Served, transport: asyncio.Transport) -> None:
        """Let in a socket that was accepted, or refuse it.

        Args:
            served: the protocol that serves it; it counts towards the limits until `leave`.
            transport: its transport.
        """
        now = self._now()
        host = remote_of(transport).host
        refusal = self._limits.come(served)
        if refusal is None and host and not self._proxies.trusts(host):
            refusal = self._limits.identify(served, limited_address(host), now)
        guest = served
        if refusal is not None:
            self._limits.leave(served)
            guest = RefusedSocket(self, refusal, served)
        self._wait(guest, transport, now)
        if self._tls is not None:
            TlsHandshake(transport, self._tls, self._settings, partial(self._let_in, guest), partial(self.leave, guest))
        elif refusal is None and self._siblings is None:
            served.let_in(transport)
        else:
            self._let_in(guest, transport)

    def adopt(self, served: Served, transport: asyncio.Transport, handed: Handed) -> None:
        """Let in a socket that another worker has handed over, or refuse it.

        Its rate was judged where it was accepted; it is counted here, where it stays.

        Args:
            served: as for `receive`.
            transport: its transport.
            handed: what the other worker knows of it.
        """
        host, refusal = handed.remote.host, None
        if not handed.is_question:
            refusal = self._limits.come(served)
            if refusal is None and host and not self._proxies.trusts(host):
                refusal = self._limits.settle(served, limited_address(host))
        if refusal is not None:
            self._limits.leave(served)
            self._refuse(served, handed.since, transport, handed.head, refusal)
            return
        self._wait(served, transport, handed.since)
        self._switch(served, transport, handed.head)

    def _refuse(
        self, served: Served, since: float, transport: asyncio.Transport, head: bytes, refusal: Refusal
    ) -> None:
        guest = RefusedSocket(self, refusal, served)
        self._wait(guest, transport, since)
        self._switch(guest, transport, head)

    def admit_probe(self, refused: RefusedSocket, served: Served, request: bytes) -> None:
        """Let in a socket that was refused, as its request is a probe, which is answered all the same."""
        self.leave(refused)
        self._wait(served, refused.transport, self._now())
        self._let_in(served, refused.transport, request)

    def _let_in(self, guest: Served, transport: asyncio.Transport, data: bytes = b"") -> None:
        """Switch a socket to the protocol that serves, refuses or routes it, and pass on bytes that came before."""
        waiting = self._waiting[guest]
        self._waiting[guest] = Waiting(transport, waiting.since, waiting.tick)
        if self._siblings is not None and not isinstance(guest, RefusedSocket):
            leave = partial(self.leave, guest)
            refuse = partial(self._refuse, guest, waiting.since)
            guest = RoutedSocket(self._siblings, waiting.since, partial(self._switch, guest), leave, refuse)
        self._switch(guest, transport, data)

    @staticmethod
    def _switch(guest: Served, transport: asyncio.Transport, data: bytes) -> None:
        transport.set_protocol(cast("asyncio.BaseProtocol", guest))
        guest.let_in(transport)
        if data:
            guest.data_received(data)

    def _wait(self, guest: Served, transport: asyncio.Transport, now: float) -> None:
        self._waiting[guest] = Waiting(transport, now, self._tick)
        if self._is_over:
            transport.abort()
        if self._ticking is None:
            self._tick_later()
        self._drop_oldest()

    def _drop_oldest(self) -> None:
        """Drop the oldest sockets beyond `max_handshakes` whose grace is over."""
        while len(self._waiting) > self._settings.max_handshakes:
            guest, oldest = next(iter(self._waiting.items()))
            if (self._tick - oldest.tick) * TICK < self._grace:
                break
            del self._waiting[guest]
            oldest.transport.abort()
            self._dropped += 1

    def _tick_later(self) -> None:
        self._ticking = asyncio.get_running_loop().call_later(TICK, self._count_tick) if self._waiting else None

    def _count_tick(self) -> None:
        self._tick += 1
        self._drop_oldest()
        self._tick_later()

    def asked(self, guest: Served) -> None:
        """Record that the request of a socket is complete."""
        self._waiting.pop(guest, None)

    def leave(self, guest: Served) -> None:
        """Release what a socket takes up, as it is gone or will not be served. Calling it twice changes nothing."""
        self._waiting.pop(guest, None)
        self._limits.leave(guest)

    def allow_reading(self, request: bytes, response: Response) -> None:
        """Let a page of an allowed origin read why it was refused."""
        named = [value.decode("latin-1").strip() for value in ORIGIN.findall(request)]
        for name, value in cors_headers(named, self._origins).items():
            response.headers[name] = value

    def answered(self, status: int) -> None:
        """Count a refused socket."""
        self._tally.refuse(status)

    def sweep(self, now: float) -> None:
        """Drop sockets whose request was not complete within `handshake_timeout`."""
        for guest, waiting in tuple(self._waiting.items()):
            if now - waiting.since < self._settings.handshake_timeout:
                break
            self._waiting.pop(guest, None)
            waiting.transport.abort()
        if self._dropped:
            log.warning("handshakes.dropped", dropped=self._dropped, max_handshakes=self._settings.max_handshakes)
            self._dropped = 0

    def abort(self) -> None:
        """Drop every socket whose request is not complete."""
        for waiting in tuple(self._waiting.values()):
            waiting.transport.abort()

    def close(self) -> None:
        """Drop every socket whose request is not complete, and each that the loop still hands over."""
        self._is_over = True
        self.abort()


class RefusedSocket(asyncio.Protocol):
    """A socket that is refused: no connection is set up for it, and what it sends is not parsed.

    The refusal waits for the request: closing a socket with unread bytes would destroy the response on its way.

    Args:
        handshakes: where it waits.
        refusal: the response.
        served: the protocol that serves the socket after all if it turns out to be a probe.
    """

    transport: asyncio.Transport

    def __init__(self, handshakes: Handshakes, refusal: Refusal, served: Served) -> None:
        self._handshakes = handshakes
        self._refusal = refusal
        self._served = served
        self._request = b""
        self._is_answered = False

    def let_in(self, transport: asyncio.Transport) -> None:
        """Begin to read its request."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Read a part of its request; its content matters only for probes."""
        if self._is_answered:
            return
        self._request += data
        if self._refusal.status is HTTPStatus.SERVICE_UNAVAILABLE and PROBES.match(self._request):
            self._handshakes.admit_probe(self, self._served, self._request)
        elif b"\r\n\r\n" in self._request[-len(data) - 3 :] or len(self._request) > MAX_REQUEST:
            self._is_answered = True
            response = respond_refusal(self._refusal)
            self._handshakes.allow_reading(self._request, response)
            if self._request.startswith(b"HEAD "):
                leave_out_body(response)
            self.transport.write(response.serialize())
            self.transport.close()
            self._handshakes.answered(self._refusal.status)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's signature
        """The socket is gone."""
        self._handshakes.leave(self)
