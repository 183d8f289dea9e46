"""The class of a stream: who is served first when there is more to do than the gateway can (SPEC §10.2)."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from msgspec import Struct


class StreamClass(StrEnum):
    """The class of a stream, the most urgent first."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


_PATTERN: Final = re.compile(r"[A-Za-z0-9._:@-]{0,128}\*|[A-Za-z0-9._:@-]{1,128}", re.ASCII)

RANKS: Final = {stream_class: rank for rank, stream_class in enumerate(StreamClass)}
"""The classes by number: a lower one is served first."""


class Classes(Struct, frozen=True):
    """The classes of streams by their ids.

    Attributes:
        entries: ids, or prefixes of ids followed by `*`, and their classes; the first that matches counts.
    """

    entries: tuple[tuple[str, StreamClass], ...] = ()

    def of(self, stream_id: str) -> StreamClass:
        """The class of a stream; `normal` if no entry matches."""
        for pattern, stream_class in self.entries:
            if stream_id == pattern or (pattern.endswith("*") and stream_id.startswith(pattern[:-1])):
                return stream_class
        return StreamClass.NORMAL


def parse_classes(text: str) -> Classes:
    """Parse `PATTERN=CLASS,…`; the pattern is a stream id, or a prefix of ids followed by `*`.

    Raises:
        ValueError: an entry is not of this form, or the class is unknown; the message says what is expected.
    """
    entries: list[tuple[str, StreamClass]] = []
    for entry in filter(None, map(str.strip, text.split(","))):
        pattern, _, name = entry.rpartition("=")
        if _PATTERN.fullmatch(pattern) is None or name not in list(StreamClass):
            known = ", ".join(StreamClass)
            raise ValueError(f"expected STREAM=CLASS or PREFIX*=CLASS, with a class of {known}, got {entry!r}")
        entries.append((pattern, StreamClass(name)))
    return Classes(tuple(entries))
