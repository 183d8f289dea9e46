"""The streams of a database, found when it is opened; their events are not read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple, cast

import msgspec

from deltawire.gateway.engines.engine import StoredStream
from deltawire.gateway.engines.index import Index
from deltawire.gateway.streams.history import History
from deltawire.gateway.streams.log import EVENT_OVERHEAD
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


def list_streams(database: sqlite3.Connection) -> Listing:
    """List the streams of a database.

    Raises:
        sqlite3.Error: it can't be read.
        msgspec.MsgspecError: its settings or messages can't be.
    """
    producers: dict[int, list[ProducerState]] = {}
    for stream, *state in database.execute("SELECT stream, id, generation, last, seq FROM producers ORDER BY seq"):
        producers.setdefault(stream, []).append(ProducerState(*state))
    found: dict[int, tuple[Index, History]] = {}
    streams: list[StoredStream] = []
    indexes: dict[tuple[str, str], Index] = {}
    next_stream = 1
    for row in database.execute("SELECT * FROM streams ORDER BY id"):
        id_, name, epoch, settings_, floor, messages, end_reason, created_at, changed_at = row
        settings = _decode_settings(settings_)
        index, history = found[id_] = Index(id_), History(settings.retention, floor)
        indexes[name, epoch] = index
        end = cast("EndReason | None", end_reason)
        state_ = StoredState(history, producers.get(id_, ()), _decode_messages(messages), end)
        streams.append(StoredStream(name, epoch, settings, state_, created_at, changed_at))
        next_stream = id_ + 1
    return Listing(streams, indexes, _list_rows(database, found), next_stream)


def _list_rows(database: sqlite3.Connection, found: dict[int, tuple[Index, History]]) -> int:
    """Fill indexes and histories; returns the first key that no row has."""
    next_row = 1
    for stream, id_, first, last, size, at in _rows(database):
        next_row = max(next_row, abs(id_) + 1)
        if stream in found:
            index, history = found[stream]
            index.add(id_, first)
            history.add(last, size + EVENT_OVERHEAD * (last - first + 1), at)
    for _, history in found.values():
        history.begin_piece()
    return next_row


def _rows(database: sqlite3.Connection) -> Iterator[tuple[int, int, int, int, int, float]]:
    """Yield stream, id (negative for a piece), first and last seq, size and time of all rows, by stream and seq."""
    yield from database.execute("""
        SELECT stream, -id, first, last, length(frames), at FROM pieces
        UNION ALL SELECT stream, id, first, last, length(frames), at FROM events
        ORDER BY stream, first
    """)
