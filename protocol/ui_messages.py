"""One message in the AI SDK's UI message stream, which its `useChat` reads (SPEC §9.4): events → chunks. Pure.

The chunks of a part need a beginning and an end, which the events of a stream need not have: parts begin with their
first delta and end with the message at the latest. Of several alternatives (`choice`) only the first is shown.
"""

from __future__ import annotations

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

HEADER: Final = {"x-vercel-ai-ui-message-stream": "v1"}
"""How its readers know it; the same for versions 5 to 7 of the AI SDK."""

DONE: Final = b"data: [DONE]\n\n"

MAX_INPUT: Final = 1024 * 1024
"""Characters of a tool call's arguments that are kept in order to parse them."""

FINISH_REASONS: Final = {
    "end_turn": "stop",
    "stop": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "length": "length",
    "tool_use": "tool-calls",
    "tool_calls": "tool-calls",
    "function_call": "tool-calls",
    "content_filter": "content-filter",
    "refusal": "content-filter",
    "error": "error",
    "incomplete": "error",
    "stalled": "error",
    "producer_lost": "error",
}

PartKind: TypeAlias = Literal["text", "reasoning", "tool-input"]

_encode = msgspec.json.Encoder().encode


class _Part(Struct):
    """A part of the message that has begun."""

    kind: PartKind
    id: str
    name: str = ""
    input: list[str] = []
    size: int = 0  # of the input, in characters


