"""What clients heard over real sockets since a test began, so that it can promise to bring a code about."""

from __future__ import annotations

from typing import Any

HEARD: set[str | int] = set()
"""Problem codes and close codes; each test begins with none (`conftest`)."""


def note_message(message: dict[str, Any]) -> None:
    """A message came; it may be a problem."""
    if message.get("type") == "problem":
        HEARD.add(message["code"])


def note_close(code: int) -> None:
    """The gateway closed, of its own accord."""
    HEARD.add(code)
