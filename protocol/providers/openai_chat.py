"""OpenAI Chat Completions, streamed, from OpenAI and from other servers with this format.

| on the wire | events |
|---|---|
| first chunk with an id or a choice | `message_start` |
| `delta.content` | `text_delta` in a block of kind `text` |
| `delta.reasoning_content` or `delta.reasoning` | `thinking` in a block of kind `thinking` |
| `delta.refusal` | `text_delta` in a block of kind `refusal`: terminals show it, programs can distinguish it |
| `delta.tool_calls[]`, `delta.function_call` | `tool_delta` in a block of kind `tool_use`, one for each call |
| `finish_reason` | `content_end` of the choice's open blocks; the reason is kept for the end of the message |
| `usage`, on any chunk | `usage` |
| `error` in a chunk, or `event: error` | `error` |
| `[DONE]` or the end of the body | for every choice `content_end` of open blocks, `message_stop` |

*Blocks.* The format has no blocks, so the translator makes them, separately for each choice, numbered from 0 in order
of opening. Text, thinking and refusal alternate: one block ends where another, or a tool call, begins. Tool calls run
in parallel: they are identified by `index` (if it is missing, by id, otherwise the last call continues) and end with
their choice. A new id with an old index is a new call: some servers number every call 0.

*Choices.* `choice` is set if it is greater than 0; an event without it belongs to choice 0.

*Stops.* `message_stop` comes last, after usage and errors. These arrive after the finish reason, which is therefore
kept. A choice without a finish reason stops with `error` after an error, otherwise with `incomplete`. After `[DONE]`,
another message may begin. A message without an id is called `openai-CREATED`, or, if `created` is missing too, is named
by its number in the body.

*Extensions* contain the provider's JSON without the fields that the events above cover, one extension per field and
named after it: `logprobs`, `audio`, `annotations`, `service_tier`, `x_groq`; those of a choice have its `index`.
`usage` contains the whole usage object, if it has more than the counts. Fields that every chunk repeats (`created`,
`system_fingerprint`, `service_tier`, `provider`; `event`, an event's name; `id` and `model` after `message_start`;
`role` and `channel` of a delta) are sent only when they change.

Dropped, because they carry no information: null and empty fields and deltas; `object: chat.completion.chunk`;
`obfuscation` (padding against traffic analysis); `role: assistant`; `type: function`; a repeated id or name of a tool
call, a repeated `reasoning` or finish reason; SSE comments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from msgspec import UNSET, Struct, UnsetType, field

from deltawire.protocol.events import ContentEnd, ContentStart, MessageStop, Usage
from deltawire.protocol.providers.bounds import make_arguments, make_text, make_thinking
from deltawire.protocol.providers.fields import Fields
from deltawire.protocol.providers.translator import SseTranslator

_REPEATED = frozenset({"id", "model", "created", "system_fingerprint", "service_tier", "provider", "event"})
_NAMES = frozenset({"", "message", "error"})  # usual names of chunks, if they have an `event:` line
_REPEATED_IN_DELTA = frozenset({"role", "channel"})


class _ToolCall(NamedTuple):
    """The block of a tool call, and its id and name."""

    block: int
    id: str | None
    name: str | None


class _Choice(Struct):
    """One of the answers of a message.

    Attributes:
        number: its index on the wire.
        blocks: number of blocks opened so far.
        open: the indices of the open blocks, in order of opening.
        kind: kind of the open text, thinking or refusal block, if there is one.
        current: index of that block.
        calls: tool calls by index, id or other key.
        last_call: key of the call that the last chunk was about.
        repeated: last values of fields that are sent only when they change.
        finish_reason: the provider's finish reason, once it is known.
    """

    number: int
    blocks: int = 0
    open: dict[int, None] = field(default_factory=dict)
    kind: str | None = None
    current: int = 0
    calls: dict[int | str, _ToolCall] = field(default_factory=dict)
    last_call: int | str = 0
    repeated: dict[str, Any] = field(default_factory=dict)
    finish_reason: str | None = None

    @property
    def choice(self) -> int | UnsetType:
        """The `choice` field of its events."""
        return self.number or UNSET


class OpenAIChat(SseTranslator):
    """Translates one streamed response of the Chat Completions API."""

    provider: ClassVar[str] = "openai"
    retryable: ClassVar[Mapping[str, bool]] = {
        "server_error": True,
        "internal_server_error": True,
        "overloaded_error": True,
        "rate_limit_error": True,
        "rate_limit_exceeded": True,
        "service_unavailable": True,
        "timeout": True,
        "408": True,
        "429": True,
        "500": True,
        "502": True,
        "503": True,
        "504": True,
        "authentication_error": False,
        "insufficient_quota": False,
        "invalid_api_key": False,
        "invalid_request_error": False,
        "400": False,
        "401": False,
        "402": False,
        "403": False,
        "404": False,
    }

    def __init__(self) -> None:
        super().__init__()
        self._message_id: str | None = None
        self._choices: dict[int, _Choice] = {}
        self._repeated: dict[str, Any] = {}

    def _take(self, event: str, payload: Fields) -> None:
        choices = payload.objects("choices")
        if payload.peek("id") or choices:
            self._open(payload)
        for fields in choices:
            self._take_choice(fields)
        payload.drop("object", "chat.completion.chunk")
        payload.drop("obfuscation")
        self._take_usage(payload.object("usage"))
        if event == "error" or payload.source.get("error"):
            self._take_error(payload)
        named = {} if event in _NAMES else {"event": event}
        for name, value in (named | payload.left()).items():
            if _is_new(name, value, _REPEATED, self._repeated):
                self._extend(name, {name: value})

    def _open(self, payload: Fields) -> None:
        """Start the message if none is open."""
        if self._message_id is not None:
            return
        self._messages += 1
        self._message_id = payload.label("id") or f"{self.provider}-{payload.count('created') or self._messages}"
        payload.keep("created")
        model = payload.label("model")
        self._repeated = {"id": self._message_id, "model": model}
        self._emit_start(self._message_id, model)

    def _take_usage(self, usage: Fields) -> None:
        prompt, completion, total = (usage.count(f"{name}_tokens") for name in ("prompt", "completion", "total"))
        cached = usage.object("prompt_tokens_details").count("cached_tokens")
        reasoning = usage.object("completion_tokens_details").count("reasoning_tokens")
        counts = None
        if (prompt, completion, total) != (None, None, None):
            prompt, completion = prompt or 0, completion or 0
            counts = Usage(
                prompt_tokens=prompt,
                completion_tokens=completion,
                total_tokens=prompt + completion if total is None else total,
                cached_tokens=UNSET if cached is None else cached,
                reasoning_tokens=UNSET if reasoning is None else reasoning,
            )
        self._emit_usage(counts, usage)

    # One choice of a chunk

    def _take_choice(self, fields: Fields) -> None:
        number = fields.count("index") or 0
        choice = self._choices.setdefault(number, _Choice(number))
        delta = fields.object("delta")
        self._take_thinking(choice, delta)
        for name, kind in (("content", "text"), ("refusal", "refusal")):
            if text := delta.text(name):
                self._emit(*make_text(text, self._turn_to(choice, kind), choice.choice))
        self._take_tool_calls(choice, delta)
        reason = fields.peek("finish_reason")
        choice.finish_reason = choice.finish_reason or reason
        fields.drop("finish_reason", choice.finish_reason)
        self._extend_choice(choice, fields, delta)
        if reason:
            self._end_blocks(choice)

    def _take_thinking(self, choice: _Choice, delta: Fields) -> None:
        text = delta.text("reasoning_content")
        if text:
            delta.drop("reasoning", text)  # some servers send both
        else:
            text = delta.text("reasoning")
        if text:
            self._emit(*make_thinking(text, self._turn_to(choice, "thinking"), choice.choice))

    def _take_tool_calls(self, choice: _Choice, delta: Fields) -> None:
        for fields in delta.objects("tool_calls"):
            key: int | str | None = fields.count("index")
            if key is None:
                key = fields.peek("id") or choice.last_call
            self._take_call(choice, key, fields, fields.object("function"))
            if rest := fields.left():
                self._extend("tool_calls", {"index": choice.number, "delta": {"tool_calls": [rest]}})
        legacy = delta.object("function_call")
        if legacy.source:
            self._take_call(choice, "function_call", legacy, legacy)

    def _take_call(self, choice: _Choice, key: int | str, fields: Fields, function: Fields) -> None:
        call_id, name = fields.peek("id"), function.peek("name")
        call = choice.calls.get(key)
        if call is None or (call_id and call.id and call_id != call.id):
            self._end_turn(choice)
            call = _ToolCall(self._open_block(choice, "tool_use", call_id, name), call_id, name)
            choice.calls[key] = call
        choice.last_call = key
        fields.drop("type", "function")
        fields.drop("id", call.id)
        function.drop("name", call.name)
        self._emit(*make_arguments(function.text("arguments"), call.block, choice.choice))

    def _extend_choice(self, choice: _Choice, fields: Fields, delta: Fields) -> None:
        """Make extensions of the remaining fields of a choice."""
        delta.drop("role", "assistant")
        for name, value in delta.left().items():
            if _is_new(name, value, _REPEATED_IN_DELTA, choice.repeated):
                self._extend(name, {"index": choice.number, "delta": {name: value}})
        delta.drop_all()
        fields.object("logprobs")  # if all its lists are empty, nothing is left
        for name, value in fields.left().items():
            if name != "index" or value != choice.number:
                self._extend(name, {"index": choice.number, name: value})

    # Blocks, and the end

    def _turn_to(self, choice: _Choice, kind: str) -> int:
        """The index of the open block of this kind; end a block of another kind, and open one if necessary."""
        if choice.kind != kind:
            self._end_turn(choice)
            choice.current = self._open_block(choice, kind)
            choice.kind = kind
        return choice.current

    def _end_turn(self, choice: _Choice) -> None:
        if choice.kind is not None:
            choice.kind = None
            del choice.open[choice.current]
            self._emit(ContentEnd(choice.current, choice.choice))

    def _open_block(self, choice: _Choice, kind: str, call_id: str | None = None, name: str | None = None) -> int:
        index = choice.blocks
        choice.blocks += 1
        choice.open[index] = None
        self._emit(ContentStart(index, kind, call_id or UNSET, name or UNSET, choice.choice))
        return index

    def _end_blocks(self, choice: _Choice) -> None:
        self._emit(*(ContentEnd(index, choice.choice) for index in choice.open))
        choice.open.clear()
        choice.calls.clear()
        choice.kind = None

    def _close(self) -> None:
        if self._message_id is None:
            return
        for choice in (self._choices or {0: _Choice(0)}).values():
            self._end_blocks(choice)
            reason = choice.finish_reason or ("error" if self._failed else "incomplete")
            self._emit(MessageStop(self._message_id, reason, choice.choice))
        self._message_id, self._choices = None, {}
        self._forget_message()


def _is_new(name: str, value: Any, repeated: frozenset[str], told: dict[str, Any]) -> bool:
    """Whether to send a field: always, except if it is a repeated one that was last sent with the same value."""
    if name not in repeated:
        return True
    is_new: bool = told.get(name) != value
    told[name] = value
    return is_new
