"""Arguments of a call in pieces of values, each with the path of its place (RFC 9535), as Gemini can stream them."""

from __future__ import annotations

import re
from typing import Any, Final

MAX_PIECES: Final = 100_000
"""Pieces of one call, so that hostile ones are bounded; an answer has fewer tokens."""

_MAX_STEPS: Final = 60  # what nests deeper can't travel
_EXACT: Final = 2**53
_STEP = re.compile(r"""\.([^.\[\]'"]+)|\[(\d{1,6})\]|\['((?:[^'\\]|\\.)*)'\]|\["((?:[^"\\]|\\.)*)"\]""", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class _Text(list[str]):
    """A text in its pieces."""


class PartialArguments:
    """The arguments of one call, as they come."""

    def __init__(self) -> None:
        self._arguments: dict[str, Any] = {}
        self._pieces = 0

    @property
    def value(self) -> dict[str, Any]:
        """All of them so far."""
        joined: dict[str, Any] = _join(self._arguments)
        return joined

    def add(self, piece: Any) -> bool:
        """Put a piece in its place.

        Args:
            piece: an object with `jsonPath` and a value; text goes behind the text that is there.

        Returns:
            Whether the piece was understood; otherwise it changed nothing.
        """
        if self._pieces == MAX_PIECES:
            return False
        self._pieces += 1
        match piece:
            case {"jsonPath": str(path), "stringValue": str(value)}:
                return self._put(_parse(path), _Text([value]))
            case {"jsonPath": str(path), "boolValue": bool(value)}:
                return self._put(_parse(path), value)
            case {"jsonPath": str(path), "numberValue": int(value) | float(value)}:
                is_whole = float(value).is_integer() and abs(value) < _EXACT  # SDKs make a float of each number
                return self._put(_parse(path), int(value) if is_whole else value)
            case {"jsonPath": str(path), "nullValue": _}:
                return self._put(_parse(path), None)
        return False

    def _put(self, steps: list[str | int], value: Any) -> bool:
        if not steps:
            return False
        holder: Any = self._arguments
        *outer, last = steps
        for step, following in zip(outer, steps[1:], strict=True):
            if not _make_room(holder, step, [] if isinstance(following, int) else {}):
                return False
            holder = holder[step]
        if not _make_room(holder, last, value):
            return False
        found = holder[last]
        if isinstance(found, _Text) and isinstance(value, _Text) and found is not value:
            found += value
        else:
            holder[last] = value
        return True


def _make_room(holder: Any, step: str | int, value: Any) -> bool:
    """Whether a place exists; if it is the next one to exist, it does now, with this value."""
    if isinstance(step, str):
        if not isinstance(holder, dict):
            return False
        holder.setdefault(step, value)
        return True
    if not isinstance(holder, list) or isinstance(holder, _Text) or step > len(holder):
        return False
    if step == len(holder):
        holder.append(value)
    return True


def _join(value: Any) -> Any:
    if isinstance(value, _Text):
        return "".join(value)
    if isinstance(value, dict):
        return {name: _join(item) for name, item in value.items()}
    return [_join(item) for item in value] if isinstance(value, list) else value


def _parse(path: str) -> list[str | int]:
    """The steps of a path; none if it is no path to one place."""
    if not path.startswith("$"):
        return []
    steps: list[str | int] = []
    position = 1
    while position < len(path):
        step = _STEP.match(path, position)
        if step is None or len(steps) == _MAX_STEPS:
            return []
        name, number, *quoted = step.groups()
        if number is not None:
            steps.append(int(number))
        else:
            steps.append(name if name is not None else _ESCAPED.sub(r"\1", quoted[0] or quoted[1] or ""))
        position = step.end()
    return steps
