"""Checksums of rows: whatever becomes of a file, nothing but what was written is taken for it.

A row of events has two in one number: of its frames, which is compared when they are read, and of its place, which is
compared for all rows at the start, by SQLite itself. So frames are not taken for those of another stream.
"""

from __future__ import annotations

import sqlite3
import zlib
from typing import Final

import msgspec

PLACE: Final = "((id * 40503 + stream * 30011 + first * 20011 + last * 10007) & 2147483647)"
"""The checksum of a row's place, in SQL. All factors are odd: no bit of any number can change alone."""


STREAM: Final = "checksum_of(id, name, epoch, settings, floor, messages, end_reason, created_at, changed_at)"
"""The checksum of a row of `streams`, in SQL where `teach` was called."""


PRODUCER: Final = "checksum_of(stream, id, generation, last, seq)"
"""Likewise of `producers`."""

EVENTS: Final = f"(checksum & 4294967295) | ({PLACE} << 32)"
"""The checksum of a row of events that has another place, in SQL."""


def teach(database: sqlite3.Connection) -> None:
    """Have `of_values` called `checksum_of` in SQL."""
    database.create_function("checksum_of", -1, of_values, deterministic=True)


def of_events(id_: int, stream: int, first: int, last: int, frames: bytes) -> int:
    """The checksum of a row of events."""
    place = (id_ * 40503 + stream * 30011 + first * 20011 + last * 10007) & 2147483647  # `PLACE`
    return place << 32 | zlib.crc32(frames)


def of_values(*values: object) -> int:
    """The checksum of the values of a row."""
    return zlib.crc32(msgspec.msgpack.encode(values))
