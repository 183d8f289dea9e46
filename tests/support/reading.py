"""What the tests of the core share: reading what `Subscription.take` returns, and making events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from deltawire.gateway.streams.log import Ledger
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.stream import Stream
from deltawire.gateway.streams.subscription import Subscription
from deltawire.protocol.addresses import SubscribeRequest, parse_subscribe
from deltawire.protocol.codec import JSON, Codec
from deltawire.protocol.events import Data, Event, TextDelta, Thinking, ToolDelta
from deltawire.protocol.messages import Gap, Message

STAMP = "2026-11-22T11:00:00.123456Z"

M = TypeVar("M")


@dataclass(frozen=True)
class Frame:
    """One frame as it stood on the wire."""

    data: bytes
    first_byte: int
    message: Event | Message


def split_frames(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """First byte, whole frame and payload of each frame, read as RFC 6455 §5.2 says; no byte may be left over."""
    at = 0
    while at < len(data):
        assert data[at] in (0x81, 0x82), "final, unfragmented, text or binary"
        length, start = data[at + 1], at + 2
        assert length < 0x80, "a server's frames are not masked"
        if length == 126:
            length, start = int.from_bytes(data[at + 2 : at + 4]), at + 4
            assert length >= 126, "the shortest header is used"
        elif length == 127:
            length, start = int.from_bytes(data[at + 2 : at + 10]), at + 10
            assert length > 0xFFFF, "the shortest header is used"
        end = start + length
        assert end <= len(data), "a frame is cut off"
        yield data[at], data[at:end], data[start:end]
        at = end


def read_frames(data: bytes, codec: Codec = JSON) -> list[Frame]:
    """The frames of what `take` returned, decoded."""
    frames = []
    for first_byte, whole, payload in split_frames(data):
        assert first_byte == codec.first_byte
        message = codec.decode_to_consumer(payload)
        assert message is not None, payload
        frames.append(Frame(whole, first_byte, message))
    return frames


def drain(subscription: Subscription, size: int = 1 << 20) -> list[Event | Message]:
    """Everything a subscription has to say now."""
    messages: list[Event | Message] = []
    codec = subscription.view.codec
    assert isinstance(codec, Codec), "it is read as frames"
    while (data := subscription.take(size)) != b"":
        messages += [frame.message for frame in read_frames(data or b"", codec)]
    return messages


def only(kind: type[M], messages: list[Event | Message]) -> list[M]:
    """The messages of one kind."""
    return [message for message in messages if isinstance(message, kind)]


def spans(messages: list[Event | Message]) -> list[tuple[int, int] | str]:
    """Each message as its span of seqs, events as `(first, seq)`, gaps as `reason first-seq`; others left out."""
    found: list[tuple[int, int] | str] = []
    for message in messages:
        if isinstance(message, Event):
            assert isinstance(message.seq, int)
            first = message.first if isinstance(message.first, int) else message.seq
            found.append((first, message.seq))
        elif isinstance(message, Gap):
            found.append(f"{message.reason} {message.first}-{message.seq}")
    return found


def delta_text(data: Data) -> str | None:
    """The text of a delta; None for what is not one."""
    match data:
        case TextDelta(text=text):
            return text
        case Thinking(thinking=text):
            return text
        case ToolDelta(partial_json=text):
            return text
        case _:
            return None


def make_stream(settings: StreamSettings | None = None, stream_id: str = "s", epoch: str = "e1") -> Stream:
    """A stream by itself."""
    return Stream(stream_id, epoch, settings or StreamSettings(), 0.0, Ledger())


def publish(stream: Stream, *data: Data, now: float = 0.0) -> None:
    """Append events."""
    for item in data:
        stream.append(item, STAMP, now)


def texts(*pieces: str) -> list[Data]:
    """Text deltas of block 0."""
    return [TextDelta(piece, 0) for piece in pieces]


def numbered(first: int, last: int) -> list[Data]:
    """Text deltas of block 0 that say their own seq."""
    return texts(*(f"{seq};" for seq in range(first, last + 1)))


def ask(query: str = "") -> SubscribeRequest:
    """A request as it comes in a URL."""
    return parse_subscribe(query)


def live(stream: Stream, query: str = "", codec: Codec = JSON) -> Subscription:
    """A subscription that has taken everything there is."""
    subscription = stream.subscribe(ask(query), codec, now=0.0)
    drain(subscription)
    return subscription
