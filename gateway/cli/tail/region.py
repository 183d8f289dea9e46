"""The end of what a command shows, which it draws again as it changes: pure.

What is finished is written once, above it, and becomes the terminal's own scroll-back; there is no alternate screen,
and the cursor stays visible, so that there is nothing to restore. A terminal may take a line to be longer than it was
measured (new emoji): lines that are drawn again don't wrap, so that their number is known. What scrolls out while a
terminal is made narrower can't be erased: it is there twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

_ERASE_BELOW: Final = "\r\x1b[K\x1b[C\x1b[J\r"
"""Not from the first column at once: what is erased from the first line's on, tmux keeps in the scroll-back."""

_NO_WRAP: Final = "\x1b[?7l"
_WRAP: Final = "\x1b[?7h"


class Line(NamedTuple):
    """One line of a terminal.

    Attributes:
        text: what is written, without a newline.
        cells: columns that it takes.
    """

    text: str
    cells: int


class Region:
    """The lines that are drawn again. The cursor is at the end of the last one, or in an empty line without any."""

    def __init__(self) -> None:
        self._lines: list[Line] = []
        self._width = 0

    def draw(self, finished: Sequence[Line], lines: Sequence[Line], width: int) -> str:
        """Write what is finished, and the region's new lines below it.

        Args:
            finished: lines that are written once and stay.
            lines: as they are now; fewer than the terminal has.
            width: columns of the terminal.

        Returns:
            What brings the terminal up to date.
        """
        if not finished and width == self._width and list(lines) == self._lines:
            return ""
        kept = self._count_kept(lines) if not finished and width == self._width else 0
        start = self._back_to(kept, width)
        self._lines, self._width = list(lines), width
        fresh = "\n".join(line.text for line in lines[kept:])
        above = "".join(f"{line.text}\n" for line in finished)
        return start + above + (f"{_NO_WRAP}{fresh}{_WRAP}" if fresh else "")

    def forget(self) -> str:
        """Leave the lines as they are, and begin below them."""
        end = "\n" if self._lines else ""
        self._lines = []
        return end

    def _count_kept(self, lines: Sequence[Line]) -> int:
        """How many of the first lines stay; the last of the new ones is always written, to have the cursor there."""
        kept = 0
        for old, new in zip(self._lines, lines[:-1], strict=False):
            if old != new:
                break
            kept += 1
        return kept

    def _back_to(self, kept: int, width: int) -> str:
        """Erase all but the first lines, and put the cursor where they end."""
        if kept == len(self._lines):
            return "\n" if kept else ""
        # A terminal that became narrower has wrapped the lines.
        rows = [max(1, -(-line.cells // width)) for line in self._lines[kept:]]
        up = sum(rows) - 1
        return (f"\x1b[{up}A" if up else "") + _ERASE_BELOW
