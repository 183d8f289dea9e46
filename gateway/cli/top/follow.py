"""One stream that was opened in `deltawire top`: its text, as much as is kept, in lines of the screen. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

from rich.cells import cell_len, chop_cells

from deltawire.gateway.cli.tail.render import Screen
from deltawire.gateway.cli.top.rows import Row
from deltawire.gateway.cli.top.table import UNKNOWN, shorten
from deltawire.gateway.client import Frame
from deltawire.protocol.messages import StreamEnd

MAX_LINE: Final = 2000
"""Characters after which a line is broken: the last lines are wrapped anew each time they are drawn."""

MAX_LINES: Final = 5000
"""Lines that are kept; `deltawire tail` shows everything."""

KEYS: Final = "↑ ↓ scroll · end follows · q goes back"


class Follow:
    """The text of one stream.

    Attributes:
        status: what the person should know about the connection; empty while all is well.
    """

    def __init__(self) -> None:
        self.status = "connecting"
        self._screen = Screen(colour=False)
        self._lines: deque[str] = deque([""], maxlen=MAX_LINES)
        self._back = 0  # lines of the screen between the last line and the last that is shown
        self._width, self._page = 80, 1

    def add(self, frame: Frame) -> None:
        """Take the next frame."""
        self._write(self._screen.show(frame))

    def end(self, end: StreamEnd | None) -> None:
        """Take the end of the stream."""
        self._write(self._screen.end(end))

    def press(self, key: str) -> bool:
        """Act on a key; return whether the person wants to go back."""
        match key:
            case "q" | "escape" | "left" | "backspace":
                return True
            case "up" | "k":
                self._back += 1
            case "down" | "j":
                self._back -= 1
            case "pageup":
                self._back += self._page
            case "pagedown" | " ":
                self._back -= self._page
            case "home" | "g":
                self._back = MAX_LINES * MAX_LINE
            case "end" | "G":
                self._back = 0
        self._back = max(0, self._back)
        return False

    def lines(self, width: int, height: int) -> list[str]:
        """The lines that are on the screen: the last ones, unless the person scrolled back.

        Args:
            width: of the screen.
            height: lines for the text.
        """
        self._width, self._page = max(2, width), max(1, height)
        wrapped: deque[str] = deque()
        for line in reversed(self._lines):
            wrapped.extendleft(reversed(wrap(line, self._width)))
            if len(wrapped) >= self._back + self._page:
                break
        else:
            self._back = max(0, min(self._back, len(wrapped) - self._page))
        last = len(wrapped) - self._back
        return list(wrapped)[max(0, last - self._page) : last]

    def _write(self, text: str) -> None:
        first, *others = text.expandtabs(4).split("\n")
        last = self._lines.pop()
        added = [piece for line in (last + first, *others) for piece in _break(line)]
        self._lines.extend(added)
        if self._back:  # what the person looks at stays where it is
            self._back += sum(len(wrap(line, self._width)) for line in added) - len(wrap(last, self._width))


def _break(line: str) -> list[str]:
    return [line[at : at + MAX_LINE] for at in range(0, len(line) or 1, MAX_LINE)]


def wrap(line: str, width: int) -> list[str]:
    """A line in lines of the screen, broken between words where that is possible; at least one.

    Args:
        line: without newlines.
        width: columns of the screen, 2 or more: a character may take two.
    """
    first, *words = line.split(" ")
    wrapped = chop_cells(first, width) or [""]
    for word in words:
        joined = f"{wrapped[-1]} {word}"
        if cell_len(joined) <= width:
            wrapped[-1] = joined
        else:
            wrapped += chop_cells(word, width)  # of a space at the end of a line, nothing
    return wrapped


def describe_row(row: Row | None) -> str:
    """What the gateway says of the stream, in one line."""
    if row is None:
        return UNKNOWN
    return (
        f"{'ended' if row.is_closed else 'open'} · {row.events} events · {shorten(row.events_per_second)} events/s · "
        f"{row.producers} producing · {row.consumers} reading"
    )
