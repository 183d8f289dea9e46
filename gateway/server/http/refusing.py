"""Errors of the core as responses that refuse (RFC 9457)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final, TypeVar

from websockets.http11 import Response

from deltawire.gateway.server.responses import REALM, respond_later, respond_problem
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import ErrorKind, StreamError, WireError, is_full

T = TypeVar("T")

STATUS_OF: Final = {
    ProblemCode.INVALID_EVENT: HTTPStatus.BAD_REQUEST,
    ProblemCode.EVENT_DROPPED: HTTPStatus.BAD_REQUEST,
    ProblemCode.SEQUENCE_GAP: HTTPStatus.CONFLICT,
    ProblemCode.STREAM_FULL: HTTPStatus.SERVICE_UNAVAILABLE,
    ProblemCode.UNKNOWN_MESSAGE: HTTPStatus.BAD_REQUEST,
    ProblemCode.NOT_PERMITTED: HTTPStatus.FORBIDDEN,
    ProblemCode.INVALID_TOKEN: HTTPStatus.BAD_REQUEST,
    ProblemCode.SHUTTING_DOWN: HTTPStatus.SERVICE_UNAVAILABLE,
    ProblemCode.MESSAGE_TOO_BIG: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ProblemCode.GATEWAY_FAULT: HTTPStatus.INTERNAL_SERVER_ERROR,
    ProblemCode.SLOW_CONSUMER: HTTPStatus.REQUEST_TIMEOUT,
    ProblemCode.TOKEN_EXPIRED: HTTPStatus.UNAUTHORIZED,
    ProblemCode.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
    ProblemCode.OVERLOADED: HTTPStatus.SERVICE_UNAVAILABLE,
    ProblemCode.IDLE: HTTPStatus.REQUEST_TIMEOUT,
    ProblemCode.FENCED: HTTPStatus.CONFLICT,
    ProblemCode.STREAM_CLOSED: HTTPStatus.CONFLICT,
    ProblemCode.BAD_REQUEST: HTTPStatus.BAD_REQUEST,
    ProblemCode.FORBIDDEN: HTTPStatus.FORBIDDEN,
    ProblemCode.POSITION_AHEAD: HTTPStatus.BAD_REQUEST,
    ProblemCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
}
"""The status of a problem where there is no WebSocket on which to send it."""

_LATER = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})

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
    return respond_refused(STATUS_OF[error.code], error.message)


def respond_refused(status: HTTPStatus, detail: str, more: Mapping[str, Any] = MappingProxyType({})) -> Response:
    """Refuse with a status that may stand for something that passes.

    Args:
        status: of the response.
        detail: why.
        more: members of the problem document.
    """
    if status in _LATER:
        return respond_later(status, detail, more=more)
    challenge = {"WWW-Authenticate": f'{REALM}, error="invalid_token"'} if status is HTTPStatus.UNAUTHORIZED else {}
    return respond_problem(status, detail, more, **challenge)
