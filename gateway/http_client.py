"""HTTP requests to others: the one module that knows which library makes them.

An answer is read in pieces by the caller, who knows how long it may be and how long it may take.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from ssl import SSLContext
from typing import Final, Generic, NamedTuple, TypeVar

import httpx

Pieces = TypeVar("Pieces")

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


def make_tls() -> SSLContext:
    """A TLS context for HTTP/1.1 that trusts the authorities that the library knows; it takes long to make."""
    tls = httpx.create_ssl_context()
    tls.set_alpn_protocols(["http/1.1"])
    return tls


def _find_system_error(error: BaseException | None) -> OSError | None:
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__  # httpcore takes its cause away
    return error
