"""The streams of a database, found when it is opened; their events are not read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple, cast

import msgspec

from deltawire.gateway.engines.checksums import PLACE, of_values
from deltawire.gateway.engines.engine import StoredStream
from deltawire.gateway.engines.index import Index
from deltawire.gateway.streams.history import History
from deltawire.gateway.streams.producers import ProducerState
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.staging import OpenMessage, StoredState
from deltawire.protocol.messages import EndReason


class Listing(NamedTuple):
    """What a database has.

    Attributes:
        streams: in the order they were created.
        indexes: of the streams, by id and epoch.
        next_row: the first key that no row of events has.
        next_stream: the first key that no stream has.
    """

    streams: list[StoredStream]
    indexes: dict[tuple[str, str], Index]
    next_row: int
    next_stream: int


_decode_settings = msgspec.msgpack.Decoder(StreamSettings).decode
_decode_messages = msgspec.msgpack.Decoder(list[OpenMessage]).decode


def list_streams(database: sqlite3.Connection, max_age: float = 0.0) -> Listing:
    """List the streams of a database.

    Args:
        database: where they are.
        max_age: seconds that events are stored at most, whatever the retention of their stream; 0 for no limit.

    Raises:
        ValueError: a row is corrupt.
        sqlite3.Error: it can't be read.
        Exception: what a row has may be of any type, and raise anything.
    """
    producers: dict[int, list[ProducerState]] = {}
    rows = database.execute("SELECT stream, id, generation, last, seq, checksum FROM producers ORDER BY seq")
    for stream, *state, checksum in rows:
        if of_values(stream, *state) != checksum:
            raise ValueError(f"a row of producers is corrupt ({state[0]!r})")
        producers.setdefault(stream, []).append(ProducerState(*state))
    found: dict[int, tuple[Index, History]] = {}
    streams: list[StoredStream] = []
    indexes: dict[tuple[str, str], Index] = {}
    next_stream = 1
    for row in database.execute("SELECT * FROM streams ORDER BY id"):
        id_, name, epoch, settings_, floor, messages, end_reason, created_at, changed_at, checksum = row
        if of_values(*row[:-1]) != checksum:
            raise ValueError(f"row {id_} of streams is corrupt ({name!r})")
        settings = _decode_settings(settings_)
        index, history = found[id_] = Index(id_), History(settings.retention.within(max_age), floor)
        indexes[name, epoch] = index
        end = cast("EndReason | None", end_reason)
        state_ = StoredState(history, producers.get(id_, ()), _decode_messages(messages), end)
        streams.append(StoredStream(name, epoch, settings, state_, created_at, changed_at))
        next_stream = id_ + 1
    return Listing(streams, indexes, _list_rows(database, found), next_stream)


def _list_rows(database: sqlite3.Connection, found: dict[int, tuple[Index, History]]) -> int:
    """Fill indexes and histories; returns the first key that no row has."""
    next_row = 1
    for stream, rows in groupby(_rows(database), itemgetter(0)):
        _, ids, firsts, lasts, sizes, times, sound = zip(*rows, strict=True)
        if not all(sound) or stream not in found:
            raise ValueError(f"row {abs(ids[sound.index(0)] if 0 in sound else ids[0])} of events is corrupt")
        index, history = found[stream]
        if firsts[1:] != tuple(last + 1 for last in lasts[:-1]) or not firsts[0] <= history.floor <= lasts[-1] + 1:
            raise ValueError(f"rows of events are missing between {abs(ids[0])} and {abs(ids[-1])}")
        next_row = max(next_row, 1 + max(ids), 1 - min(ids))
        index.extend(ids, firsts)
        history.restore(lasts, sizes, times)
    return next_row


def _rows(database: sqlite3.Connection) -> Iterator[tuple[int, int, int, int, int, float, int]]:
    """Return stream, id, first and last seq, size, time and soundness of all rows, by stream and seq.

    The id is negative for a piece; the soundness is 1 where the place has its checksum, else 0.
    """
    return database.execute(f"""
        SELECT stream, -id, first, last, length(frames), at, checksum >> 32 IS {PLACE} FROM pieces
        UNION ALL SELECT stream, id, first, last, length(frames), at, checksum >> 32 IS {PLACE} FROM events
        ORDER BY stream, first
    """)  # noqa: S608 - names of ours
