"""Sockets from when they are accepted until their request is complete, and those that are refused at once.

    accepted ──► one too many? ──► [TLS] ──no──► request ──► admission
                                     │yes
                                     ▼
                                  its request is read past, answered, and the socket closed

A socket whose request is incomplete costs nearly as much as one that is served, and may come from anybody. There are
at most `max_handshakes` of them. For one more, the one that has been silent longest is dropped; the new one is not
refused, so that sockets which only send a byte now and then keep nobody out. A socket accepted less than `GRACE` ago is
never dropped for another: when thousands reconnect at one moment, none of them has had time to send its request. That
time is counted in ticks. A loop that is late makes fewer of them: thousands of handshakes keep it busy for seconds, in
which it has not read what they sent.
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
from deltawire.gateway.server.accepting.tls import ServerTls
from deltawire.gateway.server.accepting.unwrapping import Unwrapping
from deltawire.gateway.server.responses import Refusal, leave_out_body, respond_refusal

GRACE: Final = 1.0
"""Seconds a socket has for its request, however many come: several times what one needs over a bad line."""

TLS_GRACE: Final = 5.0
"""The same where there is TLS: whoever comes back with thousands of connections has a millisecond's work for each."""

TICK: Final = 0.05
"""Seconds between two ticks, as long as somebody waits; less than a turn of the loop that reads a thousand requests."""

MAX_REQUEST: Final = 16 * 1024
"""Bytes of a request that are read past before it is refused all the same."""

PROBES: Final = re.compile(rb"(?:GET|HEAD) (?:(?i:https?)://[^/ ]+)?/(?:livez|readyz|healthz|metrics)[ ?]")
"""Requests that are answered when there are `max_connections` too: a supervisor must not kill a gateway for being
busy, and whoever looks why must see."""

ORIGIN: Final = re.compile(rb"\r\norigin:([^\r\n]*)", re.IGNORECASE)
"""The header of a request that is not parsed."""

log = get_logger()


class Served(Protocol):
    """Serves a socket, or refuses it."""

    def let_in(self, transport: asyncio.Transport) -> None:
        """Serve it."""

    def data_received(self, data: bytes) -> None:
        """Take what it sent."""


class Waiting(NamedTuple):
    """A socket that has not asked for anything yet.

    Attributes:
        transport: its own, or that of TLS.
        since: monotonic seconds at which it came.
        tick: which it was then.
    """

    transport: asyncio.Transport
    since: float
    tick: int


