"""One choice of an OpenAI chat completion: its blocks, made as text, thinking, refusal and tool calls take turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from msgspec import UNSET, UnsetType

from deltawire.protocol.events import Data
from deltawire.protocol.providers.blocks import Blocks
from deltawire.protocol.providers.bounds import make_arguments, make_text, make_thinking
from deltawire.protocol.providers.parts import Pieces
from deltawire.protocol.providers.speech import Speech
from deltawire.protocol.providers.told import Told
from deltawire.protocol.providers.tool_calls import ToolCalls


class Choice:
    """One of the answers of a message.

    Args:
        number: its index.
        emit: takes the events.
        inline_thinking: whether `<think>…</think>` in its text is thinking.

    Attributes:
        calls: its tool calls.
        repeated: last values of fields that are told when they change.
        finish_reason: the provider's, once it is known.
        is_ending: it has its finish reason, and ends unless the next chunk goes on with it.
        has_said_more: whether anything was said since the finish reason.
        is_amid: whether that is so, or was in the same chunk: it may be one that a server gives every chunk.
    """

    def __init__(self, number: int, emit: Callable[[Data], None], *, inline_thinking: bool) -> None:
        self.number = number
        self.choice: int | UnsetType = number or UNSET
        self.repeated: dict[str, Any] = {}
        self.finish_reason: str | None = None
        self.is_ending = False
        self.has_said_more = False
        self.is_amid = False
        self._emit = emit
        self._blocks = Blocks(emit, self.choice)
        self.calls = ToolCalls(emit, self._blocks, self._begin_call)
        self._speech = Speech(self._write, inline_thinking=inline_thinking)
        self._kind: str | None = None  # of the block of text that is open
        self._block = 0
        self._told = Told()

    def say(self, kind: str, text: str) -> None:
        """More of the text of a kind: `text`, `thinking` or `refusal`."""
        if text:
            self._told.add(kind, text)
            self._speech.say(kind, text)

    def rest_of(self, pieces: Pieces) -> Pieces | None:
        """What is news in all of the answer, sent once more; None if it is another answer."""
        if not self._told:
            return pieces
        whole: dict[str, str] = {}
        for kind, text in pieces:
            whole[kind] = whole.get(kind, "") + text
        rest = []
        for kind, text in whole.items():
            news = self._told.rest_of(kind, text)
            if news is None:
                return None
            rest.append((kind, news))
        return rest

    def open_call(self, call_id: str | None, name: str | None) -> int:
        """A tool call begins whose arguments come whole; returns the index of its block."""
        self._begin_call()
        block = self._blocks.reserve()
        self._blocks.start(block, "tool_use", call_id, name)
        return block

    def end_call(self, block: int, arguments: str) -> None:
        """The arguments of such a call have come: it is complete."""
        for data in make_arguments(arguments, block, self.choice):
            self._emit(data)
        self._blocks.end(block)

    @property
    def is_finished(self) -> bool:
        """Whether the provider has said last why it ended."""
        return self.finish_reason is not None and not self.is_amid

    def finish(self, reason: str, *, has_said: bool) -> str | None:
        """The choice has a finish reason; one that it had before stands if nothing was said since.

        Args:
            reason: as the provider calls it.
            has_said: whether something was said in the same chunk.

        Returns:
            The one before, if that was another, and doesn't stand.
        """
        before = self.finish_reason
        if before is None or self.has_said_more or has_said:
            self.finish_reason = reason
        self.has_said_more, self.is_amid = False, has_said
        self.is_ending = True
        return None if before == self.finish_reason else before

    def go_on(self, *, has_said: bool) -> None:
        """A chunk has no finish reason for the choice: after one that had, it goes on, or ends as nothing was said."""
        if has_said:
            self.has_said_more = self.is_amid = True
            self.is_ending = False
        elif self.is_ending:
            self.end()

    def end(self) -> None:
        """All blocks are complete."""
        self._speech.hush()
        self._kind = None
        self.calls.end()
        self._blocks.end_all()
        self.is_ending = False

    def _write(self, kind: str, text: str) -> None:
        """Text in the block of its kind; another kind's block ends."""
        if self._kind != kind:
            self._end_turn()
            self._block = self._blocks.reserve()
            self._blocks.start(self._block, kind)
            self._kind = kind
        for data in self._MAKERS.get(kind, make_text)(text, self._block, self.choice):
            self._emit(data)

    _MAKERS: ClassVar[dict[str, Callable[[str, int, int | UnsetType], Sequence[Data]]]] = {"thinking": make_thinking}

    def _begin_call(self) -> None:
        self._speech.hush()
        self._end_turn()

    def _end_turn(self) -> None:
        if self._kind is not None:
            self._kind = None
            self._blocks.end(self._block)
