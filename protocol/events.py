"""The event types of a stream, as values (SPEC §4).

Each type has two classes: the *data* (`TextDelta`), which a producer sends, and the *event* (`TextDeltaEvent`), which
is the data in its envelope, with the `seq` from the gateway. These classes are lenient, as a client must be: they
ignore unknown fields. The gateway decodes a producer's events with the strict subclasses from `strict_events`.
"""

# No annotation here is text (PEP 563): msgspec would compile each one at every start.
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Final, TypeAlias, TypeVar, cast

from msgspec import UNSET, Meta, Struct, UnsetType, defstruct

MAX_SEQ = 2**53 - 1
"""Largest `seq`: the largest integer that every JSON parser represents exactly (RFC 8259 §6)."""

MAX_NESTING = 64
"""Maximum nesting of an extension's data: parsers in other languages have different limits."""

MAX_KIND = 64
"""Characters of the kind of a block that its events repeat: every delta may carry it."""

Count: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_SEQ)]
Seq: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_SEQ)]
Name: TypeAlias = Annotated[str, Meta(min_length=1)]
Kind: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_KIND)]
Timestamp: TypeAlias = Annotated[datetime, Meta(tz=True)]


class EventType(StrEnum):
    """The ten event types; every client knows the first eight."""

    __hash__ = str.__hash__  # Enum.__hash__ is written in Python, and is called for every event

    TEXT_DELTA = "text_delta"
    THINKING = "thinking"
    CONTENT_START = "content_start"
    CONTENT_END = "content_end"
    MESSAGE_START = "message_start"
    MESSAGE_STOP = "message_stop"
    USAGE = "usage"
    ERROR = "error"
    TOOL_DELTA = "tool_delta"
    EXTENSION = "extension"


DELTA_TYPES = frozenset({EventType.TEXT_DELTA, EventType.THINKING, EventType.TOOL_DELTA})
"""The types that may be folded or dropped; events of all other types are always delivered."""


IMPLIED_KINDS = {EventType.TEXT_DELTA: "text", EventType.THINKING: "thinking", EventType.TOOL_DELTA: "tool_use"}
"""The kind of a delta's block, unless the delta names another: the gateway adds kinds that are not among these."""


class Data(Struct, frozen=True):
    """The data of an event, without its envelope."""

    type: ClassVar[EventType]


class TextDelta(Data, frozen=True):
    """A piece of the answer's text."""

    type: ClassVar[EventType] = EventType.TEXT_DELTA
    text: str
    index: Count | UnsetType = UNSET
    choice: Count | UnsetType = UNSET
    kind: Kind | UnsetType = UNSET


class Thinking(Data, frozen=True):
    """A piece of the model's reasoning."""

    type: ClassVar[EventType] = EventType.THINKING
    thinking: str
    index: Count | UnsetType = UNSET
    choice: Count | UnsetType = UNSET
    kind: Kind | UnsetType = UNSET


class ContentStart(Data, frozen=True):
    """A content block begins: text, thinking, tool_use or another name from the provider."""

    type: ClassVar[EventType] = EventType.CONTENT_START
    index: Count
    kind: Name | UnsetType = UNSET
    id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    choice: Count | UnsetType = UNSET


class ContentEnd(Data, frozen=True):
    """A content block is complete. The gateway adds the kind that the block began with."""

    type: ClassVar[EventType] = EventType.CONTENT_END
    index: Count
    choice: Count | UnsetType = UNSET
    kind: Kind | UnsetType = UNSET


class MessageStart(Data, frozen=True):
    """An answer begins."""

    type: ClassVar[EventType] = EventType.MESSAGE_START
    message_id: Name
    model: str | UnsetType = UNSET
    provider: str | UnsetType = UNSET
    traceparent: str | UnsetType = UNSET


class Digest(Struct, frozen=True, kw_only=True):
    """A digest with which a reader verifies that it has the whole text of a message.

    Attributes:
        first: seq of the message's first event; the message extends from there to its stop.
        characters: length of its text, in Unicode code points.
        sha256: SHA-256 of its text in UTF-8, in hexadecimal.
    """

    first: Seq
    characters: Count
    sha256: str


class MessageStop(Data, frozen=True):
    """An answer ends; `stop_reason` is an open list. The gateway adds the digest of the choice's text."""

    type: ClassVar[EventType] = EventType.MESSAGE_STOP
    message_id: Name
    stop_reason: str
    choice: Count | UnsetType = UNSET
    digest: Digest | UnsetType = UNSET


class Usage(Data, frozen=True):
    """The token counts so far. They are cumulative: the last ones of a message are final."""

    type: ClassVar[EventType] = EventType.USAGE
    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count
    cached_tokens: Count | UnsetType = UNSET
    reasoning_tokens: Count | UnsetType = UNSET


class Error(Data, frozen=True):
    """A failure upstream. Like any other event, it ends neither the message nor the stream."""

    type: ClassVar[EventType] = EventType.ERROR
    error: str
    code: str | UnsetType = UNSET
    retryable: bool | UnsetType = UNSET


class ToolDelta(Data, frozen=True):
    """A piece of a tool call's arguments."""

    type: ClassVar[EventType] = EventType.TOOL_DELTA
    index: Count
    partial_json: str
    choice: Count | UnsetType = UNSET
    kind: Kind | UnsetType = UNSET


