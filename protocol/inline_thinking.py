"""Thinking that a model writes into its answer, `<think>…</think>`, told apart from the answer.

Models without a reasoning parser before them do so, mostly at the start of an answer, some again after that. So tags
count wherever they stand, but in code: between backticks, as Markdown has them, `<think>` is text. Nothing but the
tags is taken away. Thinking that never ends is thinking to the end; a tag that ends none is text.
"""

from __future__ import annotations

import re
from typing import Final

START: Final = "<think>"
END: Final = "</think>"
FENCE: Final = 3
"""Backticks from which on code may have several lines."""

_MARK = re.compile(r"`+|\n|<think>")
_BEGUN = re.compile(r"[`\n<]")
"""What marks and tags begin with."""


class ThinkingSplitter:
    """Splits one answer, however it is cut into pieces; time is linear in it."""

    def __init__(self) -> None:
        self._held = ""  # the end of the text so far, which may be the beginning of a mark
        self._is_thinking = False
        self._ticks = 0  # of the code that is open

    def feed(self, text: str) -> list[tuple[str, str]]:
        """The pieces that are certain with this text, each with its kind before it: `text` or `thinking`."""
        if not self._held and _BEGUN.search(text) is None:
            return [(self.kind, text)] if text else []  # nearly always
        text = self._held + text
        pieces: list[tuple[str, str]] = []
        position = 0
        while position < len(text):
            end, after = self._find_end(text, position)
            if end > position:
                pieces.append((self.kind, text[position:end]))
            position = end
            if after < 0:
                break
            position = after
            self._is_thinking = not self._is_thinking
        self._held = text[position:]
        return pieces

    def finish(self) -> list[tuple[str, str]]:
        """What was held back, as the text that it turns out to be; the next piece goes on behind it."""
        held, self._held = self._held, ""
        self._see_ticks(held)
        return [(self.kind, held)] if held else []

    @property
    def is_holding(self) -> bool:
        """Whether some text is not certain yet."""
        return bool(self._held)

    @property
    def kind(self) -> str:
        """Of the text that comes next."""
        return "thinking" if self._is_thinking else "text"

    def _find_end(self, text: str, position: int) -> tuple[int, int]:
        """Where the piece at a position ends and where the next one begins; negative if that is not yet known."""
        if self._is_thinking:
            end = text.find(END, position)
            return (end, end + len(END)) if end >= 0 else (len(text) - _held_back(text, position, END), -1)
        for mark in _MARK.finditer(text, position):
            if mark.group() == START:
                if not self._ticks:
                    return mark.start(), mark.end()
            elif mark.end() == len(text) and mark.group() != "\n":
                return mark.start(), -1  # there may be more backticks
            else:
                self._see_ticks(mark.group())
        return len(text) - (0 if self._ticks else _held_back(text, position, START)), -1

    def _see_ticks(self, mark: str) -> None:
        """Code begins and ends with backticks, of the same number; if these are few, also where the line ends."""
        if mark == "\n":
            self._ticks = self._ticks if self._ticks >= FENCE else 0
        elif mark.startswith("`"):
            if not self._ticks:
                self._ticks = len(mark)
            elif len(mark) == self._ticks or len(mark) > self._ticks >= FENCE:
                self._ticks = 0


def _held_back(text: str, position: int, tag: str) -> int:
    """How many characters at the end may be the beginning of a tag."""
    longest = min(len(tag) - 1, len(text) - position)
    return next((size for size in range(longest, 0, -1) if text.endswith(tag[:size])), 0)
