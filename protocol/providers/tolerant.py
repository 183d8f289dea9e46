"""JSON that strict readers refuse, read in a second way, so that what is wrong in it costs at most itself.

| what JSON or the wire has no place for | is read as |
|---|---|
| half a character, as an escape or as bytes that are no UTF-8 | a lone surrogate, for `halves` to mend |
| a control character in a text, not escaped | itself |
| `NaN`, `Infinity`, `-Infinity`, a number over 64 bits or over a double | its text |
| what nests deeper than `MAX_DEPTH` | its text |

Strict reading is many times faster: this one is for texts that it refuses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from math import isfinite
from typing import Any

MAX_DEPTH = 60
"""Arrays and objects within each other; an extension puts a few around what it holds, and may have 64."""

MAX_TRIES = 8
"""Places in a torn text where an error is looked for, the last ones: each costs a reading of the rest."""

_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|[][{}]', re.DOTALL)  # a text may lack its end
_BETWEEN = re.compile(r"[\s,]*(?:data:\s*)?")
_ERROR = re.compile(r'\{\s*"error"\s*:')


def _read_integer(text: str) -> int | str:
    if len(text) > 20:  # more digits than 64 bits have
        return text
    number = int(text)
    return number if -(2**63) <= number < 2**64 else text


def _read_float(text: str) -> float | str:
    number = float(text)
    return number if isfinite(number) else text


_decoder = json.JSONDecoder(strict=False, parse_int=_read_integer, parse_float=_read_float, parse_constant=str)


def read_documents(text: str) -> list[Any] | None:
    """The JSON values a text is made of, one behind the other; None where it is made of anything else too.

    Between them may be white space, commas, and the `data:` of an event that should have begun on a line of its own.
    """
    values, rest = _read_some(_flatten(text))
    return values if values and not rest else None


def read_objects(text: str) -> tuple[list[dict[str, Any]], str]:
    """The JSON objects that an event's data holds where it is not one of them.

    They may stand one behind the other, on lines of their own between others that are torn, or in an array; and an
    error may cut off another one in the middle.

    Returns:
        The objects in their order, and all else as text; what is within an object that is torn counts as that.
    """
    values = read_documents(text)
    rest = ""
    if values is None:
        values, rest = _read_lines(text) if "\n" in text else _read_torn(text)
    items = [item for value in values for item in (value if isinstance(value, list) else [value])]
    others = [json.dumps(item, ensure_ascii=False) for item in items if not isinstance(item, dict)]
    return [item for item in items if isinstance(item, dict)], "\n".join(filter(None, (*others, rest)))


def _read_lines(text: str) -> tuple[list[Any], str]:
    """What lines begin and end with an object of their own; and the other lines."""
    values: list[Any] = []
    rest = []
    for line in text.split("\n"):
        found, torn = _read_torn(line) if line.startswith("{") else ([], line)
        values += found
        rest += [torn] if torn else []
    return values, "\n".join(rest)


def _read_torn(text: str) -> tuple[list[Any], str]:
    """The JSON values a text begins with, with an error object that cuts off the last one; and what is no JSON."""
    values, rest = _read_some(_flatten(text))
    for start in [match.start() for match in _ERROR.finditer(rest)][: -MAX_TRIES - 1 : -1]:
        errors, tail = _read_some(rest[start:])
        if errors and not tail:
            return [*values, *errors], rest[:start]
    return values, rest


def _read_some(text: str) -> tuple[list[Any], str]:
    """The values at the start of a text, and the rest."""
    values: list[Any] = []
    position = 0
    while True:
        start = _end_of(_BETWEEN, text, position) if values else _end_of(_SPACE, text, position)
        if start == len(text):
            return values, ""
        try:
            value, position = _decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            return values, text[start:]
        values.append(value)


_SPACE = re.compile(r"\s*")


def _end_of(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return position if match is None else match.end()


def _flatten(text: str) -> str:
    """The JSON with what nests too deep as its text."""
    return "".join(_pieces(text)) if text.count("{") + text.count("[") > MAX_DEPTH else text


def _pieces(text: str) -> Iterator[str]:
    depth = told = 0
    for match in _STRUCTURE.finditer(text):
        mark = match.group()
        if mark in "{[":
            depth += 1
            if depth == MAX_DEPTH + 1:
                yield text[told : match.start()]
                told = match.start()
        elif mark in "}]":
            depth -= 1
            if depth == MAX_DEPTH:
                yield json.dumps(text[told : match.end()], ensure_ascii=False)
                told = match.end()
    yield text[told:]