class Handshakes:
    """The sockets of one gateway whose request is not complete.

    Args:
        settings: how many sockets may be in their handshake, and how long.
        tls: the certificates, where there are any.
        limits: who is one too many.
        proxies: whose word is taken for where a request came from.
        hub: its clock, and where refusals are counted.
    """

    def __init__(self, settings: Settings, tls: ServerTls | None, limits: Limits, proxies: Proxies, hub: Hub) -> None:
        self._settings = settings
        self._tls = tls
        self._grace = GRACE if tls is None else TLS_GRACE
        self._limits = limits
        self._proxies = proxies
        self._now = hub.now
        self._tally = hub.tally
        self._waiting: dict[Served, Waiting] = {}  # who has waited longest first
        self._tick = 0
        self._ticking: asyncio.TimerHandle | None = None
        self._dropped = 0  # since the last sweep
        self._origins = parse_origins(settings.allowed_origins)

    def __len__(self) -> int:
        """Sockets that have not asked for anything yet."""
        return len(self._waiting)

    def __iter__(self) -> Iterator[Served]:
        """Who serves or refuses these, once they ask."""
        return iter(tuple(self._waiting))

    def receive(self, served: Served, transport: asyncio.Transport) -> None:
        """Let in a socket that was accepted, or refuse it.

        Args:
            served: what serves it, and holds its places until `leave`.
            transport: its transport.
        """
        now = self._now()
        host = host_of(transport)
        refusal = self._limits.come(served)
        if refusal is None and host and not self._proxies.trusts(host):
            refusal = self._limits.identify(served, limited_address(host), now)
        guest = served
        if refusal is not None:
            self._limits.leave(served)
            guest = RefusedSocket(self, refusal, served)
        self._wait(guest, transport, now)
        if self._tls is not None:
            Unwrapping(transport, self._tls, self._settings, partial(self._let_in, guest), partial(self.leave, guest))
        elif refusal is None:
            served.let_in(transport)
        else:
            self._let_in(guest, transport)

    def admit_probe(self, refused: RefusedSocket, served: Served, request: bytes) -> None:
        """Let in a socket that was refused, as what it asks is answered all the same."""
        self.leave(refused)
        self._wait(served, refused.transport, self._now())
        self._let_in(served, refused.transport, request)

    def _let_in(self, guest: Served, transport: asyncio.Transport, data: bytes = b"") -> None:
        """Have a socket served, or refused, that another protocol was there for, and hand over what that heard."""
        waiting = self._waiting[guest]
        self._waiting[guest] = Waiting(transport, waiting.since, waiting.tick)
        transport.set_protocol(cast("asyncio.BaseProtocol", guest))
        guest.let_in(transport)
        if data:
            guest.data_received(data)

    def _wait(self, guest: Served, transport: asyncio.Transport, now: float) -> None:
        self._waiting[guest] = Waiting(transport, now, self._tick)
        if self._ticking is None:
            self._tick_later()
        self._drop_oldest()

    def _drop_oldest(self) -> None:
        """Drop those that are too many, as far as their grace is over."""
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
        """The request of a socket is there."""
        self._waiting.pop(guest, None)

    def leave(self, guest: Served) -> None:
        """A socket is gone, or will not be served: it takes up nothing any more. Twice changes nothing."""
        self._waiting.pop(guest, None)
        self._limits.leave(guest)

    def allow_reading(self, request: bytes, response: Response) -> None:
        """Let a page of an allowed origin read why it was refused."""
        named = [value.decode("latin-1").strip() for value in ORIGIN.findall(request)]
        for name, value in cors_headers(named, self._origins).items():
            response.headers[name] = value

    def answered(self, status: int) -> None:
        """A socket was refused."""
        self._tally.refuse(status)

    def sweep(self, now: float) -> None:
        """Drop who has not asked for anything within `handshake_timeout`."""
        for guest, waiting in tuple(self._waiting.items()):
            if now - waiting.since < self._settings.handshake_timeout:
                break
            self._waiting.pop(guest, None)
            waiting.transport.abort()
        if self._dropped:
            log.warning("handshakes.dropped", dropped=self._dropped, max_handshakes=self._settings.max_handshakes)
            self._dropped = 0

    def abort(self) -> None:
        """Drop every socket that waits."""
        for waiting in tuple(self._waiting.values()):
            waiting.transport.abort()


class RefusedSocket(asyncio.Protocol):
    """A socket that is refused: nothing is made for it, and nothing of what it sends is parsed.

    The refusal waits for the request, since what is unread when a socket is closed destroys the answer on its way.

    Args:
        handshakes: where it waits.
        refusal: why.
        served: would serve it, and does where it asks for what is answered all the same.
    """

    transport: asyncio.Transport

    def __init__(self, handshakes: Handshakes, refusal: Refusal, served: Served) -> None:
        self._handshakes = handshakes
        self._refusal = refusal
        self._served = served
        self._request = b""
        self._is_answered = False

    def let_in(self, transport: asyncio.Transport) -> None:
        """Hear what it asks."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """A part of its request; what is asked matters for probes alone."""
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


def host_of(transport: asyncio.BaseTransport) -> str:
    """The numeric address at the other end; empty where there is none, because it is gone or is no socket of TCP."""
    try:
        name = transport.get_extra_info("peername")
    except ValueError:  # uvloop's, of a socket that was lost in this turn
        return ""
    return str(name[0]) if isinstance(name, tuple) and name else ""
