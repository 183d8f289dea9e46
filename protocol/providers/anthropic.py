"""Anthropic Messages, streamed: server-sent events into deltawire events.

| on the wire | events |
|---|---|
| `message_start` | `message_start`, `usage` |
| `content_block_start` | `content_start` with the block's type as kind; initial text, thinking or input as deltas |
| `content_block_delta` | `text_delta`, `thinking` or `tool_delta` |
| `content_block_stop` | `content_end` |
| `message_delta` | `usage`; its stop reason is kept for `message_stop` |
| `message_stop` | `content_end` of open blocks, `message_stop` |
| `error` | `error`; if the body ends after it, `message_stop` with reason `error` |
| end of the body, or another `message_start`, before a stop | `content_end`, `message_stop` with reason `incomplete` |

Everything else becomes an extension that contains the provider's JSON without the fields that the events above cover.
Its name is the innermost type: `signature_delta`, `citations_delta`, `redacted_thinking`, `web_search_tool_result`, or
an unknown event type. Extensions named `message_start`, `message_delta` and `message_stop` contain the remaining fields
of these (`stop_sequence`, `stop_details`, …; also a stop reason whose message never stopped). `usage` contains the
whole usage object, if it has more than the counts: cache writes, service tier, server tools.

Usage is cumulative, field by field: prompt = input + cache creation + cache read, and total = prompt + completion.

Dropped, because they carry no information: `ping`; null and empty fields and deltas; `type: message` and
`role: assistant`; the stop of a block or message that is not open; usage that repeats the last one; the name of an
event that also has a type.

If the stream is broken, a block or message without a start is started (the message as `anthropic-1`, by its number in
the stream); a stop without any reason gets the reason `unknown`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from msgspec import UNSET, Struct, field, json

from deltawire.protocol.events import ContentEnd, ContentStart, Data, MessageStop, Usage
from deltawire.protocol.providers.bounds import make_arguments, make_text, make_thinking
from deltawire.protocol.providers.fields import Fields
from deltawire.protocol.providers.translator import SseTranslator

_COUNTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
_THINKING_COUNT = "thinking_tokens"


class _Message(Struct):
    """The message that is open.

    Attributes:
        id: its id.
        blocks: the indices of the open blocks, in order of opening.
        stop_reason: the provider's stop reason, once it is known.
        counts: the latest value of each token count, by the provider's name.
    """

    id: str
    blocks: dict[int, None] = field(default_factory=dict)
    stop_reason: str | None = None
    counts: dict[str, int] = field(default_factory=dict)


class AnthropicMessages(SseTranslator):
    """Translates one streamed response of the Messages API."""

    provider: ClassVar[str] = "anthropic"
    retryable: ClassVar[Mapping[str, bool]] = {
        "api_error": True,
        "overloaded_error": True,
        "rate_limit_error": True,
        "timeout_error": True,
        "authentication_error": False,
        "billing_error": False,
        "invalid_request_error": False,
        "not_found_error": False,
        "permission_error": False,
        "request_too_large": False,
    }

    def __init__(self) -> None:
        super().__init__()
        self._message: _Message | None = None

    def _take(self, event: str, payload: Fields) -> None:
        kind = "error" if event == "error" else payload.peek("type") or event
        name = kind
        if handler := self._HANDLERS.get(kind):
            payload.drop("type", kind)
            name = handler(self, payload)
        if rest := payload.left():
            self._extend(name, rest)

    # Handlers of the provider's events. Each returns a name for the extension with the remaining fields.

    def _start_message(self, payload: Fields) -> str:
        self._close()
        fields = payload.object("message")
        fields.drop("type", "message")
        fields.drop("role", "assistant")
        message = self._open(fields.label("id"), fields.label("model"))
        message.stop_reason = fields.label("stop_reason")
        self._take_usage(message, fields.object("usage"))
        return "message_start"

    def _start_block(self, payload: Fields) -> str:
        index = payload.count("index")
        if index is None:
            return "content_block_start"
        block = payload.object("content_block")
        kind = block.label("type")
        self._end_block(index)  # started twice: end the first one
        self._open_block(index, kind, block.label("id"), block.label("name"))
        if kind in self._CONTENT:
            name, make = self._CONTENT[kind]
            self._emit(*make(block.text(name), index))
        elif kind is not None and kind.endswith("tool_use"):
            arguments = block.object("input")
            if arguments.source:
                self._emit(*make_arguments(json.encode(arguments.source).decode(), index))
            arguments.drop_all()
        return kind or "content_block_start"

    def _take_delta(self, payload: Fields) -> str:
        index = payload.count("index")
        delta = payload.object("delta")
        name = delta.peek("type") or "content_block_delta"
        if index is not None and name in self._DELTAS:
            delta.label("type")
            text_name, kind, make = self._DELTAS[name]
            if text := delta.text(text_name):
                if index not in self._open().blocks:
                    self._open_block(index, kind)
                self._emit(*make(text, index))
        return name

    def _stop_block(self, payload: Fields) -> str:
        index = payload.count("index")
        if index is not None:
            self._end_block(index)
        return "content_block_stop"

    def _take_message_delta(self, payload: Fields) -> str:
        message = self._open()
        message.stop_reason = payload.object("delta").label("stop_reason") or message.stop_reason
        self._take_usage(message, payload.object("usage"))
        return "message_delta"

    def _stop_message(self, payload: Fields) -> str:
        if rest := payload.left():
            self._extend("message_stop", rest)
            payload.drop_all()
        if self._message is not None:
            self._stop(self._message, self._message.stop_reason or ("error" if self._failed else "unknown"))
        return "message_stop"

    def _fail_message(self, payload: Fields) -> str:
        self._take_error(payload)
        return "error"

    def _drop(self, _payload: Fields) -> str:
        return "ping"

    _HANDLERS: ClassVar[dict[str, Callable[[AnthropicMessages, Fields], str]]] = {
        "message_start": _start_message,
        "content_block_start": _start_block,
        "content_block_delta": _take_delta,
        "content_block_stop": _stop_block,
        "message_delta": _take_message_delta,
        "message_stop": _stop_message,
        "error": _fail_message,
        "ping": _drop,
    }

    _CONTENT: ClassVar[dict[str, tuple[str, Callable[[str, int], Sequence[Data]]]]] = {
        "text": ("text", make_text),
        "thinking": ("thinking", make_thinking),
    }
    """By type of block: the field with its initial content, and the function that makes events of it."""

    _DELTAS: ClassVar[dict[str, tuple[str, str, Callable[[str, int], Sequence[Data]]]]] = {
        "text_delta": ("text", "text", make_text),
        "thinking_delta": ("thinking", "thinking", make_thinking),
        "input_json_delta": ("partial_json", "tool_use", make_arguments),
    }
    """By type of delta: its field, the kind of its block, and the function that makes events of it."""

    # The message and its blocks

    def _open(self, message_id: str | None = None, model: str | None = None) -> _Message:
        """The open message; start one if none is open."""
        if self._message is None:
            self._messages += 1
            self._message = _Message(message_id or f"{self.provider}-{self._messages}")
            self._emit_start(self._message.id, model)
        return self._message

    def _open_block(self, index: int, kind: str | None, block_id: str | None = None, name: str | None = None) -> None:
        self._open().blocks[index] = None
        self._emit(ContentStart(index, kind or UNSET, block_id or UNSET, name or UNSET))

    def _end_block(self, index: int) -> None:
        if self._message is not None and index in self._message.blocks:
            del self._message.blocks[index]
            self._emit(ContentEnd(index))

    def _take_usage(self, message: _Message, usage: Fields) -> None:
        details = usage.object("output_tokens_details")
        for name, fields in (*((name, usage) for name in _COUNTS), (_THINKING_COUNT, details)):
            count = fields.count(name)
            if count is not None:
                message.counts[name] = count
        if usage.source.get("cache_creation_input_tokens"):
            usage.keep("cache_creation_input_tokens")  # the prompt count alone does not show it
        self._emit_usage(_make_usage(message.counts), usage)

    def _stop(self, message: _Message, stop_reason: str) -> None:
        for index in tuple(message.blocks):
            self._end_block(index)
        self._emit(MessageStop(message.id, stop_reason))
        self._message = None
        self._forget_message()

    def _close(self) -> None:
        if self._message is None:
            return
        if self._message.stop_reason is not None:
            self._extend("message_delta", {"delta": {"stop_reason": self._message.stop_reason}})
        self._stop(self._message, "error" if self._failed else "incomplete")


def _make_usage(counts: Mapping[str, int]) -> Usage | None:
    """Usage from the provider's counts; None if there are none."""
    if not counts:
        return None
    *prompt, completion = (counts.get(name, 0) for name in _COUNTS)
    return Usage(
        prompt_tokens=sum(prompt),
        completion_tokens=completion,
        total_tokens=sum(prompt) + completion,
        cached_tokens=counts.get("cache_read_input_tokens", UNSET),
        reasoning_tokens=counts.get(_THINKING_COUNT, UNSET),
    )
