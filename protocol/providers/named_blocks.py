"""The blocks of one message, where the provider has names for them: an index, an id, or several of these."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import ClassVar

from msgspec import UNSET, Struct

from deltawire.protocol.events import Data
from deltawire.protocol.providers.blocks import Blocks
from deltawire.protocol.providers.bounds import make_arguments, make_text, make_thinking
from deltawire.protocol.providers.speech import Speech


class _Block(Struct, eq=False):
    """A block that is open: its number, and what is said in it."""

    index: int
    speech: Speech


class NamedBlocks:
    """Blocks by their keys, which are whatever tells them apart.

    Args:
        emit: takes the events.
        inline_thinking: whether `<think>…</think>` within their text is thinking.

    Attributes:
        seen: the keys of all that ever opened.
    """

    def __init__(self, emit: Callable[[Data], None], *, inline_thinking: bool) -> None:
        self.seen: set[Hashable] = set()
        self._emit = emit
        self._inline_thinking = inline_thinking
        self._blocks = Blocks(emit, UNSET)
        self._open: dict[Hashable, _Block] = {}

    def __contains__(self, key: Hashable) -> bool:
        """Whether a block is open."""
        return key in self._open

    def start(
        self,
        key: Hashable,
        kind: str | None,
        block_id: str | None = None,
        name: str | None = None,
        *,
        index: int | None = None,
    ) -> None:
        """A block opens; one of the same key that is open ends.

        Args:
            key: what it is called by.
            kind: its kind; None if that is not known.
            block_id: its id.
            name: its name.
            index: its number, where the provider gives one; otherwise the next one.
        """
        self.end(key)
        number = self._blocks.reserve() if index is None else index
        self.seen.add(key)
        self._open[key] = _Block(number, Speech(partial(self._write, number), inline_thinking=self._inline_thinking))
        self._blocks.start(number, kind, block_id, name)

    def say(self, key: Hashable, said: str, text: str) -> None:
        """More of what a block says, which is open.

        Args:
            key: what the block is called by.
            said: `text`, `thinking` or `arguments`.
            text: a text of any length, which may end with half a character.
        """
        if text:
            self._open[key].speech.say(said, text)

    def end(self, key: Hashable) -> None:
        """A block is complete, if it is open."""
        if (block := self._open.pop(key, None)) is not None:
            block.speech.hush()
            self._blocks.end(block.index)

    def end_all(self) -> None:
        """All that are open are complete."""
        for key in list(self._open):
            self.end(key)

    def _write(self, index: int, said: str, text: str) -> None:
        for data in self._MAKERS[said](text, index):
            self._emit(data)

    _MAKERS: ClassVar[dict[str, Callable[[str, int], Sequence[Data]]]] = {
        "text": make_text,
        "thinking": make_thinking,
        "arguments": make_arguments,
    }
    """By what is said: what that becomes."""
