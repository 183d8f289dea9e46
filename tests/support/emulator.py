"""The few escape sequences that a drawn region uses, applied: what a terminal of endless height shows after them."""

from __future__ import annotations

import re

_PIECE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|([\n\r])|([^\x1b\n\r]+)")


class Emulator:
    """A terminal that is wide and high enough for everything; styles are left out."""

    def __init__(self) -> None:
        self._lines = [""]
        self._row = self._column = 0

    @property
    def lines(self) -> list[str]:
        """The lines, without spaces at their ends."""
        return [line.rstrip() for line in self._lines]

    def write(self, text: str) -> None:
        """Apply what a program writes.

        Raises:
            AssertionError: it has another control character or sequence.
        """
        at = 0
        for piece in _PIECE.finditer(text):
            assert piece.start() == at, f"{text[at : piece.start()]!r}"
            at = piece.end()
            self._apply(*piece.groups())
        assert at == len(text), f"{text[at:]!r}"

    def _apply(self, argument: str | None, final: str | None, end: str | None, words: str | None) -> None:
        line = self._lines[self._row]
        match final or end:
            case "A":
                self._row -= int(argument or 1)
                assert self._row >= 0
            case "C":
                self._column += 1
            case "K":
                self._lines[self._row] = line[: self._column]
            case "J":
                self._lines[self._row :] = [line[: self._column]]
            case "h" | "l":
                assert argument == "?7"
            case "m":
                pass
            case "\r":
                self._column = 0
            case "\n":
                self._row, self._column = self._row + 1, 0  # the terminal adds a return
                self._lines += [""] * (self._row + 1 - len(self._lines))
            case other:
                assert words is not None, other
                self._lines[self._row] = (
                    line[: self._column].ljust(self._column) + words + line[self._column + len(words) :]
                )
                self._column += len(words)
