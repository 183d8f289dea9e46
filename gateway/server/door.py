"""The door: sockets from when they are accepted until their request is there, and those that are refused at once.

    accepted ──► one too many? ──yes──► its request is read past, answered, and the socket closed
                     │no
                     ▼
                 handshake ──► request ──► admission

A socket that has not asked for anything yet costs nearly as much as one that has, and may come from anybody. Of those
there are at most `max_handshakes`: for one more, the one that has been silent longest is dropped, not the newcomer
refused, so that a crowd which only drips keeps nobody out. One that came within `GRACE` is never dropped for another:
when thousands reconnect in one moment, none of them has had time to ask.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, Protocol, cast

from websockets.http11 import Response

from gateway.config import Settings
from gateway.server.draining import retry_after
from gateway.server.forwarding import Proxies, limited_address
from gateway.server.http import leave_out_body, respond_problem
from gateway.server.limits import Limits, Refusal
from gateway.telemetry import get_logger

GRACE: Final = 1.0
"""Seconds a socket has for its request, however many come: several times what one needs over a bad line."""

MAX_REQUEST: Final = 16 * 1024
"""Bytes of a request that are read past before it is refused all the same."""

PROBES: Final = re.compile(rb"(?:GET|HEAD) (?:(?i:https?)://[^/ ]+)?/(?:livez|readyz|healthz|metrics)[ ?]")
"""Requests that are answered when there are `max_connections` too: a supervisor must not kill a gateway for being
busy, and whoever looks why must see."""

log = get_logger()


class Waiting(Protocol):
    """Serves a socket that has not asked for anything yet."""

    @property
    def transport(self) -> asyncio.Transport:
        """The socket's transport."""


class Served(Waiting, Protocol):
    """Serves a socket that may be refused."""

    def let_in(self, transport: asyncio.Transport) -> None:
        """Serve it."""

    def data_received(self, data: bytes) -> None:
        """Take what it sent."""


class Door:
    """The door of one gateway.

    Args:
        settings: how many sockets may be in their handshake, and how long.
        limits: who is one too many.
        proxies: whose word is taken for where a request came from.
        now: gives monotonic seconds.
        refused: told the status of each refusal.
    """

    def __init__(
        self,
        settings: Settings,
        limits: Limits,
        proxies: Proxies,
        now: Callable[[], float],
        refused: Callable[[int], None],
    ) -> None:
        self._settings = settings
        self._limits = limits
        self._proxies = proxies
        self._now = now
        self._refused = refused
        self._waiting: dict[Waiting, float] = {}  # since when, longest first
        self._dropped = 0  # since the last sweep

    def __len__(self) -> int:
        """Sockets that have not asked for anything yet."""
        return len(self._waiting)

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
        if refusal is None:
            self._wait(served, now)
            served.let_in(transport)
        else:
            self._limits.leave(served)
            refused = RefusedSocket(self, refusal, served, transport)
            self._wait(refused, now)
            transport.set_protocol(refused)

    def admit_probe(self, refused: RefusedSocket, served: Served, request: bytes) -> None:
        """Let in a socket that was refused, as what it asks is answered all the same."""
        self.leave(refused)
        self._wait(served, self._now())
        refused.transport.set_protocol(cast("asyncio.BaseProtocol", served))
        served.let_in(refused.transport)
        served.data_received(request)

    def _wait(self, waiting: Waiting, now: float) -> None:
        self._waiting[waiting] = now
        if len(self._waiting) > self._settings.max_handshakes:
            self._drop_oldest(now)

    def _drop_oldest(self, now: float) -> None:
        oldest = next(iter(self._waiting))
        if now - self._waiting[oldest] >= GRACE:
            del self._waiting[oldest]
            oldest.transport.abort()
            self._dropped += 1

    def asked(self, waiting: Waiting) -> None:
        """The request of a socket is there."""
        self._waiting.pop(waiting, None)

    def leave(self, waiting: Waiting) -> None:
        """A socket is gone, or will not be served: it takes up nothing any more. Twice changes nothing."""
        self._waiting.pop(waiting, None)
        self._limits.leave(waiting)

    def answered(self, status: int) -> None:
        """A socket was refused."""
        self._refused(status)

    def sweep(self, now: float) -> None:
        """Drop who has not asked for anything within `handshake_timeout`."""
        for waiting, since in tuple(self._waiting.items()):
            if now - since < self._settings.handshake_timeout:
                break
            self._waiting.pop(waiting, None)
            waiting.transport.abort()
        if self._dropped:
            log.warning("handshakes.dropped", dropped=self._dropped, max_handshakes=self._settings.max_handshakes)
            self._dropped = 0

    def abort(self) -> None:
        """Drop every socket that waits."""
        for waiting in tuple(self._waiting):
            waiting.transport.abort()


class RefusedSocket(asyncio.Protocol):
    """A socket that is refused: nothing is made for it, and nothing of what it sends is parsed.

    The refusal waits for the request, since what is unread when a socket is closed destroys the answer on its way.

    Args:
        door: where it waits.
        refusal: why.
        served: would serve it, and does where it asks for what is answered all the same.
        transport: the socket's transport.
    """

    def __init__(self, door: Door, refusal: Refusal, served: Served, transport: asyncio.Transport) -> None:
        self.transport = transport
        self._door = door
        self._refusal = refusal
        self._served = served
        self._request = b""
        self._is_answered = False

    def data_received(self, data: bytes) -> None:
        """A part of its request; what is asked matters for probes alone."""
        if self._is_answered:
            return
        self._request += data
        if self._refusal.status is HTTPStatus.SERVICE_UNAVAILABLE and PROBES.match(self._request):
            self._door.admit_probe(self, self._served, self._request)
        elif b"\r\n\r\n" in self._request[-len(data) - 3 :] or len(self._request) > MAX_REQUEST:
            self._is_answered = True
            response = respond_refusal(self._refusal)
            if self._request.startswith(b"HEAD "):
                leave_out_body(response)
            self.transport.write(response.serialize())
            self.transport.close()
            self._door.answered(self._refusal.status)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's signature
        """The socket is gone."""
        self._door.leave(self)


def respond_refusal(refusal: Refusal) -> Response:
    """The answer to who is one too many."""
    later = refusal.retry_after or retry_after(random.random())  # noqa: S311 - spreads clients, hides nothing
    return respond_problem(refusal.status, f"{refusal.detail}: try again later", **{"Retry-After": str(later)})


def host_of(transport: asyncio.BaseTransport) -> str:
    """The numeric address at the other end; empty where there is none, because it is gone or is no socket of TCP."""
    name = transport.get_extra_info("peername")
    return str(name[0]) if isinstance(name, tuple) and name else ""
