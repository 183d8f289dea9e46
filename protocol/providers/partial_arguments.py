"""Arguments of a call in pieces of values, each with the path of its place (RFC 9535), as Gemini can stream them."""

from __future__ import annotations

import re
from typing import Any, Final

MAX_PIECES: Final = 100_000
"""Pieces of one call, so that hostile ones are bounded; an answer has fewer tokens."""

_MAX_STEPS: Final = 60  # what nests deeper can't travel
_FIELDS: Final = {"jsonPath", "stringValue", "boolValue", "numberValue", "nullValue", "willContinue"}
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
            Whether all of the piece was understood.
        """
        if self._pieces == MAX_PIECES or not isinstance(piece, dict):
            return False
        self._pieces += 1
        is_known = piece.keys() <= _FIELDS and isinstance(piece.get("willContinue", False), bool)
        return self._take(piece) and is_known

    def _take(self, piece: dict[str, Any]) -> bool:
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
        if not steps or not _exists(self._arguments, steps):
            return False
        holder: Any = self._arguments
        *outer, last = steps
        for step, following in zip(outer, steps[1:], strict=True):
            holder = _make_room(holder, step, [] if isinstance(following, int) else {})
        found = _make_room(holder, last, value)
        if isinstance(found, _Text) and isinstance(value, _Text) and found is not value:
            found += value
        else:
            holder[last] = value
        return True


def _exists(holder: Any, steps: list[str | int]) -> bool:
    """Whether there is such a place, or may be: any name of an object, the next place of an array."""
    for number, step in enumerate(steps):
        is_right = isinstance(holder, dict) if isinstance(step, str) else type(holder) is list and step <= len(holder)
        if not is_right:
            return False
        if (step not in holder) if isinstance(step, str) else step == len(holder):
            return all(step == 0 or isinstance(step, str) for step in steps[number + 1 :])
        holder = holder[step]
    return True


def _make_room(holder: Any, step: str | int, value: Any) -> Any:
    """What is at a place that exists or may; if there is nothing, this value is from now on."""
    if isinstance(step, str):
        return holder.setdefault(step, value)
    if step == len(holder):
        holder.append(value)
    return holder[step]


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