class Extension(Data, frozen=True):
    """Provider data that has no event type of its own; it is passed on so that nothing is lost."""

    type: ClassVar[EventType] = EventType.EXTENSION
    provider: Name
    name: Name
    data: Any


class Event(Struct, kw_only=True, tag_field="type"):
    """An event in its envelope.

    Attributes:
        seq: number in the stream's epoch, 1, 2, 3 …; set by the gateway, absent in a producer's event.
        first: in a folded event, the first seq that it represents (`first … seq`, both included).
        timestamp: the producer's if it sent one, otherwise the gateway's; always has a zone.
        urgent: whether the producer marked it: it is never folded or dropped, and consumers that asked for urgent
            events get it ahead if they are behind.
        producer_seq: the producer's own number, for retries; only in a producer's event.
        data: the data of the event; each subclass has its own type.
    """

    seq: Seq | UnsetType = UNSET
    first: Seq | UnsetType = UNSET
    timestamp: Timestamp | UnsetType = UNSET
    urgent: bool | UnsetType = UNSET
    producer_seq: Seq | UnsetType = UNSET
    data: Any


class TextDeltaEvent(Event, tag="text_delta"):
    """`text_delta`."""

    data: TextDelta


class ThinkingEvent(Event, tag="thinking"):
    """`thinking`."""

    data: Thinking


class ContentStartEvent(Event, tag="content_start"):
    """`content_start`."""

    data: ContentStart


class ContentEndEvent(Event, tag="content_end"):
    """`content_end`."""

    data: ContentEnd


class MessageStartEvent(Event, tag="message_start"):
    """`message_start`."""

    data: MessageStart


class MessageStopEvent(Event, tag="message_stop"):
    """`message_stop`."""

    data: MessageStop


class UsageEvent(Event, tag="usage"):
    """`usage`."""

    data: Usage


class ErrorEvent(Event, tag="error"):
    """`error`."""

    data: Error


class ToolDeltaEvent(Event, tag="tool_delta"):
    """`tool_delta`."""

    data: ToolDelta


class ExtensionEvent(Event, tag="extension"):
    """`extension`."""

    data: Extension


EVENT_CLASSES: dict[type[Data], type[Event]] = {
    TextDelta: TextDeltaEvent,
    Thinking: ThinkingEvent,
    ContentStart: ContentStartEvent,
    ContentEnd: ContentEndEvent,
    MessageStart: MessageStartEvent,
    MessageStop: MessageStopEvent,
    Usage: UsageEvent,
    Error: ErrorEvent,
    ToolDelta: ToolDeltaEvent,
    Extension: ExtensionEvent,
}
"""The envelope class of each data class."""

TEXT_FIELDS: Final[dict[EventType, str]] = {
    EventType.TEXT_DELTA: "text",
    EventType.THINKING: "thinking",
    EventType.TOOL_DELTA: "partial_json",
}
"""Where deltas have their text. Not by class: what comes from a socket is of a stricter one."""

_BY_TYPE = {data_class.type: event_class for data_class, event_class in EVENT_CLASSES.items()}

S = TypeVar("S", bound=Struct)


def strict(base: type[S], **narrowed: Any) -> type[S]:
    """A subclass of a lenient struct that refuses unknown fields; `narrowed` gives some fields other types."""
    fields = list(narrowed.items())
    twin = defstruct(base.__name__, fields, bases=(base,), forbid_unknown_fields=True, kw_only=True)
    return cast("type[S]", twin)


def strict_events() -> list[type[Event]]:
    """The event classes with which a gateway decodes: they refuse unknown fields, in the envelope and in the data."""
    return [strict(event, data=strict(data)) for data, event in EVENT_CLASSES.items()]


def make_event(
    data: Data, *, timestamp: datetime | None = None, producer_seq: int | None = None, urgent: bool = False
) -> Event:
    """Put data into its envelope, ready to send.

    Args:
        data: the data of the event.
        timestamp: when it happened, with a zone; if None, the gateway sets it.
        producer_seq: the producer's own number, contiguous from 1, for retries without duplicates.
        urgent: whether to mark it as urgent.

    Raises:
        ValueError: the timestamp has no zone.
    """
    if timestamp is not None and timestamp.tzinfo is None:
        raise ValueError("timestamp has no zone: use datetime.now(UTC) or attach a tzinfo")
    return event_class(data.type)(
        data=data,
        timestamp=UNSET if timestamp is None else timestamp,
        producer_seq=UNSET if producer_seq is None else producer_seq,
        urgent=True if urgent else UNSET,
    )


def event_class(event_type: EventType) -> type[Event]:
    """The envelope class of a type."""
    return _BY_TYPE[event_type]


def parse_event_type(name: str) -> EventType:
    """The event type with this name on the wire.

    Raises:
        ValueError: there is no such type; the message lists the existing ones.
    """
    try:
        return EventType(name)
    except ValueError:
        raise ValueError(f"unknown event type {name!r}; the types are {', '.join(EventType)}") from None


def format_timestamp(seconds: float) -> str:
    """Format seconds since the Unix epoch as RFC 3339 in UTC, with microseconds."""
    microseconds = round(seconds * 1_000_000)
    return f"{_format_second(microseconds // 1_000_000)}.{microseconds % 1_000_000:06d}Z"


@lru_cache(maxsize=8)
def _format_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
