"""What is said in one place, piece by piece: characters cut in two are joined, thinking within text is told apart."""

from __future__ import annotations

from collections.abc import Callable

from deltawire.protocol.inline_thinking import ThinkingSplitter
from deltawire.protocol.providers.halves import has_halves, join, mend


class Speech:
    """The pieces of one block, or of one choice.

    Args:
        write: takes what is certain, its kind before it.
        inline_thinking: whether `<think>…</think>` in text of the kind `text` is of the kind `thinking`.
    """

    def __init__(self, write: Callable[[str, str], None], *, inline_thinking: bool) -> None:
        self._write = write
        self._splitter = ThinkingSplitter() if inline_thinking else None
        self._kind = ""  # of what was said last
        self._half = ""  # half a character at its end

    def say(self, kind: str, text: str) -> None:
        """More of a kind; of another kind than before, what was held back of that comes first."""
        if kind != self._kind:
            self.hush()
            self._kind = kind
        if self._half or has_halves(text):
            text, self._half = join(self._half + text)
        self._split(text)

    def hush(self) -> None:
        """What was said last is over: say what of it was held back."""
        if self._half:
            half, self._half = self._half, ""
            self._split(mend(half))
        if self._splitter is not None:
            for kind, text in self._splitter.finish():
                self._write(kind, text)
        self._kind = ""

    def _split(self, text: str) -> None:
        if self._splitter is not None and self._kind == "text":
            for kind, piece in self._splitter.feed(text):
                self._write(kind, piece)
        elif text:
            self._write(self._kind, text)
