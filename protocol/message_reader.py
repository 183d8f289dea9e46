"""Reads one message of a stream, to say it in another protocol: events → a message with parts. Pure.

Other protocols have a beginning and an end for each part, which the events of a stream need not have: a part begins
with its first delta and ends with the message at the latest. Of several alternatives (`choice`) only the first is read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Struct, UnsetType

from deltawire.protocol.codec import JSON
from deltawire.protocol.events import (
    ContentEnd,
    ContentStart,
    Error,
    Event,
    Extension,
    MessageStart,
    MessageStop,
    TextDelta,
    Thinking,
    ToolDelta,
    Usage,
)
from deltawire.protocol.framing import payloads
from deltawire.protocol.messages import CaughtUp, Gap, Message, Problem, StreamEnd

PartKind: TypeAlias = Literal["text", "thinking", "tool"]
FinishReason: TypeAlias = Literal["stop", "length", "tool-calls", "content-filter", "cancelled", "error", "other"]

FINISH_REASONS: Final[dict[str, FinishReason]] = {
    "end_turn": "stop",
    "stop": "stop",
    "STOP": "stop",
    "stop_sequence": "stop",
    "completed": "stop",
    "success": "stop",
    "max_tokens": "length",
    "MAX_TOKENS": "length",
    "max_output_tokens": "length",
    "length": "length",
    "tool_use": "tool-calls",
    "tool_calls": "tool-calls",
    "tool-calls": "tool-calls",
    "function_call": "tool-calls",
    "content_filter": "content-filter",
    "content-filter": "content-filter",
    "refusal": "content-filter",
    "SAFETY": "content-filter",
    "RECITATION": "content-filter",
    "BLOCKLIST": "content-filter",
    "PROHIBITED_CONTENT": "content-filter",
    "SPII": "content-filter",
    "IMAGE_SAFETY": "content-filter",
    "cancelled": "cancelled",
    "error": "error",
    "incomplete": "error",
    "stalled": "error",
    "producer_lost": "error",
}
"""What the stop reasons of providers and of this project mean."""

_TEXTS: Final[dict[str, PartKind]] = {"text": "text", "thinking": "thinking"}

ENDED_EARLY: Final = "the stream ended before its message did"

_encode = msgspec.json.Encoder().encode


@lru_cache(maxsize=2)
def _decode(frames: bytes) -> tuple[Event | Message | None, ...]:
    """Decode what a consumer is sent; once for all readers at the same place, which get it one after the other."""
    return tuple(map(JSON.decode_to_consumer, payloads(frames)))


class Part(Struct):
    """A part of the message.

    Attributes:
        kind: what it is.
        id: of a tool call its own; otherwise made from its seq.
        name: of the tool.
        number: of the part in the message, from 0.
        pieces: what the reader keeps of its content.
        size: of its content, in characters.
    """

    kind: PartKind
    id: str
    name: str = ""
    number: int = 0
    pieces: list[str] = []
    size: int = 0


class MessageReader(ABC):
    """One message, from its beginning.

    Args:
        seeks: whether the consumer reads all of its stream, as it is not known where the latest message begins. Until
            it has caught up, nothing is said, and each message takes the place of the one before.
    """

    def __init__(self, *, seeks: bool = False) -> None:
        self._is_seeking = seeks
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._is_complete = False
        self._body = bytearray()
        self._has_begun = False
        self._parts: dict[int | UnsetType, Part] = {}  # in progress, by `index`, in the order in which they began
        self._part_count = 0
        self._kept = 0  # characters in pieces

    @property
    def is_done(self) -> bool:
        """Whether the message is complete, and nothing follows."""
        return self._is_complete and not self._is_seeking

    @property
    def held_bytes(self) -> int:
        """What it keeps."""
        return len(self._body) + self._kept

    def convert(self, frames: bytes) -> bytes:
        """Convert what a consumer is sent.

        Args:
            frames: whole frames, in JSON.

        Returns:
            The body that says the same, perhaps nothing.
        """
        for message in _decode(frames):
            if self._is_seeking:
                self._seek(message)
            if not self._is_complete:
                self._read(message)
        if self._is_seeking:
            return b""
        body, self._body = bytes(self._body), bytearray()
        return body

    # What a protocol says

    @abstractmethod
    def on_begin(self, start: MessageStart | None, event: Event) -> None:
        """The message begins; without a `message_start` where its deltas begin without one."""

    @abstractmethod
    def on_part(self, part: Part) -> None:
        """A part begins."""

    @abstractmethod
    def on_piece(self, part: Part, piece: str) -> None:
        """A part goes on."""

    @abstractmethod
    def on_part_end(self, part: Part) -> None:
        """A part ends."""

    @abstractmethod
    def on_usage(self, usage: Usage) -> None:
        """The tokens so far."""

    @abstractmethod
    def on_error(self, message: str) -> None:
        """A failure upstream, or that the rest of the message does not come."""

    @abstractmethod
    def on_finish(self, reason: FinishReason, stop_reason: str) -> None:
        """The message is complete."""

    @abstractmethod
    def on_extension(self, extension: Extension) -> None:
        """Something that only one provider has."""

    @abstractmethod
    def on_gap(self, gap: Gap) -> None:
        """Events are missing."""

    def say(self, data: Any, name: str = "") -> None:
        """Add an event to the body.

        Args:
            data: of the event, to be encoded in JSON.
            name: of the event, if it has one.
        """
        if name:
            self._body += b"event: %b\n" % name.encode()
        self._body += b"data: %b\n\n" % _encode(data)

    def keep(self, part: Part, piece: str) -> None:
        """Keep a piece of a part's content."""
        part.pieces.append(piece)
        self._kept += len(piece)

    def drop(self, part: Part) -> str:
        """No longer keep the content of a part, and return it."""
        content = "".join(part.pieces)
        part.pieces.clear()
        self._kept -= len(content)
        return content

    def complete(self) -> None:
        """Say nothing more."""
        self._is_complete = True

    # Reading

    def _seek(self, message: Event | Message | None) -> None:
        match message:
            case CaughtUp():
                self._is_seeking = False
            case Event(data=MessageStart()):
                self.forget()

    def _read(self, message: Event | Message | None) -> None:
        match message:
            case Event():
                choice = getattr(message.data, "choice", UNSET)
                if choice is UNSET or choice == 0:
                    self._read_event(message.data, message)
            case Gap():
                self.on_gap(message)
            case StreamEnd():
                if self._has_begun:
                    self.on_error(ENDED_EARLY)
                self.complete()
            case Problem(retryable=False):
                self._is_seeking = False
                self.on_error(message.message)
                self.complete()
            case _:
                pass  # after a problem that passes, a lost connection says more: the reader resumes

    def _read_event(self, data: Any, event: Event) -> None:
        match data:  # the most frequent ones first
            case TextDelta():
                self._grow("text", data.index, data.text, event)
            case Thinking():
                self._grow("thinking", data.index, data.thinking, event)
            case ToolDelta():
                self._grow("tool", data.index, data.partial_json, event)
            case MessageStart():
                self._begin(event, data)
            case ContentStart():
                self._start(data, event)
            case ContentEnd():
                self._end(data.index)
            case MessageStop():
                self._stop(data.stop_reason, event)
            case _:
                self._read_remark(data, event)

    def _read_remark(self, data: Any, event: Event) -> None:
        self._begin(event)
        match data:
            case Usage():
                self.on_usage(data)
            case Error():
                self.on_error(data.error)
            case Extension():
                self.on_extension(data)

    def _begin(self, event: Event, start: MessageStart | None = None) -> None:
        if not self._has_begun:
            self._has_begun = True
            self.on_begin(start, event)

    def _start(self, data: ContentStart, event: Event) -> None:
        kind = data.kind
        if kind is not UNSET and (known := _TEXTS.get(kind)):
            self._open(data.index, Part(known, f"part-{event.seq}"), event)
        elif data.name is not UNSET or (kind is not UNSET and kind.endswith("tool_use")):
            self._open(data.index, Part("tool", data.id or f"part-{event.seq}", data.name or "tool"), event)

    def _open(self, index: int | UnsetType, part: Part, event: Event) -> Part:
        self._begin(event)
        self._end(index)
        part.number = self._part_count
        self._part_count += 1
        self._parts[index] = part
        self.on_part(part)
        return part

    def _grow(self, kind: PartKind, index: int | UnsetType, piece: str, event: Event) -> None:
        part = self._find(kind, index)
        if part is None:
            name = "tool" if kind == "tool" else ""
            seq = event.seq if event.first is UNSET else event.first  # the same id, folded or not
            part = self._open(index, Part(kind, f"part-{seq}", name), event)
        part.size += len(piece)
        self.on_piece(part, piece)

    def _find(self, kind: PartKind, index: int | UnsetType) -> Part | None:
        """Find the part that a delta goes on; one without an index goes on the latest part of its kind."""
        part = self._parts.get(index)
        if part is None and index is UNSET:
            return next((it for it in reversed(self._parts.values()) if it.kind == kind), None)
        return part if part is not None and part.kind == kind else None

    def _end(self, index: int | UnsetType) -> None:
        part = self._parts.pop(index, None)
        if part is not None:
            self.on_part_end(part)

    def _stop(self, stop_reason: str, event: Event) -> None:
        self._begin(event)
        for index in tuple(self._parts):
            self._end(index)
        self.on_finish(FINISH_REASONS.get(stop_reason, "other"), stop_reason)
        self.complete()
