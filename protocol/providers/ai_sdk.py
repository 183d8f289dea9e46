"""The UI message stream of the AI SDK: server-sent events into deltawire events.

| on the wire | events |
|---|---|
| `start` | `message_start` |
| `text-start`, `reasoning-start`, `tool-input-start` | `content_start` of kind `text`, `thinking` or `tool_use` |
| `text-delta`, `reasoning-delta`, `tool-input-delta` | `text_delta`, `thinking`, `tool_delta` |
| `text-end`, `reasoning-end` | `content_end` |
| `tool-input-available`, `tool-input-error` | the input, if no deltas told it; `content_end` |
| `usage` or `totalUsage` in a `messageMetadata` | `usage` |
| `finish` | `content_end` of blocks still open, `message_stop` with the `finishReason`, or `unknown` without one |
| `abort` | likewise, with reason `cancelled` |
| `error`, or what else tells a failure (`not_a_stream`) | `error` |
| `[DONE]` or the end of the body before that | `content_end`, `message_stop` with reason `error` or `incomplete` |

Blocks are numbered from 0 as they open; their ids are those of the stream. A text whose id comes again after its end is
another block.

Everything else becomes an extension named after its type, with the JSON that the events above do not cover: steps,
outputs of tools, approvals, sources, files, `data-…`, metadata. What a tool's events repeat of its start is told once.

Dropped, because they say nothing: null and empty fields and deltas.

Where the stream is broken: a message or block whose start is missing is started (the message as
`ai-sdk-BODY-NUMBER`, which also one has whose start has no id). A `start` amid a message is of that message until it
has one of its own, or if it has no other id.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, ClassVar

import msgspec

from deltawire.protocol.providers.bounds import MAX_ERROR
from deltawire.protocol.providers.counts import CountNames, read_usage
from deltawire.protocol.providers.fields import Fields
from deltawire.protocol.providers.halves import encode_json
from deltawire.protocol.providers.streamed_parts import Part, PartTranslator
from deltawire.protocol.providers.told import Told

COUNTS = CountNames(
    prompt=("inputTokens",),
    completion=("outputTokens",),
    total="totalTokens",
    cached=(("cachedInputTokens",), ("inputTokenDetails", "cacheReadTokens")),
    reasoning=(("reasoningTokens",), ("outputTokenDetails", "reasoningTokens")),
)

_TEXT = Part("text", "text", "text", "id", "delta")
_REASONING = Part("reasoning", "thinking", "thinking", "id", "delta")
_TOOL = Part("tool", "tool_use", "arguments", "toolCallId", "inputTextDelta")


class AISDK(PartTranslator):
    """Translates one UI message stream."""

    provider: ClassVar[str] = "ai-sdk"
    retryable: ClassVar[Mapping[str, bool]] = {}
    PLACE: ClassVar[tuple[str, ...]] = ("id", "toolCallId")
    NAME: ClassVar[str] = "toolName"
    REPEATED: ClassVar[tuple[str, ...]] = (
        *("toolName", "title", "dynamic", "providerExecuted", "providerMetadata", "toolMetadata", "input"),
    )
    PARTS: ClassVar[dict[str, Part]] = {
        **dict.fromkeys(("text-start", "text-delta", "text-end"), _TEXT),
        **dict.fromkeys(("reasoning-start", "reasoning-delta", "reasoning-end"), _REASONING),
        **dict.fromkeys((f"tool-input-{change}" for change in ("start", "delta", "available", "error")), _TOOL),
    }

    def _forget_message(self) -> None:
        super()._forget_message()
        self._inputs = Told()  # of tools

    # What the events do

    def _start_message(self, payload: Fields) -> None:
        message = self._begin_message(payload.peek("messageId"))
        payload.drop("messageId", message.id)
        self._take_metadata(payload)

    def _take_metadata(self, payload: Fields) -> None:
        metadata = payload.object("messageMetadata")
        for name in ("usage", "totalUsage"):
            usage = metadata.object(name)
            if (counts := read_usage(usage, COUNTS)) is not None:
                self._emit_usage(counts, usage)

    def _start(self, key: Hashable, part: Part, payload: Fields) -> None:
        super()._start(key, part, payload)
        self._inputs.forget(key)

    def _say(self, key: Hashable, part: Part, payload: Fields) -> None:
        super()._say(key, part, payload)
        if part is _TOOL:
            self._inputs.add(key, payload.text(part.delta))

    def _take_input(self, payload: Fields) -> None:
        """All of a tool's input, of which deltas may have told."""
        key, part = self._find(payload)
        blocks = self._open().blocks
        if key not in blocks.seen:
            self._start(key, part, payload)
        if key in blocks and payload.source.get("input") is not None:
            value = payload.source["input"]
            if key not in self._inputs:
                blocks.say(key, "arguments", value if isinstance(value, str) else encode_json(value))
                payload.drop("input")
            elif _is_json_of(self._inputs.text_of(key), value):
                payload.drop("input")
        blocks.end(key)

    def _finish(self, payload: Fields) -> None:
        self._take_metadata(payload)
        if self._message is not None:
            otherwise = "error" if self._failed else "unknown"
            self._end_message(self._message, payload, lambda: payload.label("finishReason") or otherwise)

    def _abort(self, payload: Fields) -> None:
        self._extend_left(self._kind, payload)
        if self._message is not None:
            self._stop(self._message, "cancelled")

    def _fail_message(self, payload: Fields) -> None:
        message = payload.label("errorText", MAX_ERROR)
        if message is None:
            self._take_error(payload)
        else:
            self._fail(message)

    HANDLERS: ClassVar[dict[str, Callable[[AISDK, Fields], str | None]]] = {
        "start": _start_message,
        "message-metadata": _take_metadata,
        **dict.fromkeys(("text-start", "reasoning-start", "tool-input-start"), PartTranslator.start_part),
        **dict.fromkeys(("text-delta", "reasoning-delta", "tool-input-delta"), PartTranslator.take_delta),
        **dict.fromkeys(("text-end", "reasoning-end"), PartTranslator.end_part),
        **dict.fromkeys(("tool-input-available", "tool-input-error"), _take_input),
        "finish": _finish,
        "abort": _abort,
        "error": _fail_message,
    }


def _is_json_of(text: str, value: Any) -> bool:
    """Whether a text is some JSON of a value, or the value itself."""
    try:
        return bool(text == value or msgspec.json.decode(text) == value)
    except (ValueError, RecursionError):
        return False
