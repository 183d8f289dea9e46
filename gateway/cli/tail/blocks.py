"""Which part of a Markdown text that still grows is finished: pure.

A terminal shows finished blocks once and for all; only the last one is drawn again as it grows. What ends a block is
seen from whole lines alone (CommonMark 0.31, §3–5), and the same text gives the same blocks however it is cut:

| block | ends |
|---|---|
| heading, thematic break | with its line |
| fenced code | with its closing fence |
| item of a list | before the next item, or before a line that is not indented as its text is, after an empty one |
| indented code | before a line that is not indented |
| paragraph, table, quote | with an empty line, or before a line that begins another block |

Two blocks may be one in CommonMark (items of a list): they look the same apart. A link to a reference that is defined
in another block is not known to be one.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

MAX_BLOCK: Final = 4096
"""Characters of a block: a longer one is cut at the end of a line, and a longer line within it. What is drawn again
is bounded so, whatever the answer."""

_FENCE: Final = re.compile(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})")
_HEADING: Final = re.compile(r" {0,3}#{1,6}(?:[ \t]|$)")
_RULE: Final = re.compile(r" {0,3}([-*_])[ \t]*(?:\1[ \t]*){2,}$")
_UNDERLINE: Final = re.compile(r" {0,3}(?:=+|-+)[ \t]*$")
_QUOTE: Final = re.compile(r" {0,3}>")
_ITEM: Final = re.compile(r"( {0,3}(?:[-+*]|\d{1,9}[.)]))([ \t]+|$)")
_INTERRUPTING_ITEM: Final = re.compile(r" {0,3}(?:[-+*]|1[.)])[ \t]+\S")
_CODE_INDENT: Final = 4


class Block(NamedTuple):
    """A part of a text.

    Attributes:
        source: the part, with the empty lines before or after it; all parts together are the text.
        opening: the line that opened the code that this continues; empty where a block begins with `source`.
        is_item: whether this is an item of a list.
    """

    source: str
    opening: str = ""
    is_item: bool = False


class Splitter:
    """The blocks of one text."""

    def __init__(self) -> None:
        self._lines: list[str] = []  # of the block that is not finished
        self._size = 0  # characters in them
        self._line = ""  # the line that is not complete
        self._kind = ""  # of the block: line, fence, item, code, quote or text; empty before its first line
        self._opening = ""  # the line that opened the code that this block continues
        self._opener = ""  # the line that opened the code
        self._indent = 0  # of the text of an item

    def feed(self, text: str) -> list[Block]:
        """Take in what the text grows by.

        Returns:
            The blocks that are finished with it.
        """
        finished: list[Block] = []
        first, *others = text.split("\n")
        self._grow(first, finished)
        for piece in others:
            self._take(self._line + "\n", finished)
            self._line = ""
            self._grow(piece, finished)
        return finished

    def rest(self) -> Block:
        """The block that is not finished; its source is empty if there is none."""
        is_item = self._kind == "item" or (not self._kind and _ITEM.match(self._line) is not None)
        return Block("".join(self._lines) + self._line, self._opening, is_item)

    def _grow(self, piece: str, finished: list[Block]) -> None:
        """Add to the line that is not complete."""
        self._line += piece
        while len(self._line) > MAX_BLOCK:
            cut = self._line.rfind(" ", 1, MAX_BLOCK) + 1 or MAX_BLOCK
            line, self._line = self._line[:cut], self._line[cut:]
            self._take(line, finished)
            if self._kind:
                self._cut(finished)

    def _take(self, line: str, finished: list[Block]) -> None:
        """Add a complete line."""
        bare = line.rstrip("\n")
        if self._size and self._size + len(line) > MAX_BLOCK:
            self._cut(finished)
        if self._kind and self._begins_another(bare):
            self._finish(finished)
        is_first = not self._kind and bool(bare.strip())
        if is_first:
            self._begin(bare)
        self._lines.append(line)
        self._size += len(line)
        if self._kind == "line" or (not is_first and self._ends_with(bare)):
            self._finish(finished)

    def _begin(self, bare: str) -> None:
        """Begin a block with its first line that is not empty."""
        if _FENCE.match(bare):
            self._kind, self._opener = "fence", f"{bare}\n"
        elif _HEADING.match(bare) or _RULE.match(bare):
            self._kind = "line"
        elif item := _ITEM.match(bare):
            spaces = len(item[2].expandtabs(_CODE_INDENT))
            self._kind = "item"
            self._indent = len(item[1]) + (spaces if 1 <= spaces <= _CODE_INDENT else 1)
        elif _indent(bare) >= _CODE_INDENT:
            self._kind = "code"
        else:
            self._kind = "quote" if _QUOTE.match(bare) else "text"

    def _begins_another(self, bare: str) -> bool:
        """Whether a line begins another block than the one that is open."""
        is_empty = not bare.strip()
        match self._kind:
            case "code":
                return not is_empty and _indent(bare) < _CODE_INDENT
            case "item":
                if is_empty or _indent(bare) >= self._indent:
                    return False
                return not self._lines[-1].strip() or _ITEM.match(bare) is not None or _interrupts(bare)
            case "text":
                return _interrupts(bare) and _UNDERLINE.match(bare) is None
            case "quote":
                return _interrupts(bare) and _QUOTE.match(bare) is None
            case _:
                return False

    def _ends_with(self, bare: str) -> bool:
        """Whether a line is the last of its block."""
        if self._kind in {"text", "quote"}:
            return not bare.strip()
        fence = _FENCE.match(self._opener) if self._kind == "fence" else None
        if fence is None or _indent(bare) >= _CODE_INDENT:
            return False
        closing = bare.strip()
        return closing.startswith(fence[1]) and not closing.strip(fence[1][0])

    def _cut(self, finished: list[Block]) -> None:
        """End a block that has become too long; code goes on in the next one."""
        kind = self._kind
        self._finish(finished)
        if kind == "fence":
            self._kind, self._opening = kind, self._opener

    def _finish(self, finished: list[Block]) -> None:
        finished.append(Block("".join(self._lines), self._opening, self._kind == "item"))
        self._lines, self._size, self._kind, self._opening = [], 0, "", ""


def _interrupts(bare: str) -> bool:
    """Whether a line ends a paragraph before it."""
    return any(begins.match(bare) for begins in (_FENCE, _HEADING, _RULE, _QUOTE, _INTERRUPTING_ITEM))


def _indent(bare: str) -> int:
    expanded = bare.expandtabs(_CODE_INDENT)
    return len(expanded) - len(expanded.lstrip(" "))
