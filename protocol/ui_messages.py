"""One message in the AI SDK's UI message stream, which its `useChat` reads (SPEC §9.4). Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct

from deltawire.protocol.events import Event, Extension, MessageStart, Usage
from deltawire.protocol.message_reader import FinishReason, MessageReader, Part
from deltawire.protocol.messages import Gap

HEADER: Final = {"x-vercel-ai-ui-message-stream": "v1"}
"""How its readers know it; the same for versions 5 to 7 of the AI SDK."""

DONE: Final = b"data: [DONE]\n\n"

MAX_INPUT: Final = 1024 * 1024
"""Characters of a tool call's arguments that are kept in order to parse them."""

_KINDS: Final = {"text": "text", "thinking": "reasoning"}


class TextPiece(Struct, tag="text-delta", tag_field="type"):
    """The most frequent chunk: as a structure, it is encoded in half the time."""

    id: str
    delta: str


class ReasoningPiece(Struct, tag="reasoning-delta", tag_field="type"):
    """Likewise, of reasoning."""

    id: str
    delta: str


class UiMessage(MessageReader):
    """The chunks of one message, from its beginning."""

    def _emit(self, kind: str, **fields: Any) -> None:
        self.say({"type": kind, **fields})

    def complete(self) -> None:
        """Say that this is all."""
        self._body += DONE
        super().complete()

    def on_begin(self, start: MessageStart | None, event: Event) -> None:  # noqa: ARG002 - others need it
        """The message begins, with its only step."""
        self._emit("start", **({} if start is None else {"messageId": start.message_id}))
        self._emit("start-step")

    def on_part(self, part: Part) -> None:
        """A part begins."""
        if part.kind == "tool":
            self._emit("tool-input-start", toolCallId=part.id, toolName=part.name)
        else:
            self._emit(f"{_KINDS[part.kind]}-start", id=part.id)

    def on_piece(self, part: Part, piece: str) -> None:
        """A part goes on."""
        if part.kind != "tool":
            self.say((TextPiece if part.kind == "text" else ReasoningPiece)(part.id, piece))
            return
        if part.size <= MAX_INPUT:
            self.keep(part, piece)
        self._emit("tool-input-delta", toolCallId=part.id, inputTextDelta=piece)

    def on_part_end(self, part: Part) -> None:
        """A part ends; the arguments of a tool call are parsed."""
        if part.kind != "tool":
            self._emit(f"{_KINDS[part.kind]}-end", id=part.id)
            return
        text = self.drop(part)
        called = {"toolCallId": part.id, "toolName": part.name}
        if part.size > MAX_INPUT:
            self._emit("tool-input-error", **called, input=None, errorText=f"over {MAX_INPUT} characters")
            return
        try:
            self._emit("tool-input-available", **called, input=msgspec.json.decode(text or "{}"))
        except msgspec.DecodeError as error:
            self._emit("tool-input-error", **called, input=text, errorText=f"the arguments are not JSON: {error}")

    def on_usage(self, usage: Usage) -> None:
        """The tokens so far, in the SDK's names."""
        counts = {
            "inputTokens": usage.prompt_tokens,
            "outputTokens": usage.completion_tokens,
            "totalTokens": usage.total_tokens,
            "cachedInputTokens": usage.cached_tokens,
            "reasoningTokens": usage.reasoning_tokens,
        }
        known = {name: count for name, count in counts.items() if count is not UNSET}
        self._emit("message-metadata", messageMetadata={"usage": known})

    def on_error(self, message: str) -> None:
        """A failure."""
        self._emit("error", errorText=message)

    def on_finish(self, reason: FinishReason, stop_reason: str) -> None:
        """The message is complete."""
        self._emit("finish-step")
        if reason == "cancelled":
            self._emit("abort", reason=stop_reason)
        else:
            self._emit("finish", finishReason=reason)

    def on_extension(self, extension: Extension) -> None:
        """Something that only one provider has, for `onData` alone."""
        data = {"provider": extension.provider, "name": extension.name, "data": extension.data}
        self._emit("data-extension", data=data, transient=True)

    def on_gap(self, gap: Gap) -> None:
        """Events are missing, for `onData` alone."""
        self._emit("data-gap", data={"first": gap.first, "seq": gap.seq, "reason": gap.reason}, transient=True)
