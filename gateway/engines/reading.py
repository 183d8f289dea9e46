"""Reading events back, so that nothing but what was written is ever returned."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from deltawire.gateway.engines.checksums import of_events
from deltawire.gateway.engines.index import Index
from deltawire.gateway.streams.pages import StoredPage, Wanted
from deltawire.protocol.codec import decode_seq
from deltawire.protocol.framing import payload_start, split_frames


class _UnreadableError(Exception):
    """A row is not what was written."""


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
            read = _read_row(database, index.id, row, seq)
        except Exception as error:  # noqa: BLE001 - whatever is in the file, it is told, and the thread must not end
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


def _read_row(database: sqlite3.Connection, stream: int, row: int, seq: int) -> Sequence[bytes]:
    """Return the frames of a row from a seq on; at least one."""
    table = "events" if row > 0 else "pieces"
    found = database.execute(
        f"SELECT first, last, checksum, frames FROM {table} WHERE id = ?",  # noqa: S608 - a name of ours
        (abs(row),),
    ).fetchone()
    if found is None:
        raise _UnreadableError("missing")
    first, last, checksum, data = found
    if of_events(abs(row), stream, first, last, data) != checksum:
        raise _UnreadableError(f"corrupt (row {abs(row)} of {table})")
    frames = list(split_frames(data))[seq - first :]
    if not frames or seq < first or decode_seq(frames[0][payload_start(frames[0]) :]) != seq:
        raise _UnreadableError(f"corrupt (row {abs(row)} of {table} has others)")
    return frames
