"""Reading events back, so that nothing but what was written is ever returned."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Sequence

import msgspec

from deltawire.gateway.engines.index import Index
from deltawire.gateway.streams.pages import StoredPage, Wanted
from deltawire.protocol.framing import payload_start, split_frames


class _UnreadableError(Exception):
    """A row is not what was written."""


class _Numbered(msgspec.Struct):
    seq: int


_decode_seq = msgspec.json.Decoder(_Numbered).decode


def read_events(database: sqlite3.Connection, index: Index, wanted: Wanted) -> StoredPage:
    """Read some events of a stream.

    Args:
        database: where they are.
        index: of the stream.
        wanted: which events.

    Returns:
        The events; none of them, and a fault, if the first can't be read.
    """
    frames: list[bytes] = []
    (seq, last, size), length = wanted, 0
    while seq <= last and length < size:
        found = index.row_with(seq)
        row, end = found or (0, last)
        try:
            read = _read_row(database, row, seq)
        except (_UnreadableError, sqlite3.Error, ValueError) as error:
            if frames:
                break
            return StoredPage(min(end, last), (), f"events {seq} to {min(end, last)}: {error}")
        for frame in read[: last - seq + 1]:
            frames.append(frame)
            length += len(frame)
            seq += 1
            if length >= size:
                break
    return StoredPage(seq - 1, frames)


def _read_row(database: sqlite3.Connection, row: int, seq: int) -> Sequence[bytes]:
    """Return the frames of a row from a seq on; at least one."""
    table = "events" if row > 0 else "pieces"
    found = database.execute(
        f"SELECT first, checksum, frames FROM {table} WHERE id = ?",  # noqa: S608 - a name of ours
        (abs(row),),
    ).fetchone()
    if found is None:
        raise _UnreadableError("missing")
    first, checksum, data = found
    if zlib.crc32(data) != checksum:
        raise _UnreadableError(f"corrupt (row {abs(row)} of {table})")
    frames = list(split_frames(data))[seq - first :]
    if not frames or seq < first or _decode_seq(frames[0][payload_start(frames[0]) :]).seq != seq:
        raise _UnreadableError(f"corrupt (row {abs(row)} of {table} has others)")
    return frames
