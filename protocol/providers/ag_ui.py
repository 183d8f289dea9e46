"""AG-UI: server-sent events into deltawire events.

| on the wire | events |
|---|---|
| `RUN_STARTED` | `message_start`: a run is a message, and its `runId` the message's id |
| `TEXT_MESSAGE_START`, `REASONING_MESSAGE_START`, `TOOL_CALL_START` | `content_start`: `text`, `thinking`, `tool_use` |
| `TEXT_MESSAGE_CONTENT`, `REASONING_MESSAGE_CONTENT`, `TOOL_CALL_ARGS` | `text_delta`, `thinking`, `tool_delta` |
| `TEXT_MESSAGE_END`, `REASONING_MESSAGE_END`, `TOOL_CALL_END` | `content_end` |
| `TEXT_MESSAGE_CHUNK`, `REASONING_MESSAGE_CHUNK`, `TOOL_CALL_CHUNK` | likewise, without start and end |
| `THINKING_TEXT_MESSAGE_…`, of versions before 1.0 | as `REASONING_MESSAGE_…` |
| `RUN_FINISHED` | `usage`; `content_end` of blocks still open; `message_stop` |
| `RUN_ERROR` | `error`; likewise, with reason `error` |
| what else tells a failure (`not_a_stream`) | `error` |
| end of the body before that | `content_end`, `message_stop` with reason `error` or `incomplete` |

Stop reasons are the outcome of a run: `success`, also where none is told, `interrupt` or `cancelled`. Its usage is the
sum of that of all models.

Blocks are numbered from 0 as they open; their ids are those of messages and calls. A chunk without an id is of the part
that the last chunk of its type was about; these end when chunks of another type come, or with the run.

Everything else becomes an extension named after its type, with the JSON that the events above do not cover: steps,
state, activities, snapshots, results of tools, subagents, custom and raw events; the `threadId` and `input` of a run,
the `role` of a message that is not the assistant's. What the events of a part repeat is told when it changes.

Dropped, because they say nothing: null and empty fields and deltas; `timestamp`, if it is a number; `role: assistant`
and `role: reasoning`; the ids of the run beyond its start.

Where the stream is broken: a run or part whose start is missing is started (the run as `ag-ui-BODY-NUMBER`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import ClassVar

from msgspec import UNSET

from deltawire.protocol.providers.bounds import MAX_ERROR
from deltawire.protocol.providers.counts import CountNames, add_usage, read_usage
from deltawire.protocol.providers.fields import Fields
from deltawire.protocol.providers.streamed_parts import Part, PartTranslator

_COUNTS = CountNames(
    prompt=("inputTokens",),
    completion=("outputTokens",),
    total="totalTokens",
    cached=(("cachedInputTokens",),),
    reasoning=(("reasoningTokens",),),
)
_TEXT = Part("text", "text", "text", "messageId", "delta")
_REASONING = Part("reasoning", "thinking", "thinking", "messageId", "delta")
_TOOL = Part("tool", "tool_use", "arguments", "toolCallId", "delta")
_EVENTS = {
    "TEXT_MESSAGE": (_TEXT, "CONTENT"),
    "REASONING_MESSAGE": (_REASONING, "CONTENT"),
    "THINKING_TEXT_MESSAGE": (_REASONING, "CONTENT"),
    "TOOL_CALL": (_TOOL, "ARGS"),
}
"""By the beginning of the types of events about a part: its sort, and how the type with a piece of it ends."""


class AGUI(PartTranslator):
    """Translates one stream of runs."""

    provider: ClassVar[str] = "ag-ui"
    retryable: ClassVar[Mapping[str, bool]] = {}
    PLACE: ClassVar[tuple[str, ...]] = ("messageId", "toolCallId")
    NAME: ClassVar[str] = "toolCallName"
    REPEATED: ClassVar[tuple[str, ...]] = (
        *("toolCallName", "parentMessageId", "role", "name", "metadata", "subagentRunId"),
    )
    PARTS: ClassVar[dict[str, Part]] = {
        f"{name}_{change}": part
        for name, (part, piece) in _EVENTS.items()
        for change in ("START", piece, "END", "CHUNK")
    }

    def _forget_message(self) -> None:
        super()._forget_message()
        self._thread: str | None = None  # id of the thread that was told
        self._chunks: dict[Hashable, None] = {}  # parts that came in chunks, the one spoken of last at the end
        self._chunked: Part | None = None  # their sort

    def _prepare(self, payload: Fields) -> None:
        if isinstance(payload.source.get("timestamp"), (int, float)):
            payload.drop("timestamp")
        payload.drop("role", "assistant", "reasoning")
        part = self.PARTS.get(self._kind)
        if part is not None and part is not self._chunked:
            self._end_chunks()
            self._chunked = part

    # What the events do

    def _start_run(self, payload: Fields) -> None:
        message = self._begin_message(payload.peek("runId"))
        payload.drop("runId", message.id)
        payload.drop("threadId", self._thread)
        self._thread = payload.peek("threadId")

    def _take_chunk(self, payload: Fields) -> None:
        """A piece of a part that has no events for its start and its end."""
        part = self.PARTS[self._kind]
        part_id = payload.label(part.id)
        key: Hashable = (part.name, part_id)
        if part_id is None and self._chunks:
            key = next(reversed(self._chunks))
        self._drop_repeated(key, payload)
        if key not in self._open().blocks and part_id is not None:
            self._start(key, part, payload)
        self._say(key, part, payload)
        self._chunks.pop(key, None)
        self._chunks[key] = None

    def _end_chunks(self) -> None:
        for key in self._chunks:
            if self._message is not None:
                self._message.blocks.end(key)
        self._chunks.clear()

    def _finish_run(self, payload: Fields) -> None:
        otherwise = "error" if self._failed else "success"
        self._end_run(payload, lambda: payload.label("outcome") or payload.object("outcome").label("type") or otherwise)

    def _fail_run(self, payload: Fields) -> None:
        message, code = payload.label("message", MAX_ERROR), payload.label("code")
        if message is None:
            self._take_error(payload)
        else:
            self._fail(message, code or UNSET)
        self._end_run(payload, lambda: "error")

    def _end_run(self, payload: Fields, reason: Callable[[], str]) -> None:
        message = self._message
        if message is None:
            return
        usages = payload.objects("usage")
        counts = [read_usage(usage, _COUNTS) for usage in usages]
        self._emit_usage(add_usage(found for found in counts if found is not None), Fields({}))
        if any(usage.left() for usage in usages):
            payload.keep("usage")
        payload.drop("runId", message.id, message.given_id)
        payload.drop("threadId", self._thread)
        self._end_message(message, payload, reason)

    def _fail_message(self, payload: Fields) -> None:
        self._take_error(payload)

    HANDLERS: ClassVar[dict[str, Callable[[AGUI, Fields], str | None]]] = {
        "RUN_STARTED": _start_run,
        **dict.fromkeys((f"{name}_START" for name in _EVENTS), PartTranslator.start_part),
        **dict.fromkeys((f"{name}_{piece}" for name, (_, piece) in _EVENTS.items()), PartTranslator.take_delta),
        **dict.fromkeys((f"{name}_END" for name in _EVENTS), PartTranslator.end_part),
        **dict.fromkeys((f"{name}_CHUNK" for name in _EVENTS), _take_chunk),
        "RUN_FINISHED": _finish_run,
        "RUN_ERROR": _fail_run,
        "error": _fail_message,
    }
