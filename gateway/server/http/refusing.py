"""Errors of the core as responses that refuse (RFC 9457)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TypeVar

from websockets.http11 import Response

from deltawire.gateway.server.responses import respond_later, respond_problem
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import ErrorKind, StreamError, WireError, is_full

T = TypeVar("T")

_STATUS = {
    ErrorKind.NOT_FOUND: HTTPStatus.NOT_FOUND,
    ErrorKind.INVALID: HTTPStatus.BAD_REQUEST,
    ErrorKind.FULL: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorKind.CLOSED: HTTPStatus.CONFLICT,
}


def refusing(respond: Callable[[], T]) -> T | Response:
    """Call a function that responds, and turn the errors it may raise into refusals."""
    try:
        return respond()
    except (ValueError, WireError, StreamError) as error:
        return respond_error(error)


async def refusing_late(responding: Awaitable[Response]) -> Response:
    """Like `refusing`, for a response that is waited for."""
    try:
        return await responding
    except (ValueError, WireError, StreamError) as error:
        return respond_error(error)


def respond_error(error: ValueError | WireError | StreamError) -> Response:
    """Turn an error into a refusal."""
    if isinstance(error, StreamError):
        return (respond_later if is_full(error) else respond_problem)(_STATUS[error.kind], str(error))
    if isinstance(error, ValueError):
        return respond_problem(HTTPStatus.BAD_REQUEST, str(error))
    match error.code:
        case ProblemCode.FORBIDDEN:
            return respond_problem(HTTPStatus.FORBIDDEN, error.message)
        case ProblemCode.OVERLOADED:
            return respond_later(HTTPStatus.SERVICE_UNAVAILABLE, error.message)
        case _:
            return respond_problem(HTTPStatus.BAD_REQUEST, error.message)
