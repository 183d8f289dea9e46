"""Close codes, problem codes, and which of them may be retried (SPEC §8).

| close code | reconnect? |
|---|---|
| 1000 | no: the stream ended |
| 1001 | yes: the gateway is shutting down |
| 4000–4499 | yes, and resume at the same position |
| 4500–4999 | no: the same request would fail again |
"""

from __future__ import annotations

from enum import IntEnum, StrEnum

MAX_CLOSE_REASON = 123
"""Maximum bytes of UTF-8 in a close reason: a control frame has 125 bytes, two are the code (RFC 6455 §5.5)."""


class CloseCode(IntEnum):
    """Every code with which the gateway closes a WebSocket, besides those that the library sends (RFC 6455 §7.4.1)."""

    STREAM_ENDED = 1000
    SHUTTING_DOWN = 1001
    PROTOCOL_ERROR = 1002
    INVALID_UTF8 = 1007
    MESSAGE_TOO_BIG = 1009
    GATEWAY_FAULT = 1011
    SLOW_CONSUMER = 4000
    TOKEN_EXPIRED = 4001
    RATE_LIMITED = 4002
    OVERLOADED = 4003
    IDLE = 4004
    FENCED = 4500
    STREAM_CLOSED = 4501
    BAD_REQUEST = 4502
    FORBIDDEN = 4503
    POSITION_AHEAD = 4504
    NOT_FOUND = 4505


class ProblemCode(StrEnum):
    """Every `code` a `problem` message can carry."""

    # About one message: the connection stays open.
    INVALID_EVENT = "invalid_event"
    EVENT_DROPPED = "event_dropped"
    SEQUENCE_GAP = "sequence_gap"
    STREAM_FULL = "stream_full"
    UNKNOWN_MESSAGE = "unknown_message"
    NOT_PERMITTED = "not_permitted"
    INVALID_TOKEN = "invalid_token"  # noqa: S105 - a code, not a secret
    # Before a close with the code of the same name.
    SHUTTING_DOWN = "shutting_down"
    MESSAGE_TOO_BIG = "message_too_big"
    GATEWAY_FAULT = "gateway_fault"
    SLOW_CONSUMER = "slow_consumer"
    TOKEN_EXPIRED = "token_expired"  # noqa: S105 - a code, not a secret
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    IDLE = "idle"
    FENCED = "fenced"
    STREAM_CLOSED = "stream_closed"
    BAD_REQUEST = "bad_request"
    FORBIDDEN = "forbidden"
    POSITION_AHEAD = "position_ahead"
    NOT_FOUND = "not_found"


STAYS_OPEN = frozenset(
    {
        ProblemCode.INVALID_EVENT,
        ProblemCode.EVENT_DROPPED,
        ProblemCode.SEQUENCE_GAP,
        ProblemCode.STREAM_FULL,
        ProblemCode.UNKNOWN_MESSAGE,
        ProblemCode.NOT_PERMITTED,
        ProblemCode.INVALID_TOKEN,
    }
)
"""Problems about one message; a close follows every other problem."""


def close_code(problem: ProblemCode) -> CloseCode:
    """The close code that follows a problem.

    Raises:
        ValueError: the connection stays open after this problem.
    """
    if problem in STAYS_OPEN:
        raise ValueError(f"the connection stays open after {problem}")
    return CloseCode[problem.name]


def is_retryable(code: int) -> bool:
    """Whether a client should reconnect and resume after a close with this code.

    Clients retry after a missing close frame (1006), a shutdown of the server and the 4000 range. They do not retry
    after the end of the stream, a protocol violation and the 4500 range.
    """
    return code in (1001, 1005, 1006, 1011, 1012, 1013, 1014) or 4000 <= code <= 4499


def is_problem_retryable(problem: ProblemCode) -> bool:
    """The `retryable` field of a problem: whether the same request can succeed later."""
    if problem in STAYS_OPEN:
        return problem is ProblemCode.STREAM_FULL
    return is_retryable(close_code(problem))
