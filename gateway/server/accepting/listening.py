"""Where a gateway accepts connections: addresses it resolves and judges itself, or sockets it was given."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from websockets.asyncio.server import Server

from deltawire.gateway.config import ConfigError, Settings
from deltawire.gateway.server.accepting.exposure import check_exposure

SEND_BUFFER: Final = 64 * 1024
"""SO_SNDBUF asked for. Linux doubles it: 128 KiB, so that a lag shows in the cursor and not in the kernel."""

RECEIVE_BUFFER: Final = 64 * 1024
"""SO_RCVBUF asked for: what one producer can have processed in one loop turn, about a thousand events. Without it
libuv reads up to 8 MiB from one socket before any other is served, and consumers of the stream are overrun."""

BACKLOG: Final = 4096
"""Connections the kernel may hold before they are accepted: a reconnect storm comes all at once."""

ACCEPTED_AT_ONCE: Final = 16
"""Connections the loop of asyncio accepts in one turn. It takes this from the backlog, and without descriptors it tries
as often in a row, with an error each time: 4096 held everybody up for a second. uvloop accepts all there are."""

OpenServer = Callable[..., Awaitable[Server]]


async def listen(settings: Settings, given: Sequence[socket.socket], open_server: OpenServer) -> list[Server]:
    """Listen on the sockets given, otherwise on every address of the host.

    Args:
        settings: host and port; whether being open to a network is meant.
        given: sockets that somebody else has bound, such as systemd.
        open_server: `serve` of websockets, with everything that doesn't concern the socket; called once for the host,
            or once for each socket given.

    Raises:
        ConfigError: this would be open to a network without authentication.
        OSError: the host can't be resolved, or not be listened on.
        UnicodeError: the host is no host name.
    """
    addresses = await find_addresses(settings, given)
    if given:
        servers = [await open_server(sock=it, backlog=ACCEPTED_AT_ONCE) for it in given]
    else:
        servers = [await open_server(host=addresses, port=settings.port, backlog=ACCEPTED_AT_ONCE)]
    for server in servers:
        for listener in server.sockets:
            with socket.socket(fileno=os.dup(listener.fileno())) as it:
                it.listen(BACKLOG)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)  # accepted sockets inherit both
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    return servers


async def find_addresses(settings: Settings, given: Sequence[socket.socket] = ()) -> list[str]:
    """The numeric addresses that would be listened on; arguments and errors as those of `listen`."""
    addresses = [_address_of(it) for it in given] or await _resolve(settings.host, settings.port)
    check_exposure(addresses, is_authenticated=is_authenticated(settings), is_accepted=settings.insecure_no_auth)
    return addresses


def is_authenticated(settings: Settings) -> bool:
    """Whether every peer must prove who it is, by a token or be it by its certificate alone."""
    return settings.has_authentication or bool(settings.tls_client_ca)


async def _resolve(host: str, port: int) -> list[str]:
    """The numeric addresses of a host, which are then the ones listened on: nothing changes in between."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(_numeric(address) for *_, address in found))


def _address_of(given: socket.socket) -> str:
    if given.family not in (socket.AF_INET, socket.AF_INET6) or given.type != socket.SOCK_STREAM:
        raise ConfigError("the socket that was passed is not one of TCP: the gateway serves no other")
    return _numeric(given.getsockname())


def _numeric(address: Sequence[Any]) -> str:
    """The host of a socket's address, with the zone without which a link-local one means nothing (RFC 4007 §11)."""
    host, scope = str(address[0]), int(address[3]) if len(address) > 3 else 0
    return f"{host}%{socket.if_indextoname(scope)}" if scope and "%" not in host else host
