"""Events small enough for one message: long text in several deltas, long JSON in several parts.

A message may have 64 KiB (SPEC §10). A code point takes at most 6 bytes in JSON (an escaped control character), so any
10 000 code points fit, with room for the envelope.

A larger extension is sent as its JSON text in several extensions named `NAME_part`, with the data
`{"part": 1, "parts": 3, "json": "…"}`. The `json` of all parts, joined in order, is the text of the whole data.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from deltawire.protocol.events import Extension, TextDelta, Thinking, ToolDelta
from deltawire.protocol.providers.halves import mend, mend_all

MAX_TEXT = 10_000
"""Maximum code points in one delta."""

MAX_ERROR = 5_000
"""Maximum code points in the message of an error, which may also have a code of `fields.MAX_LABEL`."""

MAX_EXTENSION = 60_000
"""Maximum bytes of JSON in the data of one extension."""

MAX_NAME = 64
"""Maximum code points of an extension's name; longer names from upstream are cut, but complete in the data."""


def split_text(text: str) -> list[str]:
    """Split text into pieces of at most `MAX_TEXT` code points; no pieces for empty text."""
    return [text[start : start + MAX_TEXT] for start in range(0, len(text), MAX_TEXT)]


def make_text(text: str, index: int, choice: int | UnsetType = UNSET) -> list[TextDelta]:
    """The text of a block, in as many deltas as necessary."""
    return [TextDelta(piece, index, choice) for piece in split_text(text)]


def make_thinking(text: str, index: int, choice: int | UnsetType = UNSET) -> list[Thinking]:
    """The thinking of a block, in as many deltas as necessary."""
    return [Thinking(piece, index, choice) for piece in split_text(text)]


def make_arguments(text: str, index: int, choice: int | UnsetType = UNSET) -> list[ToolDelta]:
    """The arguments of a tool call's block, in as many deltas as necessary."""
    return [ToolDelta(index, piece, choice) for piece in split_text(text)]


def make_extensions(provider: str, name: str, data: dict[str, Any]) -> list[Extension]:
    """An extension event, or its parts if it is too large for one message.

    Args:
        provider: whose word it is.
        name: what it is; cut when it is too long.
        data: JSON that both encodings of the wire can carry; halves of characters in it are mended.
    """
    name = mend(name)[:MAX_NAME] or "unnamed"
    try:
        encoded = msgspec.json.encode(data)
    except UnicodeEncodeError:
        data = mend_all(data)
        encoded = msgspec.json.encode(data)
    if len(encoded) <= MAX_EXTENSION:
        return [Extension(provider, name, data)]
    parts = split_text(encoded.decode())
    return [
        Extension(provider, f"{name}_part", {"part": number, "parts": len(parts), "json": part})
        for number, part in enumerate(parts, start=1)
    ]
