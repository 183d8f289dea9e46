"""The server that requests are passed on to, as they are: nothing is added, followed, stored or decoded."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from ssl import SSLContext
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from deltawire.gateway.http_client import make_tls
from deltawire.gateway.logs import get_logger
from deltawire.gateway.proxy.fields import Fields

if TYPE_CHECKING:
    from deltawire.gateway.proxy.connection import Connection

CONNECT_TIMEOUT: Final = 10.0
"""Seconds to reach the upstream, and for it to take a piece of the body."""

KEPT_FOR: Final = 30.0
"""Seconds that an unused connection to it is kept; servers commonly close theirs after 60 or more."""

MAX_KEPT: Final = 100
"""Unused connections that are kept."""

SECOND_TRY: Final = 0.25
"""Seconds after which the next address of the upstream is tried as well (RFC 8305 §5)."""

_SAFE_TO_RETRY: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods whose request a proxy may send again; no others (RFC 9110 §9.2.2)."""

_TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
"""Characters of methods and of names (RFC 9110 §5.6.2)."""

_TARGET: Final = re.compile(rb"[^\x00-\x20\x7f]+")
_NO_VALUE: Final = re.compile(rb"[\x00\r\n]")


log = get_logger()


class UpstreamFailed(Exception):  # noqa: N818 - the name says what happened
    """A request has had no whole answer; the message says why, and quotes nothing that was sent."""


class Passed(NamedTuple):
    """The beginning of an answer to a request that was passed on, and the way to the rest.

    Attributes:
        status: the HTTP status.
        fields: of the head, as they came.
        read: returns the next piece of the body, undecoded, at most 64 KiB; empty at its end. Raises `UpstreamFailed`
            where it breaks off.
    """

    status: int
    fields: Fields
    read: Callable[[], Awaitable[bytes]]


