"""Text in every shape that servers give it: a string, a part with a type, parts in a list, parts within parts."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

Pieces: TypeAlias = list[tuple[str, str]]
"""Pieces of text, each with its kind before it: `text`, `thinking` or `refusal`."""

_NOTHING: Final[tuple[Any, ...]] = (None, "", [], {})
_ADDRESS = frozenset({"type", "index"})

_KINDS: Final[dict[str, str | None]] = {
    "text": None,
    "output_text": None,
    "input_text": None,
    "thinking": "thinking",
    "reasoning": "thinking",
    "reasoning_text": "thinking",
    "reasoning_content": "thinking",
    "reasoning.text": "thinking",
    "reasoning.summary": "thinking",
    "summary_text": "thinking",
    "refusal": "refusal",
}
"""By the type of a part: the kind of its text; None is that of where the part stands. Other parts hold no text."""

_FIELDS: Final[dict[str, str | None]] = {
    "text": None,
    "value": None,
    "content": None,
    "parts": None,
    "thinking": "thinking",
    "reasoning": "thinking",
    "reasoning_content": "thinking",
    "summary": None,
    "refusal": "refusal",
}
"""Where the text of a part stands, and its kind; None is that of the part."""


def read_parts(value: Any, kind: str) -> tuple[Pieces, Any]:
    """The text of a value, and what is left of the value: None if nothing is.

    Args:
        value: what stands where text is expected.
        kind: of text that doesn't say its own.
    """
    if isinstance(value, str):
        return ([(kind, value)] if value else []), None
    if isinstance(value, dict):
        return _read_part(value, kind)
    if not isinstance(value, list):
        return [], value
    read = [read_parts(item, kind) for item in value]
    rest = [left for _, left in read if left not in _NOTHING]
    return [piece for pieces, _ in read for piece in pieces], rest or None


def _read_part(part: dict[str, Any], kind: str) -> tuple[Pieces, Any]:
    part_type = part.get("type")
    if part_type is not None:
        if not isinstance(part_type, str) or part_type not in _KINDS:
            return [], part
        kind = _KINDS[part_type] or kind
    if part.keys().isdisjoint(_FIELDS):
        return [], part
    pieces: Pieces = []
    rest = {}
    for name, value in part.items():
        left = value
        if name in _FIELDS:
            found, left = read_parts(value, _FIELDS[name] or kind)
            pieces += found
        if left not in _NOTHING and name not in _ADDRESS:
            rest[name] = left
    return pieces, {name: part[name] for name in part if name in _ADDRESS} | rest if rest else None
