"""Where a gateway accepts connections: addresses that it resolves itself, or sockets it was given.

Without authentication, it listens on loopback only (SPEC §11).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import ExitStack
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

from websockets.asyncio.server import Server

from deltawire.gateway.config import ConfigError, Settings

SEND_BUFFER: Final = 64 * 1024
"""Requested SO_SNDBUF. Linux doubles it: 128 KiB, so that a lag stays in the cursor and not in the kernel."""

RECEIVE_BUFFER: Final = 64 * 1024
"""Requested SO_RCVBUF. It bounds what one producer can have processed in one loop turn to about a thousand events.
Without it libuv reads up to 8 MiB from one socket before any other is served, and overruns the stream's consumers."""

BACKLOG: Final = 4096
"""Connections the kernel may queue before they are accepted: a reconnect storm comes all at once."""

ACCEPTED_AT_ONCE: Final = 16
"""Connections that the loop of asyncio accepts in one turn. It takes this number from the backlog it is given. Without
descriptors it tries this often in a row, with an error each time: 4096 tries held everybody up for a second. uvloop
accepts all that are queued."""

HANDING_OVER: Final = 2
"""Turns that the loop of asyncio takes from accepting a socket to handing it over."""

OpenServer = Callable[..., Awaitable[Server]]


async def listen(settings: Settings, given: Sequence[socket.socket], open_server: OpenServer) -> list[Server]:
    """Listen on the sockets given, otherwise on every address of the host.

    Args:
        settings: host and port; whether to be open to a network on purpose.
        given: sockets that are already bound, by systemd for example.
        open_server: `serve` of websockets, with every argument but the socket; called once for the host, or once for
            each socket given.

    Raises:
        ConfigError: this would be open to a network without authentication.
        OSError: the host can't be resolved, or it is not possible to listen on it.
        UnicodeError: the host is no valid host name.
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


async def stop_accepting(servers: Iterable[Server]) -> None:
    """Accept no more sockets, and have those that were accepted handed over, before `servers` are closed.

    asyncio drops a socket whose server is closed before it is handed over: nobody closes it then.
    """
    for server in servers:
        for listener in server.sockets:
            asyncio.get_running_loop().remove_reader(listener.fileno())  # uvloop, which has none there, drops nothing
    for _ in range(HANDING_OVER):
        await asyncio.sleep(0)


def bind(addresses: Sequence[str], port: int) -> list[socket.socket]:
    """Bind a socket to each address, for `listen` in this process or in others.

    Args:
        addresses: numeric, as `find_addresses` gives them.
        port: 0 picks a free one.

    Raises:
        OSError: an address can't be bound to.
    """
    bound: list[socket.socket] = []
    with ExitStack() as stack:
        for address in addresses:
            (family, kind, number, _, name), *_ = socket.getaddrinfo(
                address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
            it = stack.enter_context(socket.socket(family, kind, number))
            it.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                it.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            it.bind(name)
            bound.append(it)
        stack.pop_all()
    return bound


async def find_addresses(settings: Settings, given: Sequence[socket.socket] = ()) -> list[str]:
    """Return the numeric addresses that `listen` would use; arguments and errors as for `listen`."""
    addresses = [_address_of(it) for it in given] or await _resolve(settings.host, settings.port)
    check_exposure(addresses, is_authenticated=is_authenticated(settings), is_accepted=settings.insecure_no_auth)
    return addresses


def format_url(host: str, port: int, *, has_tls: bool) -> str:
    """Return where clients connect: `ws://HOST:PORT`, or `wss://HOST:PORT`."""
    scheme = "wss" if has_tls else "ws"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def is_authenticated(settings: Settings) -> bool:
    """Whether every peer must prove who it is, by a token or by a certificate alone."""
    return settings.has_authentication or bool(settings.tls_client_ca)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach a numeric address; a scope (`%eth0`) does not matter."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return ip.is_loopback


def check_exposure(addresses: Iterable[str], *, is_authenticated: bool, is_accepted: bool) -> None:
    """Refuse to be open to a network by accident.

    Args:
        addresses: where to listen, numeric: names are resolved before, as a name may stand for any address.
        is_authenticated: whether peers must prove who they are.
        is_accepted: whether the operator said explicitly that they need not.

    Raises:
        ConfigError: an address is off loopback, and neither holds.
    """
    if is_authenticated or is_accepted:
        return
    for address in addresses:
        if not is_loopback(address):
            raise ConfigError(
                f"{address} is off loopback and there is no authentication: whoever reaches it could read, write and "
                "close every stream; set up authentication, or say --insecure-no-auth if that is meant"
            )


async def _resolve(host: str, port: int) -> list[str]:
    """Resolve a host once: the gateway listens on these very addresses, so nothing changes after the check."""
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
