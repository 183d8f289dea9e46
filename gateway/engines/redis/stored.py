"""A stream between its fields on a server and what a gateway knows of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

import msgspec

from deltawire.gateway.engines.engine import StoredStream
from deltawire.gateway.engines.redis.keys import OfStream
from deltawire.gateway.streams.cursor import Fork
from deltawire.gateway.streams.history import History
from deltawire.gateway.streams.log import EVENT_OVERHEAD
from deltawire.gateway.streams.pages import StoredPage, Wanted
from deltawire.gateway.streams.producers import ProducerState
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.staging import OpenMessage, StoredState
from deltawire.protocol.codec import decode_seq
from deltawire.protocol.framing import payload_start, split_frames
from deltawire.protocol.messages import EndReason

_encode = msgspec.msgpack.encode
_decode_settings = msgspec.msgpack.Decoder(StreamSettings).decode
_decode_messages = msgspec.msgpack.Decoder(list[OpenMessage]).decode


Fields = dict[str, str | bytes]
"""Fields of a hash, to be written."""


class Owned:
    """What a gateway knows of a stream that is stored on a server and that it serves.

    Attributes:
        names: of its keys.
        term: number of this ownership; each claim of the stream by a gateway raises it.
        prior: the term before, which a server shows that was put back to an older state; empty for a new stream.
        head: the newest seq that the server has confirmed; it may have lost events since.
        fixed: the fields that are written by a claim alone.
        sure_until: monotonic seconds; until then the server's last answer is taken as proof that this gateway owns it.
    """

    __slots__ = ("fixed", "head", "names", "prior", "sure_until", "term")

    def __init__(self, names: OfStream, term: bytes, prior: bytes, head: int, fixed: Fields) -> None:
        self.names = names
        self.term = term
        self.prior = prior
        self.head = head
        self.fixed = fixed
        self.sure_until = 0.0


class UnreadableError(Exception):
    """A stream on a server is not what a gateway writes.

    Args:
        stream: its id.
        why: in words.
    """

    def __init__(self, stream: str, why: str) -> None:
        super().__init__(f"stream {stream!r}: {why}")
        self.stream = stream
        self.why = why


class Claimed(NamedTuple):
    """What a claim returned."""

    owned: Owned
    stream: StoredStream


def new_fields(settings: StreamSettings, now: float) -> Fields:
    """The fields of a new stream."""
    return {
        "settings": _encode(settings),
        "created": repr(now),
        "changed": repr(now),
        "messages": _encode([]),
        "end": "",
    }


def changed_fields(
    producers: Iterable[ProducerState],
    messages: Sequence[OpenMessage] | None,
    end_reason: EndReason | None,
    now: float,
) -> Fields:
    """The fields that change with events.

    Args:
        producers: those whose state changed.
        messages: in progress; None if unchanged.
        end_reason: why the stream ended; None if it did not.
        now: seconds since 1970.
    """
    fields: Fields = {f"p:{it.id}": f"{it.generation}:{it.last}:{it.seq}" for it in producers}
    if messages is not None:
        fields["messages"] = _encode(messages)
    if end_reason is not None:
        fields["end"] = end_reason
    if messages is not None or end_reason is not None:
        fields["changed"] = repr(now)
    return fields


def flat(fields: Fields) -> list[str | bytes]:
    """Fields and values, one after the other."""
    return [part for field in fields.items() for part in field]


def parse_claim(
    stream: str, names: OfStream, pairs: Sequence[bytes], entries: Iterable[Sequence[int]], prior: bytes
) -> Claimed:
    """Parse what `claim` returned.

    Args:
        stream: its id.
        names: of its keys.
        pairs: fields and values.
        entries: last seq, count, bytes and milliseconds of each.
        prior: the term before this claim.

    Raises:
        UnreadableError: it is not what a gateway writes.
    """
    try:
        return _parse_claim(stream, names, pairs, entries, prior)
    except (ValueError, LookupError, TypeError, ArithmeticError, msgspec.MsgspecError) as error:
        why = f"no field {error}" if isinstance(error, KeyError) else str(error)
        raise UnreadableError(stream, why) from None


def _parse_claim(
    stream: str, names: OfStream, pairs: Sequence[bytes], entries: Iterable[Sequence[int]], prior: bytes
) -> Claimed:
    fields: dict[bytes, bytes] = dict(zip(pairs[::2], pairs[1::2], strict=True))
    settings = _decode_settings(fields[b"settings"])
    head = int(fields[b"head"])
    history = History(settings.retention, min(int(fields[b"floor"]), head + 1))
    for last, count, size, at in entries:
        if history.last < last <= head:
            history.add(last, size + EVENT_OVERHEAD * count, at / 1000)
    if (missing := head - history.last) > 0:  # events that the server has lost: whoever reads them gets a gap
        history.add(head, EVENT_OVERHEAD * missing, float(fields[b"changed"]))
    history.begin_piece()
    producers = sorted(
        (
            ProducerState(name[2:].decode(), *map(int, value.split(b":")))
            for name, value in fields.items()
            if name.startswith(b"p:")
        ),
        key=lambda it: it.seq,
    )
    end = cast("EndReason | None", fields[b"end"].decode() or None)
    created, changed = fields[b"created"], fields[b"changed"]
    stored = StoredStream(
        stream,
        fields[b"epoch"].decode(),
        settings,
        StoredState(history, producers, _decode_messages(fields[b"messages"]), end),
        float(created),
        float(changed),
        parse_lineage(fields[b"lineage"].decode()),
    )
    fixed: Fields = {
        "settings": fields[b"settings"],
        "created": created,
        "changed": changed,
        "lineage": fields[b"lineage"],
    }
    return Claimed(Owned(names, fields[b"term"], prior, head, fixed), stored)


def parse_lineage(text: str) -> list[Fork]:
    """Parse `EPOCH:LAST EPOCH:LAST …`; an epoch may have colons."""
    forks = (fork.rpartition(":") for fork in text.split())
    return [Fork(epoch, int(last)) for epoch, _, last in forks]


def parse_page(entries: Sequence[Any], wanted: Wanted) -> StoredPage:
    """Parse what `read` returned.

    Args:
        entries: last seq, count and events of each.
        wanted: which events.

    Returns:
        The events; none of them, and a fault, if the first is not there.
    """
    frames: list[bytes] = []
    (seq, last, size), length = wanted, 0
    for entry_last, count, data in entries:
        first = entry_last - count + 1
        if first > seq:
            if frames:
                break
            return StoredPage(min(first - 1, last), (), f"events {seq} to {min(first - 1, last)}: missing")
        held = _split(data)
        if len(held) != count or not _is_numbered(held[0], first):
            if frames:
                break
            return StoredPage(min(entry_last, last), (), f"events {seq} to {min(entry_last, last)}: corrupt")
        for frame in held[seq - first : last - first + 1]:
            if length >= size:
                return StoredPage(seq - 1, frames)
            frames.append(frame)
            length += len(frame)
            seq += 1
    if not frames:
        return StoredPage(last, (), f"events {seq} to {last}: missing")
    return StoredPage(seq - 1, frames)


def _split(data: bytes) -> list[bytes]:
    try:
        return list(split_frames(data))
    except (ValueError, IndexError):
        return []


def _is_numbered(frame: bytes, seq: int) -> bool:
    try:
        return decode_seq(frame[payload_start(frame) :]) == seq
    except msgspec.MsgspecError:
        return False
