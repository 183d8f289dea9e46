"""HTTP responses: JSON, problems (RFC 9457), bodies sent in pieces, and when to ask again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import msgspec
from websockets.datastructures import Headers
from websockets.exceptions import HeaderLineTooLong, RequestLineTooLong, TooManyHeaders
from websockets.http11 import Response

JSON_TYPE: Final = "application/json"
PROBLEM_TYPE: Final = "application/problem+json"

PIECE: Final = 16 * 1024
"""Bytes of a body that are made and sent at a time, about: of an answer that nobody reads, a few of them are held."""

RETRY_AFTER: Final = (1, 5)
"""Seconds after which to ask again, the least and the most, told to who comes while the gateway goes away."""

_PARSE_STATUS: Final[dict[type[Exception], HTTPStatus]] = {
    RequestLineTooLong: HTTPStatus.REQUEST_URI_TOO_LONG,
    HeaderLineTooLong: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    TooManyHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
}


class Refusal(NamedTuple):
    """Why a connection is one too many.

    Attributes:
        status: what it is answered.
        detail: what is full, in words that name the setting.
        retry_after: whole seconds after which to ask again; 0 where nothing says when there will be a place.
    """

    status: HTTPStatus
    detail: str
    retry_after: int = 0


def respond(status: HTTPStatus, body: bytes, content_type: str, **headers: str) -> Response:
    """A whole answer; the connection ends with it."""
    fields = Headers({"Content-Type": content_type, "Content-Length": str(len(body)), "Connection": "close"} | headers)
    return Response(status.value, status.phrase, fields, body)


def respond_nothing(**headers: str) -> Response:
    """A response without content (RFC 9110 §15.3.5); the connection ends with it."""
    status = HTTPStatus.NO_CONTENT
    return Response(status.value, status.phrase, Headers({"Connection": "close"} | headers))


class LongResponse(Response):
    """A whole answer whose body is made while it is sent.

    Args:
        content_type: of the body.
        pieces: the body, none of them empty.
    """

    def __init__(self, content_type: str, pieces: Iterator[bytes]) -> None:
        fields = Headers({"Content-Type": content_type, "Connection": "close"})
        super().__init__(HTTPStatus.OK.value, HTTPStatus.OK.phrase, fields, b"")
        self.pieces = pieces


def pieces_of(response: Response, protocol: str) -> tuple[Iterator[bytes], bool]:
    """The body of an answer, to be sent a piece at a time, and whether each is to be sent as a chunk.

    Args:
        response: the answer, whose headers are made to say how its body ends.
        protocol: the version of HTTP it was asked for in; what is older than chunks ends with the connection.
    """
    if not isinstance(response, LongResponse):
        body = bytes(response.body)
        return (body[at : at + PIECE] for at in range(0, len(body), PIECE)), False
    is_chunked = protocol != "HTTP/1.0"
    if is_chunked:
        response.headers["Transfer-Encoding"] = "chunked"
    return response.pieces, is_chunked


def leave_out_body(response: Response) -> Response:
    """The answer to HEAD: that to GET, its `Content-Length` too, but for the body (RFC 9110 §9.3.2)."""
    if isinstance(response, LongResponse):  # whose length nobody knows
        return Response(response.status_code, response.reason_phrase, response.headers)
    response.body = b""
    return response


def respond_json(value: Any, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """A value as JSON, with a newline so that curl's prompt stands on its own line."""
    return respond(status, msgspec.json.encode(value) + b"\n", JSON_TYPE)


def respond_problem(status: HTTPStatus, detail: str, **headers: str) -> Response:
    """A refusal (RFC 9457)."""
    body = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
    return respond(status, msgspec.json.encode(body) + b"\n", PROBLEM_TYPE, **headers)


def respond_unreadable(failure: Exception) -> Response:
    """A refusal of a request that could not be parsed.

    Args:
        failure: what the library's parser made of it.
    """
    status = _PARSE_STATUS.get(type(failure), HTTPStatus.BAD_REQUEST)
    why = str(failure.__cause__ or failure).partition(": ")[0]  # what follows quotes the line, which may hold a token
    return respond_problem(status, f"the request can't be read: {why}")


def respond_later(status: HTTPStatus, detail: str, seconds: int = 0) -> Response:
    """A refusal that says when to ask again.

    Args:
        status: 429 or 503.
        detail: why.
        seconds: from now; 0 draws them from `RETRY_AFTER`, so that those refused together don't come back together.
    """
    later = seconds or random.randint(*RETRY_AFTER)  # noqa: S311 - it spreads clients, and hides nothing
    return respond_problem(status, detail, **{"Retry-After": str(later)})


def respond_refusal(refusal: Refusal) -> Response:
    """The response to a connection that exceeds a limit."""
    return respond_later(refusal.status, f"{refusal.detail}: try again later", refusal.retry_after)
