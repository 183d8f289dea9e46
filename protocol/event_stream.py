"""Server-sent events: the encoding of consumers that read over plain HTTP (SPEC §9.3, WHATWG HTML §9.2).

An event of the stream has no `event` field, so `onmessage` of an EventSource gets it; control messages are named by
their type. `id` is the reader's position after the message, which EventSource sends back as `Last-Event-ID`.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from deltawire.protocol.messages import CaughtUp, Gap, Message, StreamEnd, Subscribed
from deltawire.protocol.position import Position, parse_seq

CONTENT_TYPE: Final = "text/event-stream"

COMMENT: Final = b":\n\n"
"""A sign of life that no reader sees, for proxies that end silent connections."""

_encode = msgspec.json.Encoder().encode


class Body(Struct, frozen=True):
    """How the body of a response is framed.

    Attributes:
        is_chunked: whether it is sent in chunks (RFC 9112 §7.1). HTTP/1.0 has none: the end of the connection ends the
            body.
    """

    is_chunked: bool

    def pack(self, data: bytes) -> bytes:
        """A piece of the body, not empty."""
        return b"%x\r\n%b\r\n" % (len(data), data) if self.is_chunked else data

    def end(self) -> bytes:
        """What ends the body, apart from the end of the connection."""
        return b"0\r\n\r\n" if self.is_chunked else b""


class EventStream(Struct, frozen=True):
    """The encoding of one epoch's events; equal ones share what they encode.

    Attributes:
        epoch: of the log.
        body: where they go, one chunk each.
    """

    epoch: str
    body: Body

    def relay(self, payload: bytes, seq: int) -> bytes:
        """An event that the gateway encoded in JSON."""
        return self.body.pack(b"id: %b.%d\ndata: %b\n\n" % (self.epoch.encode(), seq, payload))

    def relay_folded(self, event: Struct, seq: int) -> bytes:
        """A folded event."""
        return self.relay(_encode(event), seq)

    def frame(self, message: Message) -> bytes:
        """A control message."""
        name = str(message.__struct_config__.tag).encode()
        seq = _position_after(message)
        position = b"" if seq is None else b"id: %b.%d\n" % (self.epoch.encode(), seq)
        return self.body.pack(b"event: %b\n%bdata: %b\n\n" % (name, position, _encode(message)))


def retry(milliseconds: int) -> bytes:
    """How long EventSource is to wait before it connects again."""
    return b"retry: %d\n\n" % milliseconds


def _position_after(message: Message) -> int | None:
    """The seq up to which a reader has everything after this message; None if it does not say."""
    match message:
        case Subscribed():
            return message.after
        case CaughtUp() | Gap() | StreamEnd():
            return message.seq
        case _:
            return None


def parse_event_id(text: str) -> Position:
    """The position that `Last-Event-ID` has.

    Raises:
        ValueError: it is no id of this protocol, `{epoch}.{seq}`.
    """
    epoch, _, seq = text.rpartition(".")
    try:
        position = Position(epoch, parse_seq(seq))
    except ValueError:
        epoch = ""
    if not epoch:
        raise ValueError(f"expected the id of an event, EPOCH.SEQ, got {text!r}")
    return position
