"""HTTP requests to others: the one module that knows which library makes them.

An answer is read in pieces by the caller, who knows how long it may be and how long it may take.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from ssl import SSLContext
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar

import httpx

Pieces = TypeVar("Pieces")
Fields: TypeAlias = Sequence[tuple[bytes, bytes]]

CONNECT_TIMEOUT: Final = 10.0
"""Seconds to reach a server that requests are passed on to, and to send it a piece of the body."""

KEPT_FOR: Final = 30.0
"""Seconds that an unused connection to it is kept; servers commonly close theirs after 60 or more."""

_HUNG_UP: Final = "it closed the connection too early, or sent what is not HTTP"


class NoAnswer(Exception):  # noqa: N818 - the name says what happened
    """A request has had no whole answer.

    Args:
        error: what the library makes of it.

    Attributes:
        system_error: what the system or TLS said, where that is why.
        hung_up: whether what answers there closed the connection, or sent what is not HTTP.
    """

    def __init__(self, error: Exception) -> None:
        self.system_error = _find_system_error(error)
        self.hung_up = isinstance(error, httpx.RemoteProtocolError)
        # The library's words quote what came, which may be anybody's text.
        super().__init__(_HUNG_UP if self.hung_up else str(error) or type(error).__name__)


class Answer(NamedTuple, Generic[Pieces]):
    """The beginning of an answer, and the way to the rest.

    Attributes:
        status: the HTTP status.
        reason: the words beside it.
        headers: by name, in whatever case.
        pieces: of the body, as they come, undecoded; raise `NoAnswer` where it breaks off.
    """

    status: int
    reason: str
    headers: Mapping[str, str]
    pieces: Pieces

    @property
    def is_success(self) -> bool:
        """Whether it is what was asked for."""
        return 200 <= self.status < 300


@contextmanager
def open_answer(  # noqa: PLR0913 - what a request is made of
    method: str,
    url: str,
    *,
    params: Mapping[str, str] | None = None,
    headers: Mapping[str, str],
    timeout: float,
    tls: SSLContext,
) -> Iterator[Answer[Iterator[bytes]]]:
    """Make a request; leaving the context closes the connection.

    Args:
        method: of HTTP.
        url: whose proxy, where there is one, is named in the environment.
        params: of the query string.
        headers: beside those that every request has.
        timeout: seconds for each step: connecting, writing, each piece of the answer.
        tls: whom to trust.

    Raises:
        NoAnswer: there is none.
        UnicodeError: a header has a character that no header has.
    """
    try:
        with httpx.stream(method, url, params=params, headers=headers, timeout=timeout, verify=tls) as response:
            yield Answer(response.status_code, response.reason_phrase, response.headers, response.iter_raw())
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NoAnswer(error) from error


@asynccontextmanager
async def fetch(
    url: str, *, headers: Mapping[str, str], timeout: float, is_direct: bool
) -> AsyncIterator[Answer[AsyncIterator[bytes]]]:
    """Make a GET request without holding the event loop up; it trusts the authorities that the library knows.

    Args:
        url: what to get.
        headers: beside those that every request has.
        timeout: seconds for each step.
        is_direct: whether a proxy named in the environment is none of its business.

    Raises:
        NoAnswer: there is none.
    """
    try:
        # The certificates of authorities take long to read.
        client = await asyncio.to_thread(httpx.AsyncClient, trust_env=not is_direct, timeout=timeout)
        async with client, client.stream("GET", url, headers=headers) as response:
            yield Answer(response.status_code, response.reason_phrase, response.headers, response.aiter_raw())
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NoAnswer(error) from error


class Passed(NamedTuple):
    """The beginning of an answer to a request that was passed on, and the way to the rest.

    Attributes:
        status: the HTTP status.
        fields: of the head, as they came.
        pieces: of the body, as they come, undecoded; raise `NoAnswer` where it breaks off.
    """

    status: int
    fields: Fields
    pieces: AsyncIterator[bytes]


class Origin:
    """The server that requests are passed on to, as they are: nothing is added, followed, stored or decoded.

    Args:
        base: its URL; what is asked for is appended to the path.

    Raises:
        ValueError: the URL is none, or has a query.
    """

    def __init__(self, base: str) -> None:
        try:
            self._url = httpx.URL(base)
        except httpx.InvalidURL as error:
            raise ValueError(f"{base!r} is not a URL: {error}") from None
        if self._url.scheme not in ("http", "https") or not self._url.host or self._url.query or self._url.userinfo:
            raise ValueError("expected http://HOST[:PORT][/PATH] or https://…, without a query or a password")
        self._path = self._url.raw_path.rstrip(b"/")
        self._transport: httpx.AsyncHTTPTransport | None = None

    async def _open(self) -> httpx.AsyncHTTPTransport:
        if self._transport is None:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=KEPT_FOR)
            # The certificates of authorities take long to read.
            has_tls = self._url.scheme == "https"
            made = await asyncio.to_thread(httpx.AsyncHTTPTransport, verify=has_tls, limits=limits)
            if self._transport is None:  # another request may have been quicker
                self._transport = made
        return self._transport

    async def aclose(self) -> None:
        """Close the connections."""
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.aclose()

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
            NoAnswer: there is none, or the request can't be sent.
        """
        request = httpx.Request(
            method,
            self._url,
            headers=[(b"Host", self._url.netloc), *fields],
            content=body,
            extensions={
                "target": target if target == b"*" else self._path + target,
                "timeout": {"connect": CONNECT_TIMEOUT, "write": CONNECT_TIMEOUT, "pool": None, "read": None},
            },
        )
        try:
            transport = await self._open()
            response = await transport.handle_async_request(request)
            try:
                yield Passed(response.status_code, response.headers.raw, response.aiter_raw())
            finally:
                await response.aclose()
        except httpx.LocalProtocolError:  # whose words quote the field, which may be a key
            raise NoAnswer(ValueError("a field of the request can't be sent")) from None
        except httpx.HTTPError as error:
            raise NoAnswer(error) from error


def _find_system_error(error: BaseException | None) -> OSError | None:
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__  # httpcore takes its cause away
    return error
