"""One message as a response of OpenAI's Responses API: its events, and the response itself (SPEC §9.5). Pure.

Events are numbered from 0, the same for each reader: a reader that lost its connection continues after the last number
it has. Deltas must not be folded for that.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from msgspec import UNSET

from deltawire.protocol.events import Event, Extension, MessageStart, Usage
from deltawire.protocol.message_reader import FinishReason, MessageReader, Part
from deltawire.protocol.messages import Gap

_ENDS: Final[dict[FinishReason, tuple[str, str | None]]] = {
    "length": ("incomplete", "max_output_tokens"),
    "content-filter": ("incomplete", "content_filter"),
    "cancelled": ("cancelled", None),
    "error": ("failed", None),
}
"""Status and reason of a response that was not completed."""

_LAST_EVENTS: Final = {
    "completed": "completed",
    "failed": "failed",
    "incomplete": "incomplete",
    "cancelled": "incomplete",
}


class ResponseReader(MessageReader):
    """The events of one response, and the response so far.

    Args:
        response_id: the id of the stream.
        starting_after: number of the last event that the reader has; -1 if it has none.
        seeks: as for `MessageReader`.
    """

    def __init__(self, response_id: str, starting_after: int = -1, *, seeks: bool = False) -> None:
        self._id = response_id
        self._starting_after = starting_after
        super().__init__(seeks=seeks)

    def forget(self) -> None:
        """Begin anew."""
        super().forget()
        self._number = 0
        self._created_at = 0.0
        self._model = ""
        self._status = "queued"
        self._why: str | None = None
        self._failure: str | None = None
        self._usage: dict[str, Any] | None = None
        self._output: dict[int, dict[str, Any]] = {}

    def response(self) -> dict[str, Any]:
        """The response so far; its output is that of the parts that have ended."""
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created_at,
            "status": self._status,
            "background": True,
            "error": None if self._failure is None else {"code": "server_error", "message": self._failure},
            "incomplete_details": None if self._why is None else {"reason": self._why},
            "instructions": None,
            "metadata": {},
            "model": self._model,
            "output": [item for _, item in sorted(self._output.items())],
            "parallel_tool_calls": True,
            "temperature": None,
            "tool_choice": "auto",
            "tools": [],
            "top_p": None,
            "usage": self._usage,
        }

    def _emit(self, kind: str, **fields: Any) -> None:
        if self._number > self._starting_after:
            self.say({"type": kind, "sequence_number": self._number, **fields}, kind)
        self._number += 1

    def _emit_of(self, part: Part, kind: str, /, **fields: Any) -> None:
        place = {"item_id": part.id, "output_index": part.number}
        if part.kind != "tool":
            place["content_index"] = 0
        self._emit(f"response.{kind}", **place, **fields)

    def on_begin(self, start: MessageStart | None, event: Event) -> None:
        """The response is created."""
        self._status = "in_progress"
        self._model = start.model if start is not None and start.model is not UNSET else ""
        assert isinstance(event.timestamp, datetime), "the gateway gives every event one"
        self._created_at = event.timestamp.timestamp()
        self._emit("response.created", response=self.response())
        self._emit("response.in_progress", response=self.response())

    def on_part(self, part: Part) -> None:
        """An item of the output begins; each has one part."""
        item = _item(part, "", "in_progress")
        if "content" in item:
            item["content"] = []
        self._emit("response.output_item.added", output_index=part.number, item=item)
        if part.kind != "tool":
            self._emit_of(part, "content_part.added", part=_content(part, ""))

    def on_piece(self, part: Part, piece: str) -> None:
        """An item goes on."""
        self.keep(part, piece)
        match part.kind:
            case "text":
                self._emit_of(part, "output_text.delta", delta=piece, logprobs=[])
            case "thinking":
                self._emit_of(part, "reasoning_text.delta", delta=piece)
            case "tool":
                self._emit_of(part, "function_call_arguments.delta", delta=piece)

    def on_part_end(self, part: Part) -> None:
        """An item ends."""
        content = "".join(part.pieces)
        part.pieces.clear()  # the output has it
        match part.kind:
            case "text":
                self._emit_of(part, "output_text.done", text=content, logprobs=[])
            case "thinking":
                self._emit_of(part, "reasoning_text.done", text=content)
            case "tool":
                self._emit_of(part, "function_call_arguments.done", arguments=content, name=part.name)
        if part.kind != "tool":
            self._emit_of(part, "content_part.done", part=_content(part, content))
        item = _item(part, content, "completed")
        self._output[part.number] = item
        self._emit("response.output_item.done", output_index=part.number, item=item)

    def on_usage(self, usage: Usage) -> None:
        """The tokens so far; they come with the response at its end."""
        self._usage = {
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens or 0, "cache_write_tokens": 0},
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
            "total_tokens": usage.total_tokens,
        }

    def on_error(self, message: str) -> None:
        """A failure."""
        self._failure = message
        self._emit("error", code="server_error", message=message, param=None)

    def on_finish(self, reason: FinishReason, stop_reason: str) -> None:
        """The response is complete, or will never be."""
        self._status, self._why = _ENDS.get(reason, ("completed", None))
        if self._status != "failed":
            self._failure = None
        elif self._failure is None:
            self._failure = stop_reason
        self._emit(f"response.{_LAST_EVENTS[self._status]}", response=self.response())

    def on_extension(self, extension: Extension) -> None:
        """Nothing: the API has no place for it."""

    def on_gap(self, gap: Gap) -> None:
        """End, as the numbers of the events would differ from those of other readers."""
        self.on_error(f"events {gap.first} to {gap.seq} of the stream are no longer held")
        self.complete()


def _content(part: Part, text: str) -> dict[str, Any]:
    if part.kind == "thinking":
        return {"type": "reasoning_text", "text": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _item(part: Part, content: str, status: str) -> dict[str, Any]:
    match part.kind:
        case "text":
            what: dict[str, Any] = {"type": "message", "role": "assistant", "content": [_content(part, content)]}
        case "thinking":
            what = {"type": "reasoning", "summary": [], "content": [_content(part, content)]}
        case "tool":
            what = {"type": "function_call", "call_id": part.id, "name": part.name, "arguments": content}
    return {"id": part.id, "status": status, **what}
