"""The table of `deltawire top`: which streams, in which order, with which columns, and what each key does. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

from click import style
from msgspec import Struct
from rich.cells import cell_len, set_cell_size

from deltawire.gateway.cli.printable import make_line
from deltawire.gateway.cli.top.rows import Row, describe_seconds

Wish: TypeAlias = Literal["open", "quit"]
"""What a key asks of the program around the table."""

UNKNOWN: Final = "–"

ID_WIDTH: Final = 16
"""Columns of the screen that a stream id gets at least."""

HEAD_LINES: Final = 3
"""Lines above the streams: two about the gateway, one with the titles."""

KEYS: Final = "enter opens · / filters · < > sort by · r reverses · q quits"


class Column(Struct, frozen=True):
    """One column.

    Attributes:
        title: its head.
        width: columns of the screen.
        value: what it sorts by; None sorts last.
        text: what it shows.
        is_number: whether it is aligned to the right, and sorts from the largest at first.
    """

    title: str
    width: int
    value: Callable[[Row], float | str | None]
    text: Callable[[Row], str]
    is_number: bool = True


def shorten(value: float | None) -> str:
    """A number in at most six characters; small fractions are kept."""
    if value is None:
        return UNKNOWN
    if value < 10 and value != int(value):
        return f"{value:.1f}"
    for unit in ("", "k", "M", "G"):
        if value < 999.5:
            return f"{value:.1f}{unit}" if unit and value < 99.95 else f"{value:.0f}{unit}"
        value /= 1000
    return f"{value:.0f}T"


def _describe_state(row: Row) -> str:
    return "ended" if row.is_closed else "open"


def _describe_first_token(row: Row) -> str:
    return UNKNOWN if row.first_token is None else describe_seconds(row.first_token)


COLUMNS: Final = (
    Column("stream", ID_WIDTH, lambda row: row.id, lambda row: make_line(row.id), is_number=False),
    Column("state", 6, _describe_state, _describe_state, is_number=False),
    Column("events/s", 9, lambda row: row.events_per_second, lambda row: shorten(row.events_per_second)),
    Column("bytes/s", 8, lambda row: row.bytes_per_second, lambda row: shorten(row.bytes_per_second)),
    Column("events", 7, lambda row: row.events, lambda row: shorten(row.events)),
    Column("producing", 10, lambda row: row.producers, lambda row: shorten(row.producers)),
    Column("reading", 8, lambda row: row.consumers, lambda row: shorten(row.consumers)),
    Column("folded", 7, lambda row: row.folded, lambda row: shorten(row.folded)),
    Column("dropped", 8, lambda row: row.dropped, lambda row: shorten(row.dropped)),
    Column("first token", 12, lambda row: row.first_token, _describe_first_token),
    Column("active", 9, lambda row: row.last_active_at, lambda row: make_line(row.last_active_at[11:19])),
)
"""All columns, in the order in which they stand."""

IMPORTANCE: Final = (2, 6, 5, 3, 1, 4, 9, 8, 7, 10)
"""Columns beside the first, by number: where the screen is narrow, the last ones are left out."""


def choose_columns(width: int, sorted_by: int) -> list[int]:
    """The columns that fit, by number; what the table is sorted by is among them.

    Args:
        width: columns of the screen.
        sorted_by: number of a column.
    """
    left = width - ID_WIDTH
    chosen = [0]
    for number in sorted(IMPORTANCE, key=lambda it: it != sorted_by):  # stable
        taken = COLUMNS[number].width + 1
        if taken <= left:
            chosen.append(number)
            left -= taken
    return sorted(chosen)


def sort_rows(rows: Sequence[Row], column: Column, *, is_reversed: bool) -> list[Row]:
    """Rows by a column: numbers from the largest, text from A, or the other way round; equal ones by id."""

    def value(row: Row) -> float | str:
        found = column.value(row)
        assert found is not None
        return found

    known = sorted((row for row in rows if column.value(row) is not None), key=lambda row: row.id)
    known.sort(key=value, reverse=column.is_number is not is_reversed)
    return known + sorted((row for row in rows if column.value(row) is None), key=lambda row: row.id)


class Table:
    """The table, and where the person is in it."""

    def __init__(self) -> None:
        self.filter = ""
        self.is_typing = False
        self._all: list[Row] = []
        self._shown: list[Row] = []
        self._sorted_by = 2
        self._is_reversed = False
        self._selected = ""  # a stream id; empty for whichever comes first
        self._top = 0
        self._page = 1

    @property
    def selected(self) -> str | None:
        """The id of the stream that the person is at; None if there is none."""
        return self._shown[self._at()].id if self._shown else None

    @property
    def visible(self) -> list[str]:
        """The ids of the streams that are on the screen."""
        return [row.id for row in self._shown[self._top : self._top + self._page]]

    def show(self, rows: Sequence[Row]) -> None:
        """Take what is known of the streams now."""
        self._all = list(rows)
        self._arrange()

    def press(self, key: str) -> Wish | None:
        """Act on a key; return what is asked of the program."""
        if self.is_typing:
            self._type(key)
            return None
        match key:
            case "q":
                return "quit"
            case "enter" if self._shown:
                return "open"
            case "/":
                self.is_typing = True
            case "escape":
                self.filter = ""
            case "<" | "left" | ">" | "right":
                self._sorted_by = (self._sorted_by + (1 if key in (">", "right") else -1)) % len(COLUMNS)
                self._is_reversed = False
            case "r":
                self._is_reversed = not self._is_reversed
            case _:
                self._move(key)
                return None
        self._arrange()
        return None

    def count(self) -> str:
        """How many streams there are, in words."""
        number = len(self._all)
        words = f"{number} stream{'' if number == 1 else 's'}"
        return f"{len(self._shown)} of {words}" if self.filter else words

    def lines(self, width: int, height: int) -> list[str]:
        """The titles and the streams.

        Args:
            width: of the screen.
            height: lines for titles and streams.
        """
        self._page = max(1, height - 1)
        at = self._at()
        self._top = max(0, min(self._top, len(self._shown) - self._page))
        self._top = min(at, max(self._top, at - self._page + 1))
        columns = choose_columns(width, self._sorted_by)
        titles = style(self._line([self._title(number) for number in columns], columns, width), reverse=True)
        rows = self._shown[self._top : self._top + self._page]
        return [
            titles,
            *(self._row(row, columns, width, is_selected=self._top + n == at) for n, row in enumerate(rows)),
        ]

    def foot(self) -> str:
        """The last line: what is typed, or the keys."""
        if self.is_typing:
            return f"/{make_line(self.filter)}▏ enter keeps · esc clears"
        if self.filter:
            return f"/{make_line(self.filter)} · esc clears · {KEYS}"
        return KEYS

    def _type(self, key: str) -> None:
        match key:
            case "enter":
                self.is_typing = False
            case "escape":
                self.is_typing = False
                self.filter = ""
            case "backspace":
                self.filter = self.filter[:-1]
            case _ if len(key) == 1 and key.isprintable():
                self.filter += key
            case _:
                self._move(key)
                return
        self._arrange()

    def _move(self, key: str) -> None:
        last = len(self._shown) - 1
        if last < 0:
            return
        at = self._at()
        match key:
            case "down" | "j":
                at += 1
            case "up" | "k":
                at -= 1
            case "pagedown" | " ":
                at += self._page
            case "pageup":
                at -= self._page
            case "end" | "G":
                at = last
            case "home" | "g":
                at = 0
            case _:
                return
        at = max(0, min(last, at))
        self._selected = self._shown[at].id if at else ""  # the first line stays the first, whichever stream is there

    def _arrange(self) -> None:
        wanted = self.filter.strip().lower()
        kept = [row for row in self._all if wanted in row.id.lower()] if wanted else self._all
        place = self._at()
        self._shown = sort_rows(kept, COLUMNS[self._sorted_by], is_reversed=self._is_reversed)
        if self._selected and all(row.id != self._selected for row in self._shown):  # it is gone: stay where it was
            place = min(place, len(self._shown) - 1)
            self._selected = self._shown[place].id if place > 0 else ""

    def _at(self) -> int:
        if not self._selected:
            return 0
        return next((number for number, row in enumerate(self._shown) if row.id == self._selected), 0)

    def _title(self, number: int) -> str:
        if number != self._sorted_by:
            return COLUMNS[number].title
        return f"{COLUMNS[number].title}{'▾' if COLUMNS[number].is_number is not self._is_reversed else '▴'}"

    def _row(self, row: Row, columns: list[int], width: int, *, is_selected: bool) -> str:
        line = self._line([COLUMNS[number].text(row) for number in columns], columns, width)
        return style(line, reverse=True, bold=True) if is_selected else style(line, dim=True) if row.is_closed else line

    def _line(self, cells: list[str], columns: list[int], width: int) -> str:
        """Cells side by side, as wide as the screen; the first gets what the others leave."""
        others = [(COLUMNS[number], cell) for number, cell in zip(columns[1:], cells[1:], strict=True)]
        left = width - sum(column.width + 1 for column, _ in others)
        return fit(cells[0], left) + "".join(
            f" {fit(cell, column.width, to_the_right=column.is_number)}" for column, cell in others
        )


def fit(text: str, width: int, *, to_the_right: bool = False) -> str:
    """Text in so many columns of the screen, with `…` where it is cut.

    Args:
        text: one line, printable.
        width: columns.
        to_the_right: whether spaces go before it.
    """
    length = cell_len(text)
    if length > width:
        return set_cell_size(text, width - 1) + "…" if width > 0 else ""
    space = " " * (width - length)
    return space + text if to_the_right else text + space
