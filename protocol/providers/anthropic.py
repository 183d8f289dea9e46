"""Anthropic Messages, streamed: server-sent events into deltawire events.

| on the wire | events |
|---|---|
| `message_start` | `message_start`, `usage` |
| `content_block_start` | `content_start` with the block's type as kind; initial text, thinking or input as deltas |
| `content_block_delta` | `text_delta`, `thinking` or `tool_delta` |
| `content_block_stop` | `content_end` |
| `message_delta` | `usage`; its stop reason waits for `message_stop` |
| `message_stop` | `content_end` of blocks still open, `message_stop` |
| `error`, or what else tells a failure (`not_a_stream`) | `error`; a body that ends after it gets `message_stop` with \
reason `error` |
| end of the body or the `message_start` of another message before that | `content_end`, `message_stop` with reason \
`incomplete` |
| `message`, whole, in place of a stream | as if it came in events |

Everything else becomes an extension that contains the provider's JSON without the fields that the events above cover.
Its name is the innermost type: `signature_delta`, `citations_delta`, `redacted_thinking`, `web_search_tool_result`, or
an unknown event type. Extensions named `message_start`, `message_delta` and `message_stop` contain the remaining fields
of these (`stop_sequence`, `stop_details`, …; also a stop reason whose message never stopped). `usage` contains the
whole usage object, if it has more than the counts: cache writes, service tier, server tools.

Usage is cumulative, field by field: prompt = input + cache creation + cache read, and total = prompt + completion.

Dropped, because they carry no information: `ping`; null and empty fields and deltas; `type: message` and
`role: assistant`; the stop of a block or message that is not open; usage that repeats the last one; the name of an
event that also has a type.

Where the stream itself is broken: a block or message whose start is missing is started (the message as
`anthropic-BODY-NUMBER`, by what makes ids unique, if that is given, and its number in the body); a stop without any
reason has the reason `unknown`; a message of which a part was torn stops with `error`. A `message_start` amid a message
is of that message when it comes before any block or has its id, and otherwise when the next event goes on with a block
or the end of that message: what it says beyond usage is an extension, as the message has its id already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from msgspec import UNSET

from deltawire.protocol.events import Usage
from deltawire.protocol.providers.anthropic_whole import events_of
from deltawire.protocol.providers.fields import Fields
from deltawire.protocol.providers.halves import encode_json
from deltawire.protocol.providers.typed_events import Message, TypedTranslator

_COUNTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
_THINKING_COUNT = "thinking_tokens"


class AnthropicMessages(TypedTranslator):
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

    def __init__(self, *, body: str = "", inline_thinking: bool = False) -> None:
        super().__init__(body=body, inline_thinking=inline_thinking)
        self._second: Fields | None = None  # a start amid a message, or due: what comes next tells whose it is
        self._is_start_due = False  # whether the message that has stopped last had none

    def _prepare(self, payload: Fields) -> None:
        if self._second is not None:
            self._settle_second(self._kind, payload)

    # What the events of the provider do. Each returns the name for what is left of it.

    def _start_message(self, payload: Fields) -> str:
        message = self._message
        if message is None and not self._is_start_due:
            self._begin(payload)
        elif message is not None and (
            not message.blocks.seen or payload.object("message").peek("id") in (None, message.id)
        ):
            self._begin_again(message, payload)
        else:
            self._second = Fields(payload.source)
            payload.drop_all()
        return "message_start"

    def _begin(self, payload: Fields) -> None:
        """A message starts."""
        fields = payload.object("message")
        self._take_start(self._open(fields.label("id"), fields.label("model")), fields)

    def _begin_again(self, message: Message, payload: Fields) -> None:
        """The start of a message comes late, or another time; what it says that was not told is left."""
        fields = payload.object("message")
        fields.drop("id", message.id)
        fields.drop("model", message.model)
        self._take_start(message, fields)

    def _take_start(self, message: Message, fields: Fields) -> None:
        fields.drop("type", "message")
        fields.drop("role", "assistant")
        message.has_started = True
        message.stop_reason = fields.label("stop_reason") or message.stop_reason
        self._take_usage(fields.object("usage"))

    def _settle_second(self, kind: str, payload: Fields) -> None:
        """Decide whether the start that waits is of the message that is open, by the event that follows it."""
        message, second, index = self._message, self._second, Fields(payload.source).count("index")
        if second is None or kind not in self.HANDLERS or kind == "ping":
            return
        self._second = None
        if message is None:
            is_same = False
        elif kind == "content_block_start":
            is_same = index not in message.blocks.seen
        elif kind in ("content_block_delta", "content_block_stop"):
            is_same = index in message.blocks
        else:
            is_same = kind != "message_start"
        self._take_second(message, second, is_same=is_same)

    def _take_second(self, message: Message | None, second: Fields, *, is_same: bool) -> None:
        second.drop("type", "message_start")
        if not is_same:
            self._close()
            self._begin(second)
        elif message is not None:
            self._begin_again(message, second)
        self._extend_left("message_start", second)

    def _take_whole(self, payload: Fields) -> str:
        """A message that comes whole, as if it came in events."""
        if payload.peek("id") == self._stopped or not isinstance(payload.source.get("content"), list):
            return "message"
        payload.drop_all()
        for event in events_of(payload.source):
            self._take("", Fields(event))
        return "message"

    def _start_block(self, payload: Fields) -> str:
        index = payload.count("index")
        if index is None:
            return "content_block_start"
        block = payload.object("content_block")
        kind = block.label("type")
        blocks = self._open().blocks
        blocks.start(index, kind, block.label("id"), block.label("name"), index=index)
        if kind in self._CONTENT:
            blocks.say(index, kind, block.text(kind))
        elif kind is not None and kind.endswith("tool_use"):
            blocks.say(index, "arguments", _read_json(block, "input"))
        return kind or "content_block_start"

    def _take_delta(self, payload: Fields) -> str:
        index = payload.count("index")
        delta = payload.object("delta")
        name = delta.peek("type") or "content_block_delta"
        if index is not None and name in self._DELTAS:
            delta.label("type")
            text_name, kind, said = self._DELTAS[name]
            if text := _read_json(delta, text_name) if said == "arguments" else delta.text(text_name):
                blocks = self._open().blocks
                if index not in blocks:
                    blocks.start(index, kind, index=index)
                blocks.say(index, said, text)
        return name

    def _stop_block(self, payload: Fields) -> str:
        index = payload.count("index")
        if index is not None and self._message is not None:
            self._message.blocks.end(index)
        return "content_block_stop"

    def _take_message_delta(self, payload: Fields) -> str:
        message = self._open()
        message.stop_reason = payload.object("delta").label("stop_reason") or message.stop_reason
        self._take_usage(payload.object("usage"))
        return "message_delta"

    def _stop_message(self, payload: Fields) -> str:
        self._extend_left("message_stop", payload)
        if self._is_torn:
            self._close()
        elif self._message is not None:
            self._stop(self._message, self._message.stop_reason or ("error" if self._failed else "unknown"))
        return "message_stop"

    def _fail_message(self, payload: Fields) -> str:
        self._take_error(payload)
        return "error"

    def _drop(self, _payload: Fields) -> str:
        return "ping"

    HANDLERS: ClassVar[dict[str, Callable[[AnthropicMessages, Fields], str]]] = {
        "message_start": _start_message,
        "content_block_start": _start_block,
        "content_block_delta": _take_delta,
        "content_block_stop": _stop_block,
        "message_delta": _take_message_delta,
        "message_stop": _stop_message,
        "message": _take_whole,
        "error": _fail_message,
        "ping": _drop,
    }

    _CONTENT = frozenset({"text", "thinking"})
    """Types of blocks that may bring content at their start, in the field of that name."""

    _DELTAS: ClassVar[dict[str, tuple[str, str, str]]] = {
        "text_delta": ("text", "text", "text"),
        "thinking_delta": ("thinking", "thinking", "thinking"),
        "input_json_delta": ("partial_json", "tool_use", "arguments"),
    }
    """By type of delta: its field, the kind of block it belongs to, and what it says."""

    # The message and its blocks

    def _open(self, message_id: str | None = None, model: str | None = None) -> Message:
        if self._message is not None:
            return self._message
        self._is_start_due = False
        return super()._open(message_id, model)

    def _forget_message(self) -> None:
        super()._forget_message()
        self._counts: dict[str, int] = {}  # the last of each, by the provider's name

    def _take_usage(self, usage: Fields) -> None:
        details = usage.object("output_tokens_details")
        for name, fields in (*((name, usage) for name in _COUNTS), (_THINKING_COUNT, details)):
            count = fields.amount(name)
            if count is not None:
                self._counts[name] = count
        if usage.source.get("cache_creation_input_tokens"):
            usage.keep("cache_creation_input_tokens")  # the prompt count alone does not show it
        self._emit_usage(_make_usage(self._counts), usage)

    def _stop(self, message: Message, stop_reason: str) -> None:
        super()._stop(message, stop_reason)
        self._is_start_due = not message.has_started

    def _close(self) -> None:
        second, self._second = self._second, None
        if second is not None:
            is_same = self._message is None or not self._message.has_started
            self._take_second(self._message, second, is_same=is_same)
        if self._message is not None and self._message.stop_reason is not None:
            self._extend("message_delta", {"delta": {"stop_reason": self._message.stop_reason}})
        super()._close()


def _read_json(fields: Fields, name: str) -> str:
    """Arguments as text, which may be an object in its place; an empty one says nothing."""
    value = fields.source.get(name)
    if isinstance(value, dict):
        fields.drop(name)
        return encode_json(value) if value else ""
    return fields.text(name) if name != "input" or str(value).lstrip().startswith("{") else ""


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
