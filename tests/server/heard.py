"""What clients of these tests heard over real sockets, so that the last test can say which codes none of them did."""

from __future__ import annotations

from typing import Any

from deltawire.protocol.codes import CloseCode, ProblemCode

PROBLEMS: set[str] = set()
CLOSES: set[int] = set()

UNHEARD: set[ProblemCode | CloseCode] = set()
"""Codes no test brings about yet, to be named here until one does."""


def note_message(message: dict[str, Any]) -> None:
    """A message came; it may be a problem."""
    if message.get("type") == "problem":
        PROBLEMS.add(message["code"])


def note_close(code: int) -> None:
    """The gateway closed, of its own accord."""
    CLOSES.add(code)


def missing() -> set[ProblemCode | CloseCode]:
    """The codes of SPEC §8 nobody heard."""
    return {code for code in ProblemCode if code not in PROBLEMS} | {code for code in CloseCode if code not in CLOSES}
