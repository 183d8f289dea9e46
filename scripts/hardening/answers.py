"""How attempts end, in a word or two, and which ends SPEC documents."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from deltawire.protocol.codes import CloseCode, ProblemCode

DROPPED: Final = "dropped"
"""The gateway hung up without a word: a peer that takes nothing, or asks for nothing in time (SPEC §2.3, §6)."""

LATE: Final = "late: "
"""What an answer begins with that did not come in time."""

SERVED: Final = "served"
"""Nothing was wrong with it; it was done what was asked."""

STATUSES: Final = frozenset(
    {101, 200, 201, 204, 400, 401, 403, 404, 405, 408, 409, 411, 413, 414, 415, 426, 429, 431, 501, 503, 505}
)
"""What SPEC §2.3 and §9 say the gateway answers over HTTP."""

_FAULTS = {f"close {CloseCode.GATEWAY_FAULT}", f"problem {ProblemCode.GATEWAY_FAULT}"}


def of_status(status: int) -> str:
    """The answer to a request."""
    return f"{HTTPStatus(status).value}"


def of_close(code: int | None) -> str:
    """The end of a connection; None where the gateway sent no close frame."""
    return DROPPED if code is None else f"close {code}"


def of_problem(code: str) -> str:
    """A problem after which the connection is still there."""
    return f"problem {code}"


def is_documented(answer: str) -> bool:
    """Whether an answer is one a peer has to reckon with, and no fault of the gateway."""
    known = {DROPPED, SERVED}
    known |= {of_status(status) for status in STATUSES}
    known |= {of_close(code) for code in CloseCode}
    known |= {of_problem(code) for code in ProblemCode}
    return answer in known - _FAULTS
