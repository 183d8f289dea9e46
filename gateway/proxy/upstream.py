"""The server that requests are passed on to, as they are: nothing is added, followed, stored or decoded."""

from __future__ import annotations

import asyncio
import re
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from ssl import SSLContext
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from deltawire.gateway.http_client import make_tls
from deltawire.gateway.logs import get_logger
from deltawire.gateway.proxy.fields import Fields
from deltawire.protocol.events import Error

if TYPE_CHECKING:
    from deltawire.gateway.proxy.connection import Connection

CONNECT_TIMEOUT: Final = 10.0
"""Seconds to reach the upstream."""

KEPT_FOR: Final = 30.0
"""Seconds that an unused connection to it is kept; servers commonly close theirs after 60 or more."""

MAX_KEPT: Final = 100
"""Unused connections that are kept."""

SECOND_TRY: Final = 0.25
"""Seconds after which the next address of the upstream is tried as well (RFC 8305 §5)."""

LOST: Final = "the connection to the provider was lost before the end of the answer"
UNREACHED: Final = "the provider can't be reached"
UNSENT: Final = "the request could not be passed on to the provider"

_SAFE_TO_RETRY: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods whose request a proxy may send again; no others (RFC 9110 §9.2.2)."""

_TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
"""Characters of methods and of names (RFC 9110 §5.6.2)."""

_TARGET: Final = re.compile(rb"[^\x00-\x20\x7f]+")
_NO_VALUE: Final = re.compile(rb"[\x00\r\n]")


Read: TypeAlias = Callable[[], Awaitable[bytes]]
"""Returns the next piece of a body; empty at its end."""

Take: TypeAlias = Callable[[bytes], None]
"""Called with each piece of a body."""

End: TypeAlias = Callable[[Exception | None], None]
"""Called at the end of a body: with the reason why it breaks off, or None."""

log = get_logger()


class UpstreamFailed(Exception):  # noqa: N818 - the name says what happened
    """A request has had no whole answer.

    Args:
        why: for the log and the caller; it quotes nothing that was sent.
        told: what readers get to know, which names no address.

    Attributes:
        error: the event that tells them.
    """

    def __init__(self, why: str, told: str = LOST) -> None:
        super().__init__(why)
        self.error: Final = Error(told, "stream_failed")


class Passed(NamedTuple):
    """The beginning of an answer to a request that was passed on, and the way to the rest.

    Attributes:
        status: the HTTP status.
        fields: of the head, in turn.
        read: of the body, undecoded, at most 64 KiB. Raises `UpstreamFailed` where it breaks off.
        follow: tell others of the body as well, when it comes and not when it is read; so many bytes may wait for that.
        heard: when something last came, in seconds of the event loop; None if no more is to come now.
        fail: give the rest up; `read` raises this once it has given what came.
    """

    status: int
    fields: Fields
    read: Read
    follow: Callable[[Take, End, int], None]
    heard: Callable[[], float | None]
    fail: Callable[[Exception], None]


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
        self._addresses = []  # where the host is an address: it needs no look-up
        with suppress(OSError):
            flags = socket.AI_NUMERICHOST
            self._addresses = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM, flags=flags)
        self._host_field = url.netloc.encode("idna" if not url.netloc.isascii() else "ascii")
        self._path = url.path.rstrip("/").encode()
        self._has_tls = url.scheme == "https"
        self._tls: SSLContext | None = None
        buffer = memoryview(bytearray(PIECE))
        self._make_connection = lambda: Connection(buffer)
        self._kept: dict[Connection, asyncio.TimerHandle] = {}  # the last one is the one used last
        self._opening: deque[asyncio.Task[Connection]] = deque()  # for requests that are about to be passed on

    async def aclose(self) -> None:
        """Close the connections that are kept."""
        if opening := [*self._opening]:
            for task in opening:
                task.cancel()
            await asyncio.wait(opening)
        while (connection := self.take_kept()) is not None:
            connection.abort()

    def pass_on(self, method: str, target: bytes, fields: Fields, read_body: Read | None) -> _Passing:
        """Make a request by entering a context; leaving that ends it, even in the middle of the answer.

        Args:
            method: of HTTP.
            target: path and query; or `*`, the server itself.
            fields: of the head, without `Host`; a `Content-Length`, or else chunks, say how long the body is.
            read_body: of the request; None if there is no body.

        Raises:
            UpstreamFailed: there is no answer, or the request can't be sent.
        """
        return _Passing(self, method, target, fields, read_body)

    def make_head(self, method: bytes, target: bytes, fields: Fields) -> bytes:
        """The head of a request as it is sent.

        Raises:
            UpstreamFailed: it would be another one for whoever reads it.
        """
        target = target if target == b"*" else self._path + target
        names, values = zip(*fields, strict=True) if fields else ((), ())
        if (
            not all((method, *names))
            or b"".join((method, *names)).translate(None, _TOKEN)
            or not _TARGET.fullmatch(target)
            or _NO_VALUE.search(b"".join(values))
        ):
            raise UpstreamFailed("a field of the request can't be sent", UNSENT)
        first = b"%b %b HTTP/1.1\r\nHost: %b" % (method, target, self._host_field)
        return b"\r\n".join((first, *map(b"%b: %b".__mod__, fields), b"", b""))

    @property
    def needs_connection(self) -> bool:
        """Whether no connection is kept, so that the next request takes a new one."""
        return not self._kept and len(self._opening) < MAX_KEPT

    def connect_soon(self) -> None:
        """Begin to connect for a request that is about to be passed on."""
        opening = asyncio.create_task(self._connect(), name="connection")
        self._opening.append(opening)
        opening.add_done_callback(self._keep_opened)

    def _keep_opened(self, opening: asyncio.Task[Connection]) -> None:
        """Keep a connection that no request has waited for, as it was refused or its body is yet to come."""
        if opening in self._opening:
            self._opening.remove(opening)
            if not opening.cancelled() and opening.exception() is None:
                self.keep(opening.result())

    async def connect(self) -> Connection:
        """A new connection: one that is being opened already, if there is one.

        Raises:
            UpstreamFailed: there is none.
        """
        if not self._opening:
            return await self._connect()
        opening = self._opening.pop()  # the newest has the most time left
        try:
            return await opening
        except asyncio.CancelledError:
            if opening.done() and not opening.cancelled() and opening.exception() is None:
                self.keep(opening.result())
            raise

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        connection: Connection
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                if self._has_tls and self._tls is None:
                    self._tls = await asyncio.to_thread(make_tls)  # the certificates of authorities take long to read
                addresses = self._addresses or await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
                make = partial(
                    loop.create_connection,
                    self._make_connection,
                    ssl=self._tls,
                    server_hostname=self._host if self._has_tls else None,
                )
                if len(addresses) == 1 and addresses[0][0] == socket.AF_INET:  # this way takes half as long
                    _, connection = await make(*addresses[0][4])
                else:
                    from aiohappyeyeballs import start_connection  # noqa: PLC0415 - an optional extra

                    sock = await start_connection(addresses, happy_eyeballs_delay=SECOND_TRY, interleave=1)
                    _, connection = await make(sock=sock)
        except TimeoutError:
            raise UpstreamFailed(f"it can't be reached within {CONNECT_TIMEOUT:g} s", UNREACHED) from None
        except OSError as error:
            raise UpstreamFailed(str(error), UNREACHED) from error
        return connection

    def take_kept(self) -> Connection | None:
        """A connection that is open, and free."""
        while self._kept:
            connection, expiry = self._kept.popitem()
            expiry.cancel()
            if connection.is_free:
                return connection
        return None

    def keep(self, connection: Connection) -> None:
        """Keep a connection for another request."""
        if len(self._kept) >= MAX_KEPT:
            connection.abort()
            return
        self._kept[connection] = asyncio.get_running_loop().call_later(KEPT_FOR, self._expire, connection)

    def _expire(self, connection: Connection) -> None:
        del self._kept[connection]
        connection.abort()


def _find_proxy(scheme: str, host: str) -> str | None:
    """The variable of the environment that names a proxy for a host; None if there is none."""
    named = getproxies_environment()
    variable = next((f"{name.upper()}_PROXY" for name in (scheme, "all") if name in named), None)
    if variable is None or proxy_bypass(host):  # that asks macOS itself where the environment names none
        return None
    return variable


class _Passing:
    """A request and its answer: the context of `Upstream.pass_on`."""

    def __init__(self, upstream: Upstream, method: str, target: bytes, fields: Fields, read_body: Read | None) -> None:
        self._upstream = upstream
        self._method = method
        self._target = target
        self._fields = fields
        self._read_body = read_body
        self._left: int | None = None  # bytes of the body that have not come; None for chunks
        self._connection: Connection | None = None
        self._uploading: asyncio.Task[None] | None = None
        self._is_sent = False  # all of the request

    async def __aenter__(self) -> Passed:
        try:
            return await self._ask()
        except BaseException:
            self._release()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._release()

    def _release(self) -> None:
        if self._uploading is not None:
            self._uploading.cancel()
        if self._connection is None:
            return
        if self._is_sent and self._connection.is_free:
            self._upstream.keep(self._connection)
        else:
            self._connection.abort()

    async def _ask(self) -> Passed:
        fields, upstream, read_body, piece = self._fields, self._upstream, self._read_body, b""
        if read_body is not None:
            length = dict(fields).get(b"content-length")
            self._left = None if length is None else int(length)
            if length is None:
                fields = [*fields, (b"Transfer-Encoding", b"chunked")]
        head = upstream.make_head(self._method.encode(), self._target, fields)
        if read_body is not None:
            piece = await read_body()
            head += self._frame(piece)  # at once, so that the upstream reads once
        kept = upstream.take_kept()
        self._connection = connection = kept or await upstream.connect()
        may_retry = kept is not None and read_body is None and self._method in _SAFE_TO_RETRY
        is_bodiless = self._method == "HEAD"
        connection.begin(head, is_bodiless=is_bodiless)
        if may_retry and await connection.is_stale():
            self._connection = connection = await upstream.connect()
            connection.begin(head, is_bodiless=is_bodiless)
        self._is_sent = not piece
        if read_body is not None and piece:
            if self._left == 0:
                self._frame(await read_body())  # nothing: its end
                self._is_sent = True
            else:  # while the answer is read, which may come first (RFC 9112 §9.5)
                self._uploading = asyncio.create_task(self._upload(read_body, connection), name="upload")
        status, answered = await connection.read_head()
        return Passed(status, answered, connection.read, connection.follow, connection.heard, connection.fail)

    async def _upload(self, read_body: Read, connection: Connection) -> None:
        """Send the rest of the body, or let whoever reads the answer have the reason why not."""
        try:
            piece, is_sent = b"first", True
            while piece:
                piece = await read_body()
                if framed := self._frame(piece):
                    is_sent = await connection.send(framed)
            self._is_sent = is_sent
        except Exception as error:  # noqa: BLE001 - it is raised there
            connection.fail(error)

    def _frame(self, piece: bytes) -> bytes:
        """A piece of the body, empty at its end, as it is sent.

        Raises:
            UpstreamFailed: the body has another length than the head says.
        """
        if self._left is None:
            return b"%x\r\n%b\r\n" % (len(piece), piece)
        self._left -= len(piece)
        if self._left < 0 or (self._left and not piece):
            raise UpstreamFailed("the request's body has another length than its Content-Length", UNSENT)
        return piece
