"""Markdown as lines for a terminal, by Rich (the extra `deltawire[tui]`): pure.

What a person should know of is shown: HTML as text, links and images with their addresses, definitions of references.
What Rich would cut off (deep nesting, tables of more columns than fit) is shown as its source instead.

An entity (`&#27;`, `&#x202e;`) may stand for a character that controls a terminal: words are cleaned once more after
they are parsed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import ClassVar, Final

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.ansi import AnsiDecoder
from rich.cells import cell_len
from rich.console import COLOR_SYSTEMS, Console, ConsoleOptions, RenderableType, RenderResult
from rich.markdown import CodeBlock, Heading, Markdown, MarkdownElement, TableElement
from rich.padding import Padding
from rich.segment import Segment
from rich.style import Style
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from deltawire.gateway.cli.printable import make_printable
from deltawire.gateway.cli.tail.blocks import Block
from deltawire.gateway.cli.tail.region import Line

_NARROWEST: Final = 20
"""Columns; narrower terminals show lines that are too long for them."""

_NESTING_WIDTH: Final = 4
"""Columns that one level of nesting takes away, at most."""

_COLUMN_WIDTH: Final = 5
"""Columns of the terminal for a column of a table, at least."""

_MAX_LEVEL: Final = 40
"""Levels of nesting that are shown as such on the widest terminals; the parser counts a few more."""

_PARSER: Final = (
    MarkdownIt("commonmark", {"html": False, "maxNesting": 100})
    .enable(["strikethrough", "table"])
    .disable(["image", "reference"])
)


class _Code(CodeBlock):
    """Code on the terminal's own background, indented, and without lines of its own around it."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        del console, options
        if code := str(self.text).rstrip("\n"):
            shown = Syntax(code, self.lexer_name, theme=self.theme, word_wrap=True, background_color="default")
            yield Padding(shown, (0, 0, 0, 2))


class _Heading(Heading):
    """A heading, which begins where text does."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        del console, options
        yield self.text


class _Table(TableElement):
    """A table whose cells are shown whole."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for table in super().__rich_console__(console, options):
            if isinstance(table, Table):
                for column in table.columns:
                    column.overflow = "fold"
            yield table


class _Markdown(Markdown):
    """Rich's Markdown, of tokens that are parsed already."""

    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements,
        "fence": _Code,
        "code_block": _Code,
        "heading_open": _Heading,
        "table_open": _Table,
    }

    def __init__(self, tokens: list[Token]) -> None:
        super().__init__("", code_theme="ansi_dark", hyperlinks=False)
        self.parsed = tokens


class Typesetter:
    """Makes lines of blocks, with the escape sequences of their styles.

    Args:
        colour: whether the terminal shows colours; which ones, its variables say (`TERM`, `COLORTERM`).
    """

    def __init__(self, *, colour: bool) -> None:
        self._console = Console(
            file=io.StringIO(), force_terminal=True, legacy_windows=False, highlight=False, no_color=not colour
        )
        self._colours = COLOR_SYSTEMS[self._console.color_system or "standard"]
        self._decoder = AnsiDecoder()

    def set_markdown(self, block: Block, width: int) -> list[Line]:
        """The lines of a block of Markdown, without empty ones at its ends."""
        width = max(width, _NARROWEST)
        source = block.opening + block.source
        tokens = _PARSER.parse(source)
        for token in _walk(tokens):
            token.content = make_printable(token.content)
            token.info = make_printable(token.info)
            token.attrs = {name: make_printable(str(value)) for name, value in token.attrs.items()}
        shown = _Markdown(tokens) if _fits(tokens, width) else Text(source)
        lines = self._set(shown, width)
        filled = [number for number, line in enumerate(lines) if line.text]
        return lines[filled[0] : filled[-1] + 1] if filled else []

    def read_styled(self, text: str) -> Text:
        """A text without newlines that has escape sequences of styles already.

        A style goes on in the next text, until a sequence ends it.
        """
        return self._decoder.decode_line(text)

    def wrap(self, text: Text, width: int) -> list[Text]:
        """A text as rows that fit; as more is added to it, only the last of them changes."""
        return list(text.wrap(self._console, max(width, _NARROWEST)))

    def set_text(self, text: Text, width: int) -> list[Line]:
        """A text as lines that fit."""
        return self._set(text, max(width, _NARROWEST))

    def _set(self, shown: RenderableType, width: int) -> list[Line]:
        options = self._console.options.update(width=width, height=None)
        return [self._paint(_strip(line)) for line in self._console.render_lines(shown, options, pad=False)]

    def _paint(self, line: list[Segment]) -> Line:
        segments = Segment.remove_color(line) if self._console.no_color else line
        texts = [(make_printable(text), style or Style.null()) for text, style, control in segments if not control]
        return Line(
            "".join(style.render(text, color_system=self._colours) for text, style in texts),
            sum(cell_len(text) for text, _ in texts),
        )


def _walk(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _walk(token.children or [])


def _fits(tokens: list[Token], width: int) -> bool:
    """Whether Rich shows all of it: it cuts off what is nested too deep, and columns for which there is no space."""
    columns = 0
    for token in tokens:
        if token.level > min((width - _NARROWEST) // _NESTING_WIDTH + 2, _MAX_LEVEL):
            return False
        columns = 0 if token.type == "tr_open" else columns + (token.type in {"th_open", "td_open"})
        if columns * _COLUMN_WIDTH > width:
            return False
    return True


def _strip(line: list[Segment]) -> list[Segment]:
    """A line without the spaces that fill it up, which would wrap in a terminal made narrower."""
    while line and not line[-1].text.strip() and not line[-1].control:
        line = line[:-1]
    if line and not line[-1].control:
        text, style, _ = line[-1]
        return [*line[:-1], Segment(text.rstrip(), style)]
    return line
