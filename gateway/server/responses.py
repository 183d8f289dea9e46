"""HTTP responses: JSON, problems (RFC 9457), bodies sent in pieces, and when to ask again."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from websockets.datastructures import Headers
from websockets.exceptions import HeaderLineTooLong, RequestLineTooLong, TooManyHeaders
from websockets.http11 import Request, Response

from deltawire.protocol.codec import Encoding
from deltawire.protocol.event_stream import Body

if TYPE_CHECKING:
    from deltawire.gateway.server.connection.streaming import StreamingConnection, Translator

REALM: Final = 'Bearer realm="deltawire"'
"""The challenge of a 401 (RFC 6750 §3)."""

JSON_TYPE: Final = "application/json"
PROBLEM_TYPE: Final = "application/problem+json"

PIECE: Final = 16 * 1024
"""Bytes, about, of a body that are made and sent at a time: a response that nobody reads holds only a few pieces."""

RETRY_AFTER: Final = (1, 5)
"""Seconds after which to ask again, least and most, for clients that are refused without a known wait."""

_PARSE_STATUS: Final[dict[type[Exception], HTTPStatus]] = {
    RequestLineTooLong: HTTPStatus.REQUEST_URI_TOO_LONG,
    HeaderLineTooLong: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    TooManyHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
}


class Refusal(NamedTuple):
    """Why a connection is one too many.

    Attributes:
        status: of the response.
        detail: what is full, in words that name the setting.
        retry_after: whole seconds after which to ask again; 0 if it is not known when there will be room.
    """

    status: HTTPStatus
    detail: str
    retry_after: int = 0


def respond(status: HTTPStatus, body: bytes, content_type: str, **headers: str) -> Response:
    """Build a complete response; the connection ends with it."""
    fields = Headers({"Content-Type": content_type, "Content-Length": str(len(body)), "Connection": "close"} | headers)
    return Response(status.value, status.phrase, fields, body)


def respond_nothing(**headers: str) -> Response:
    """A response without content (RFC 9110 §15.3.5); the connection ends with it."""
    status = HTTPStatus.NO_CONTENT
    return Response(status.value, status.phrase, Headers({"Connection": "close"} | headers))


def respond_head(headers: dict[str, str]) -> Response:
    """The headers of a response that has a body; the connection ends with them."""
    return Response(HTTPStatus.OK.value, HTTPStatus.OK.phrase, Headers({"Connection": "close"} | headers))


class LongResponse(Response):
    """A response whose body is made while it is sent.

    Args:
        content_type: of the body.
        pieces: the body, none of them empty.
        headers: more of them.
    """

    def __init__(self, content_type: str, pieces: Iterator[bytes], **headers: str) -> None:
        fields = Headers({"Content-Type": content_type, "Connection": "close"} | headers)
        super().__init__(HTTPStatus.OK.value, HTTPStatus.OK.phrase, fields, b"")
        self.pieces = pieces


class EventsResponse(Response):
    """A response whose body is the events of a consumer, until there are no more.

    It does not say `Connection: close`, though the connection ends with it: some clients (undici, of Node.js) would
    take a body without its last chunk for whole.

    Args:
        headers: of the response.
        framing: of the body.
        opening: the beginning of the body, not empty.
        encoding: of the consumer.
        serve: serves the consumer until its connection is gone.
        translator: says what the consumer is sent in another protocol.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - all that a consumer over HTTP has and others have not
        self,
        headers: dict[str, str],
        framing: Body,
        opening: bytes,
        encoding: Encoding,
        serve: Callable[[StreamingConnection], Awaitable[None]],
        translator: Translator | None = None,
    ) -> None:
        super().__init__(HTTPStatus.OK.value, HTTPStatus.OK.phrase, Headers(headers), b"")
        self.framing = framing
        self.opening = opening
        self.encoding = encoding
        self.serve = serve
        self.translator = translator


class TakenOver(Response):
    """No response at all: somebody else answers on the connection.

    Args:
        serve: has that one answer, until the connection is gone.
    """

    def __init__(self, serve: Callable[[], Awaitable[None]]) -> None:
        super().__init__(HTTPStatus.OK.value, HTTPStatus.OK.phrase, Headers(), b"")
        self.serve = serve


def pieces_of(response: Response, protocol: str) -> tuple[Iterator[bytes], bool]:
    """Return the pieces of a response's body, and whether to send each as a chunk.

    Args:
        response: the response; if its body is sent in chunks, its headers are changed to say so.
        protocol: the HTTP version of the request; HTTP/1.0 has no chunks, so the end of the connection ends the body.
    """
    if not isinstance(response, LongResponse):
        body = bytes(response.body)
        return (body[at : at + PIECE] for at in range(0, len(body), PIECE)), False
    is_chunked = protocol != "HTTP/1.0"
    if is_chunked:
        response.headers["Transfer-Encoding"] = "chunked"
    return response.pieces, is_chunked


def leave_out_body(response: Response) -> Response:
    """Turn a response to GET into that to HEAD: without its body, with its `Content-Length` (RFC 9110 §9.3.2)."""
    if isinstance(response, LongResponse):  # its length is not known
        return Response(response.status_code, response.reason_phrase, response.headers)
    response.body = b""
    return response


def leave_out_known(request: Request, response: Response) -> Response:
    """Turn a response into 304 if the client has the same one already (RFC 9110 §13.1.2)."""
    tag = response.headers.get("ETag")
    known = ",".join(request.headers.get_all("If-None-Match"))
    if tag is None or tag not in [name.strip().removeprefix("W/") for name in known.split(",")]:
        return response
    kept = Headers({name: value for name, value in response.headers.raw_items() if not name.startswith("Content-")})
    return Response(HTTPStatus.NOT_MODIFIED.value, HTTPStatus.NOT_MODIFIED.phrase, kept)


def respond_json(value: Any, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """Respond with a value as JSON, and a newline so that the prompt after curl stands on its own line."""
    return respond(status, msgspec.json.encode(value) + b"\n", JSON_TYPE)


def respond_problem(
    status: HTTPStatus, detail: str, more: Mapping[str, Any] = MappingProxyType({}), /, **headers: str
) -> Response:
    """Respond with a problem (RFC 9457), which may have further members."""
    body = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail, **more}
    return respond(status, msgspec.json.encode(body) + b"\n", PROBLEM_TYPE, **headers)


def respond_unreadable(failure: Exception) -> Response:
    """Refuse a request that could not be parsed.

    Args:
        failure: the exception of the library's parser.
    """
    status = _PARSE_STATUS.get(type(failure), HTTPStatus.BAD_REQUEST)
    why = str(failure.__cause__ or failure).partition(": ")[0]  # the rest quotes the line, which may hold a token
    return respond_problem(status, f"the request can't be read: {why}")


def respond_later(
    status: HTTPStatus, detail: str, seconds: int = 0, *, more: Mapping[str, Any] = MappingProxyType({})
) -> Response:
    """Respond with a problem that says when to ask again.

    Args:
        status: 429 or 503.
        detail: why.
        seconds: from now; 0 draws a random number from `RETRY_AFTER`, so that clients refused together don't return
            together.
        more: members of the problem.
    """
    later = seconds or random.randint(*RETRY_AFTER)  # noqa: S311 - it spreads clients, and keeps no secret
    return respond_problem(status, detail, more, **{"Retry-After": str(later)})


def respond_refusal(refusal: Refusal) -> Response:
    """Respond to a connection that exceeds a limit."""
    return respond_later(refusal.status, f"{refusal.detail}: try again later", refusal.retry_after)