class Upstream:
    """The server, and connections to it.

    Args:
        base: its URL; what is asked for is appended to the path.

    Raises:
        ValueError: the URL is none, or has a query.
        ImportError: the extra `deltawire[proxy]` is not installed.
    """

    def __init__(self, base: str) -> None:
        from deltawire.gateway.proxy.connection import PIECE, Connection  # noqa: PLC0415 - needs an optional extra

        try:
            url = urlsplit(base)
            port = url.port
        except ValueError as error:
            raise ValueError(f"{base!r} is not a URL: {error}") from None
        if url.scheme not in ("http", "https") or not url.hostname or url.query or "@" in url.netloc:
            raise ValueError("expected http://HOST[:PORT][/PATH] or https://…, without a query or a password")
        self._host = url.hostname
        if (variable := _find_proxy(url.scheme, self._host)) is not None:
            log.warning("upstream.proxy_ignored", variable=variable, host=self._host)
        self._port = port or (443 if url.scheme == "https" else 80)
        self._host_field = url.netloc.encode("idna" if not url.netloc.isascii() else "ascii")
        self._path = url.path.rstrip("/").encode()
        self._has_tls = url.scheme == "https"
        self._tls: SSLContext | None = None
        buffer = memoryview(bytearray(PIECE))
        self._make_connection = lambda: Connection(buffer)
        self._kept: dict[Connection, asyncio.TimerHandle] = {}  # the last one is the one used last

    async def aclose(self) -> None:
        """Close the connections that are kept."""
        while (connection := self._take_kept()) is not None:
            connection.abort()

    @asynccontextmanager
    async def pass_on(
        self, method: str, target: bytes, fields: Fields, body: AsyncIterator[bytes] | None
    ) -> AsyncIterator[Passed]:
        """Make a request; leaving the context ends it, even in the middle of the answer.

        Args:
            method: of HTTP.
            target: path and query; or `*`, the server itself.
            fields: of the head, without `Host`; a `Content-Length`, or else chunks, say how long the body is.
            body: pieces of it; None if there is none.

        Raises:
            UpstreamFailed: there is no answer, or the request can't be sent.
        """
        length = next((int(value) for name, value in fields if name.lower() == b"content-length"), None)
        if body is not None and length is None:
            fields = [*fields, (b"Transfer-Encoding", b"chunked")]
        head = self._make_head(method.encode(), target, fields)
        pieces = None if body is None else _frame(body, length)
        if pieces is not None:
            head += await anext(pieces)  # at once, so that the upstream reads once
        kept = self._take_kept()
        connection = kept or await self._connect()
        may_retry = kept is not None and body is None and method in _SAFE_TO_RETRY
        is_sent = False
        try:
            connection.begin(head, is_bodiless=method == "HEAD")
            if may_retry and await connection.is_stale():
                connection = await self._connect()
                connection.begin(head, is_bodiless=method == "HEAD")
            if pieces is not None:
                async for piece in pieces:
                    await _send(connection, piece)
            is_sent = True
            yield Passed(*await connection.read_head(), connection.read)
        finally:
            if is_sent and connection.is_free:
                self._keep(connection)
            else:
                connection.abort()

    def _make_head(self, method: bytes, target: bytes, fields: Fields) -> bytes:
        target = target if target == b"*" else self._path + target
        names, values = [name for name, _ in fields], [value for _, value in fields]
        if (
            not all((method, *names))
            or b"".join((method, *names)).translate(None, _TOKEN)
            or not _TARGET.fullmatch(target)
            or _NO_VALUE.search(b"".join(values))
        ):
            raise UpstreamFailed("a field of the request can't be sent")
        lines = [b"%b %b HTTP/1.1" % (method, target), b"Host: " + self._host_field]
        lines += [name + b": " + value for name, value in fields]
        return b"\r\n".join([*lines, b"", b""])

    async def _connect(self) -> Connection:
        from aiohappyeyeballs import start_connection  # noqa: PLC0415 - an optional extra

        loop = asyncio.get_running_loop()
        connection: Connection
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                if self._has_tls and self._tls is None:
                    self._tls = await asyncio.to_thread(make_tls)  # the certificates of authorities take long to read
                addresses = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
                make = partial(
                    loop.create_connection,
                    self._make_connection,
                    ssl=self._tls,
                    server_hostname=self._host if self._has_tls else None,
                )
                if len(addresses) == 1 and addresses[0][0] == socket.AF_INET:  # this way takes half as long
                    _, connection = await make(*addresses[0][4])
                else:
                    sock = await start_connection(addresses, happy_eyeballs_delay=SECOND_TRY, interleave=1)
                    _, connection = await make(sock=sock)
        except TimeoutError:
            raise UpstreamFailed(f"it can't be reached within {CONNECT_TIMEOUT:g} s") from None
        except OSError as error:
            raise UpstreamFailed(str(error)) from error
        return connection

    def _take_kept(self) -> Connection | None:
        while self._kept:
            connection, expiry = self._kept.popitem()
            expiry.cancel()
            if connection.is_free:
                return connection
        return None

    def _keep(self, connection: Connection) -> None:
        if len(self._kept) >= MAX_KEPT:
            connection.abort()
            return
        self._kept[connection] = asyncio.get_running_loop().call_later(KEPT_FOR, self._expire, connection)

    def _expire(self, connection: Connection) -> None:
        del self._kept[connection]
        connection.abort()


def _find_proxy(scheme: str, host: str) -> str | None:
    """The variable of the environment that names a proxy for a host; None if there is none."""
    if proxy_bypass(host):
        return None
    return next((f"{name.upper()}_PROXY" for name in (scheme, "all") if name in getproxies_environment()), None)


async def _frame(body: AsyncIterator[bytes], length: int | None) -> AsyncIterator[bytes]:
    """The body of a request as it is sent; at least one piece.

    Args:
        body: pieces of it.
        length: in bytes; None for chunks.

    Raises:
        UpstreamFailed: it has another length.
    """
    sent = 0
    async for piece in body:
        sent += len(piece)
        if length is not None and sent > length:
            break
        yield piece if length is not None else b"%x\r\n%b\r\n" % (len(piece), piece)
    if length is None:
        yield b"0\r\n\r\n"
    elif sent != length:
        raise UpstreamFailed("the request's body has another length than its Content-Length")
    elif not length:
        yield b""


async def _send(connection: Connection, piece: bytes) -> None:
    """Send a piece of a request.

    Raises:
        UpstreamFailed: the upstream does not read.
    """
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await connection.send(piece)
    except TimeoutError:
        raise UpstreamFailed(f"it has read nothing of the request for {CONNECT_TIMEOUT:g} s") from None
