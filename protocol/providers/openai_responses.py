"""OpenAI Responses, streamed: server-sent events into deltawire events.

| on the wire | events |
|---|---|
| `response.created`, `.queued`, `.in_progress` | `message_start` |
| `response.output_item.added` | `content_start` of a tool call (kind `tool_use`), or of an item of another type |
| `response.content_part.added`, `reasoning_summary_part.added` | `content_start`: `text`, `refusal` or `thinking` |
| `response.output_text.delta`, `refusal.delta` | `text_delta` |
| `response.reasoning_text.delta`, `reasoning_summary_text.delta` | `thinking` |
| `response.function_call_arguments.delta`, `custom_tool_call_input.delta`, `mcp_call_arguments.delta` | `tool_delta` |
| `response.code_interpreter_call_code.delta` | `tool_delta`, as `code` in an object |
| `….done` of any of these, of a part or of an item | what of it was not told before; `content_end` of parts and items |
| `response.completed`, `.incomplete`, `.failed`, `.cancelled` | likewise; `error`, `usage`, `message_stop` |
| `error`, or what else tells a failure (`not_a_stream`) | `error` |
| end of the body before that | `content_end`, `message_stop` with reason `error` or `incomplete` |
| a `response`, whole, in place of a stream | as if it came in events |

*Blocks* are numbered from 0 as they open. Each part of a message or of reasoning is one, each other item is one: its
kind is the item's type, but for calls of functions and of custom tools. A call's id is its `call_id`, another block's
that of the item.

*Stop reasons* are `completed`, `cancelled`, the reason of `incomplete_details` (`max_output_tokens`, `content_filter`),
and `error` after a failure. A refusal is a text in a block of kind `refusal`, and completes the response.

*Extensions* contain the provider's JSON without what the events above say. Those of what is left of an event are named
after its type, those of an item or a part after its own: `encrypted_content`, annotations, log probabilities, outputs,
what the response repeats of the request. Whatever is repeated is told when it changes. `usage` is the whole usage
object, if it has more than the counts.

Dropped, because they say nothing: null and empty fields; `sequence_number`, as events are numbered here;
`obfuscation` (padding against traffic analysis); `keepalive`; the id of an item that was told, or has changed more
often than an id does; `role: assistant`, and states that the events say; an error that was told.

Where the stream is broken: what is about an item without its index is of the item with that id, or else of the last
one; a message or block whose start is missing is started (the message as `openai-BODY-NUMBER`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from deltawire.protocol.providers.counts import CountNames, read_usage
from deltawire.protocol.providers.fields import Fields
from deltawire.protocol.providers.openai_chat import RETRYABLE
from deltawire.protocol.providers.openai_items import CALLS, PARTS, STATES, Items, drop_told
from deltawire.protocol.providers.tool_calls import read_arguments
from deltawire.protocol.providers.typed_events import Message, TypedTranslator

_COUNTS = CountNames(
    prompt=("input_tokens",),
    completion=("output_tokens",),
    total="total_tokens",
    cached=(("input_tokens_details", "cached_tokens"),),
    reasoning=(("output_tokens_details", "reasoning_tokens"),),
)
_REASONS = {"completed": "completed", "incomplete": "incomplete", "failed": "error", "cancelled": "cancelled"}

_ENDS = {f"response.{status}": status for status in _REASONS}
"""By the type of an event that ends a response: what it says of that."""

_PARTS = {"response.content_part": "content", "response.reasoning_summary_part": "summary"}
"""By the beginning of the types of events about a part: its place in an item."""

_TEXTS = {
    "response.output_text": PARTS["output_text"],
    "response.refusal": PARTS["refusal"],
    "response.reasoning_text": PARTS["reasoning_text"],
    "response.reasoning_summary_text": PARTS["summary_text"],
    "response.function_call_arguments": CALLS["function_call"],
    "response.custom_tool_call_input": CALLS["custom_tool_call"],
    "response.mcp_call_arguments": CALLS["mcp_call"],
    "response.code_interpreter_call_code": CALLS["code_interpreter_call"],
}
"""By the beginning of the types of events about a text: the field that has all of it at its end, and what it is."""


class OpenAIResponses(TypedTranslator):
    """Translates one streamed response of the Responses API."""

    provider: ClassVar[str] = "openai"
    retryable: ClassVar[Mapping[str, bool]] = RETRYABLE
    PLACE: ClassVar[tuple[str, ...]] = ("output_index", "content_index", "summary_index")

    def _take(self, event: str, payload: Fields) -> None:
        if payload.peek("object") == "response" and "type" not in payload.source:
            payload = Fields({"type": "response.completed", "response": payload.source})
        super()._take(event, payload)

    def _forget_message(self) -> None:
        super()._forget_message()
        self._told: dict[str, Any] = {}  # the last value of each field of the response
        self._error: dict[str, Any] = {}  # the error that was told last

    def _prepare(self, payload: Fields) -> None:
        payload.amount("sequence_number")
        payload.drop("obfuscation")

    # What the events of the provider do. Each returns the name for what is left of it.

    def _take_response(self, payload: Fields) -> None:
        self._begin(payload.object("response"))

    def _begin(self, response: Fields) -> Message | None:
        """The message of a response, started if it is new; None if that has stopped."""
        response_id = response.peek("id")
        if self._message is None and response_id is not None and response_id == self._stopped:
            return None
        message = self._begin_message(response_id, response.peek("model"))
        response.drop("id", message.id)
        response.drop("model", message.model)
        response.drop("object", "response")
        response.drop("status", *STATES)
        drop_told(response, self._told)
        return message

    def _end_response(self, payload: Fields) -> None:
        response, status = payload.object("response"), _ENDS[self._kind]
        message = self._begin(response)
        if message is None:
            return
        told = response.peek("status")
        status = told if told in _REASONS else status
        response.drop("status", *_REASONS)
        for place, item in enumerate(response.objects("output")):
            self._finish_item(self._items.find(place, item), item)
        usage = response.object("usage")
        self._emit_usage(read_usage(usage, _COUNTS), usage)
        self._take_failure(response, status)
        details = response.object("incomplete_details")
        self._end_message(message, payload, lambda: details.label("reason") or _REASONS[status])

    def _take_failure(self, response: Fields, status: str) -> None:
        """Tell the error of a response, if it wasn't."""
        error = response.object("error")
        if self._error and error.source.get("message") == self._error.get("message"):
            drop_told(error, self._error)
        elif response.source.get("error"):
            self._take_error(response)
        elif status == "failed" and not self._failed:
            self._fail("the provider says that the response failed, and not why")

    def _fail_message(self, payload: Fields) -> None:
        nested = payload.object("error").source
        self._error = dict(nested or payload.source)
        self._take_error(payload)

    def _add_item(self, payload: Fields) -> str | None:
        self._open()
        return self._items.tell(self._items.index_of(payload), payload.object("item"))

    def _end_item(self, payload: Fields) -> None:
        self._open()
        self._finish_item(self._items.index_of(payload), payload.object("item"))

    def _finish_item(self, index: int, item: Fields) -> None:
        kind = self._items.tell(index, item)
        if rest := item.left():
            self._extend(kind or "item", {"output_index": index, "item": rest})
            item.drop_all()
        self._items.end(index)

    def _take_part(self, payload: Fields) -> None:
        self._open()
        event, _, change = self._kind.rpartition(".")
        place = _PARTS[event]
        index, number = self._items.index_of(payload), payload.amount(f"{place}_index") or 0
        self._items.tell_part(index, place, number, payload.object("part"))
        if change == "done":
            self._items.end_part(index, place, number)

    def _take_text(self, payload: Fields) -> None:
        self._open()
        event, _, change = self._kind.rpartition(".")
        name, text = _TEXTS[event]
        index, number = self._items.index_of(payload), payload.amount(f"{text.place}_index") or 0
        if change == "delta":
            self._items.say(index, number, text, payload.text("delta"))
            return
        whole = read_arguments(payload, (name,)) if text.said == "arguments" else payload.text(name)
        if not self._items.say_rest(index, number, text, whole or ""):
            payload.keep(name)

    def _take_annotation(self, payload: Fields) -> None:
        self._open()
        index, number = self._items.index_of(payload), payload.amount("content_index") or 0
        self._items.list_annotation(index, number, payload.source.get("annotation"))

    def _drop(self, payload: Fields) -> None:
        pass

    HANDLERS: ClassVar[dict[str, Callable[[OpenAIResponses, Fields], str | None]]] = {
        "response.created": _take_response,
        "response.queued": _take_response,
        "response.in_progress": _take_response,
        **dict.fromkeys(_ENDS, _end_response),
        "response.output_item.added": _add_item,
        "response.output_item.done": _end_item,
        **dict.fromkeys((f"{event}.{change}" for event in _PARTS for change in ("added", "done")), _take_part),
        **dict.fromkeys((f"{event}.{change}" for event in _TEXTS for change in ("delta", "done")), _take_text),
        "response.output_text.annotation.added": _take_annotation,
        "error": _fail_message,
        "keepalive": _drop,
        "ping": _drop,
    }

    # The response

    def _open(self, message_id: str | None = None, model: str | None = None) -> Message:
        is_new = self._message is None
        message = super()._open(message_id, model)
        if is_new:
            self._items = Items(message.blocks, self._extend)
        return message