class UiMessage:
    """The chunks of one message, from its beginning.

    Args:
        seeks: whether the consumer reads all of its stream, as it is not known where the latest message begins. Until
            it has caught up, nothing is said, and each message takes the place of the one before.
    """

    def __init__(self, *, seeks: bool = False) -> None:
        self._is_seeking = seeks
        self._forget()

    def _forget(self) -> None:
        self._is_complete = False
        self._body = bytearray()
        self._has_begun = False
        self._input_size = 0
        self._parts: dict[int | UnsetType, _Part] = {}  # by `index`, in the order in which they began

    @property
    def is_done(self) -> bool:
        """Whether the message is complete, and nothing follows."""
        return self._is_complete and not self._is_seeking

    @property
    def held_bytes(self) -> int:
        """What it keeps: chunks that are not said yet, and tool calls in progress."""
        return len(self._body) + self._input_size

    def convert(self, frames: bytes) -> bytes:
        """Convert what a consumer is sent.

        Args:
            frames: whole frames, in JSON.

        Returns:
            The body that says the same, perhaps nothing.
        """
        for payload in payloads(frames):
            self._take(JSON.decode_to_consumer(payload))
        if self._is_seeking:
            return b""
        body, self._body = bytes(self._body), bytearray()
        return body

    def _take(self, message: Event | Message | None) -> None:
        match message:
            case CaughtUp():
                self._is_seeking = False
            case Event(data=MessageStart()) if self._is_seeking:
                self._forget()
        if not self._is_complete:
            self._say(message)

    def _say(self, message: Event | Message | None) -> None:
        match message:
            case Event(data=data, seq=int(seq)):
                if getattr(data, "choice", UNSET) in (UNSET, 0):
                    self._take_event(data, seq)
            case Gap():
                data = {"first": message.first, "seq": message.seq, "reason": message.reason}
                self._emit("data-gap", data=data, transient=True)
            case StreamEnd():
                self._end_early()
            case Problem(retryable=False):
                self._is_seeking = False
                self._emit("error", errorText=message.message)
                self._complete()
            case _:
                pass  # after a problem that passes, a lost connection says more: the reader resumes

    def _take_event(self, data: Any, seq: int) -> None:
        match data:
            case MessageStart():
                self._begin(data.message_id)
            case ContentStart():
                self._start(data, seq)
            case TextDelta():
                self._add_text("text", data.index, data.text, seq)
            case Thinking():
                self._add_text("reasoning", data.index, data.thinking, seq)
            case ToolDelta():
                self._add_input(data, seq)
            case ContentEnd():
                self._end(data.index)
            case MessageStop():
                self._stop(data.stop_reason)
            case _:
                self._take_remark(data)

    def _take_remark(self, data: Any) -> None:
        """Pass on what is not a part of the message."""
        match data:
            case Usage():
                self._begin()
                self._emit("message-metadata", messageMetadata={"usage": _usage(data)})
            case Error():
                self._emit("error", errorText=data.error)
            case Extension():
                extension = {"provider": data.provider, "name": data.name, "data": data.data}
                self._emit("data-extension", data=extension, transient=True)

    def _emit(self, kind: str, **fields: Any) -> None:
        self._body += b"data: %b\n\n" % _encode({"type": kind, **fields})

    def _complete(self) -> None:
        self._body += DONE
        self._is_complete = True

    # The message

    def _begin(self, message_id: str = "") -> None:
        if not self._has_begun:
            self._has_begun = True
            self._emit("start", **({"messageId": message_id} if message_id else {}))
            self._emit("start-step")

    def _stop(self, stop_reason: str) -> None:
        self._begin()
        for index in tuple(self._parts):
            self._end(index)
        self._emit("finish-step")
        if stop_reason == "cancelled":
            self._emit("abort", reason=stop_reason)
        else:
            self._emit("finish", finishReason=FINISH_REASONS.get(stop_reason, "other"))
        self._complete()

    def _end_early(self) -> None:
        """End with the stream, though the message has no end."""
        if self._has_begun:
            self._emit("error", errorText="the stream ended before its message did")
        self._complete()

    # Its parts

    def _start(self, data: ContentStart, seq: int) -> None:
        kind = data.kind
        if kind == "text":
            self._open(data.index, _Part("text", str(seq)))
        elif kind == "thinking":
            self._open(data.index, _Part("reasoning", str(seq)))
        elif data.name is not UNSET or (kind is not UNSET and kind.endswith("tool_use")):
            name = data.name or "tool"
            self._open(data.index, _Part("tool-input", data.id or f"tool-{seq}", str(name)))

    def _open(self, index: int | UnsetType, part: _Part) -> None:
        self._begin()
        self._end(index)
        self._parts[index] = part
        if part.kind == "tool-input":
            self._emit("tool-input-start", toolCallId=part.id, toolName=part.name)
        else:
            self._emit(f"{part.kind}-start", id=part.id)

    def _add_text(self, kind: PartKind, index: int | UnsetType, text: str, seq: int) -> None:
        part = self._find(kind, index)
        if part is None:
            part = _Part(kind, str(seq))
            self._open(index, part)
        self._emit(f"{kind}-delta", id=part.id, delta=text)

    def _add_input(self, data: ToolDelta, seq: int) -> None:
        part = self._find("tool-input", data.index)
        if part is None:
            part = _Part("tool-input", f"tool-{seq}", "tool")
            self._open(data.index, part)
        part.size += len(data.partial_json)
        if part.size <= MAX_INPUT:
            part.input.append(data.partial_json)
            self._input_size += len(data.partial_json)
        self._emit("tool-input-delta", toolCallId=part.id, inputTextDelta=data.partial_json)

    def _find(self, kind: PartKind, index: int | UnsetType) -> _Part | None:
        """Find the part that a delta goes on; one without an index goes on the latest part of its kind."""
        part = self._parts.get(index)
        if part is None and index is UNSET:
            return next((it for it in reversed(self._parts.values()) if it.kind == kind), None)
        return part if part is not None and part.kind == kind else None

    def _end(self, index: int | UnsetType) -> None:
        part = self._parts.pop(index, None)
        if part is None:
            return
        if part.kind != "tool-input":
            self._emit(f"{part.kind}-end", id=part.id)
            return
        text = "".join(part.input)
        self._input_size -= len(text)
        called = {"toolCallId": part.id, "toolName": part.name}
        if part.size > MAX_INPUT:
            self._emit("tool-input-error", **called, input=None, errorText=f"over {MAX_INPUT} characters")
            return
        try:
            self._emit("tool-input-available", **called, input=msgspec.json.decode(text or "{}"))
        except msgspec.DecodeError as error:
            self._emit("tool-input-error", **called, input=text, errorText=f"the arguments are not JSON: {error}")


def _usage(data: Usage) -> dict[str, int]:
    usage = {
        "inputTokens": data.prompt_tokens,
        "outputTokens": data.completion_tokens,
        "totalTokens": data.total_tokens,
        "cachedInputTokens": data.cached_tokens,
        "reasoningTokens": data.reasoning_tokens,
    }
    return {name: count for name, count in usage.items() if count is not UNSET}
