"""The exceptions of the protocol and of streams.

DeltawireError
├── StreamError       a stream operation failed; `kind` says why
└── WireError         a peer sent something wrong; becomes a `problem`

Python programs catch `StreamError`; `is_closed`, `is_not_found`, `is_full` and `is_invalid` test its kind.
"""

from __future__ import annotations

from enum import StrEnum

from deltawire.protocol.codes import ProblemCode


class DeltawireError(Exception):
    """Base of all exceptions that this project raises on purpose."""


class ErrorKind(StrEnum):
    """Why a stream operation failed."""

    CLOSED = "closed"
    NOT_FOUND = "not found"
    FULL = "full"
    INVALID = "invalid"


class StreamError(DeltawireError):
    """A stream operation failed.

    Args:
        kind: the reason.
        operation: the name of the operation, e.g. `"send"`.
        stream_id: the stream's id.
        detail: what was wrong and what to do, if the kind alone does not say it.
    """

    def __init__(self, kind: ErrorKind, operation: str, stream_id: str, detail: str = "") -> None:
        super().__init__(kind, operation, stream_id, detail)
        self.kind = kind
        self.operation = operation
        self.stream_id = stream_id
        self.detail = detail

    def __str__(self) -> str:
        text = f"{self.operation} {self.stream_id!r}"
        if self.detail and self.kind is ErrorKind.INVALID:  # the argument is invalid, not the stream
            return f"{text}: {self.detail}"
        return f"{text}: stream {self.kind}" + (f": {self.detail}" if self.detail else "")


def is_closed(error: BaseException) -> bool:
    """Whether an error says that the stream is closed."""
    return isinstance(error, StreamError) and error.kind is ErrorKind.CLOSED


def is_not_found(error: BaseException) -> bool:
    """Whether an error says that there is no such stream."""
    return isinstance(error, StreamError) and error.kind is ErrorKind.NOT_FOUND


def is_full(error: BaseException) -> bool:
    """Whether an error says that the stream has no room now."""
    return isinstance(error, StreamError) and error.kind is ErrorKind.FULL


def is_invalid(error: BaseException) -> bool:
    """Whether an error says that an argument was wrong."""
    return isinstance(error, StreamError) and error.kind is ErrorKind.INVALID


class WireError(DeltawireError):
    """A peer sent something wrong.

    Args:
        code: the problem code of the answer.
        message: what was wrong and what to do; names the field and the reason.
    """

    def __init__(self, code: ProblemCode, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"
