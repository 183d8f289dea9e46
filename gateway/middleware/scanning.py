"""Redacting one text that comes in pieces: which of its characters are kept, in the order they came. Pure.

    buffer:  … | context | let out already | undecided |
                         ▲ `_position`     ▲ + `_out`

What is decided leaves the buffer, but for the context. What was let out undecided stays, so that the rest of a match
that it turns out to begin is still redacted.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from deltawire.gateway.middleware.finder import Finder, subject

SLICE: Final = 1024
"""Characters scanned at a time: each match that is found costs as much as the scanned text is long."""

CONTEXT: Final = 64
"""Characters kept before what is undecided while a block is redacted, whose end has at most as many. Otherwise one is
kept: it says whether a word begins."""

MAX_UNTIL: Final = 16 * 1024
"""Characters after the beginning of a block, such as a private key, that are redacted if its end never comes."""


class Cut(NamedTuple):
    """The next characters of the text, decided.

    Attributes:
        size: how many there are.
        text: what becomes of them; None if they are kept.
    """

    size: int
    text: str | None


class Scanner:
    """Redacts one text.

    Args:
        finder: finds what is to be redacted.
        replacement: what takes its place.
    """

    __slots__ = (
        "_buffer",
        "_find_lead",
        "_finder",
        "_out",
        "_position",
        "_replacement",
        "_tail",
        "_until",
        "_until_left",
    )

    def __init__(self, finder: Finder, replacement: str) -> None:
        self._finder = finder
        self._find_lead = finder.find_lead
        self._replacement = replacement
        self._buffer = ""
        self._position = 0  # where what is undecided begins
        self._out = 0  # characters from there that were let out
        self._tail: Any = None  # what goes on of the match before
        self._until: Any = None  # where that ends
        self._until_left = 0

    @property
    def undecided(self) -> int:
        """Characters that wait for what follows."""
        return len(self._buffer) - self._position - self._out

    @property
    def is_new(self) -> bool:
        """Whether nothing of its text has come."""
        return not self._buffer

    @property
    def is_in_block(self) -> bool:
        """Whether a block has begun whose end is still to come; nothing is undecided then."""
        return self._until is not None

    def feed(self, text: str) -> list[Cut] | None:
        """Add a piece of the text; return what is decided now, of this piece and those before.

        Nearly always, that is to keep all of it, with nothing left undecided before or after: then it returns None.
        """
        if len(text) <= SLICE:
            buffer, start = self._buffer, self._position
            is_clear = start == len(buffer) and self._tail is None and self._until is None
            buffer += text
            if is_clear and (self._find_lead(buffer, start) is None or self._finder.is_plain(buffer, start)):
                self._buffer = buffer[-1:]
                self._position = len(self._buffer)
                return None
            self._buffer = buffer
            return self._decide()
        cuts: list[Cut] = []
        for start in range(0, len(text), SLICE):
            self._buffer += text[start : start + SLICE]
            cuts += self._decide()
        return cuts

    def let_out(self) -> list[Cut]:
        """Decide what is undecided as if the text ended here; if that begins a match, its rest will be redacted."""
        cuts = self._decide(is_final=True)
        if size := self.undecided:
            cuts.append(Cut(size, None))
            self._out += size
        return cuts

    def finish(self) -> list[Cut]:
        """Decide all, as the text ends here; another one may follow."""
        cuts = self.let_out()
        self._buffer = ""
        self._position = self._out = 0
        self._tail = self._until = None
        return cuts

    def _decide(self, *, is_final: bool = False) -> list[Cut]:
        buffer, start = self._buffer, self._position
        size = len(buffer)
        cuts: list[Cut] = []
        begun = -1
        while True:
            if self._tail is not None or self._until is not None:
                start = self._go_on(start, cuts)
            if start == size:
                break
            if begun < start:
                begun = self._finder.begun(buffer, start)
            hit = self._finder.find(buffer, start, before=size if is_final else begun)
            if hit is None:
                self._decided(begun - start, None, cuts)
                start = begun
                break
            self._decided(hit.start - start, None, cuts)
            self._decided(hit.end - hit.start, self._replacement, cuts)
            start = hit.end
            self._tail, self._until, self._until_left = hit.tail, hit.until, MAX_UNTIL
        self._trim(start)
        return cuts

    def _go_on(self, start: int, cuts: list[Cut]) -> int:
        """Redact the tail of the match before, as far as it has come; return where it ends."""
        buffer = self._buffer
        end = start
        if self._tail is not None:
            match = self._tail.match(subject(buffer), start)
            end = start if match is None else match.end()
            if end < len(buffer):
                self._tail = None
        elif self._until is not None:
            match = self._until.search(subject(buffer), max(0, start - CONTEXT + 1))
            while match is not None and match.end() <= start:
                match = self._until.search(subject(buffer), match.end())
            end = min(len(buffer) if match is None else match.end(), start + self._until_left)
            self._until_left -= end - start
            if match is not None or not self._until_left:
                self._until = None
        self._decided(end - start, "", cuts)
        return end

    def _decided(self, size: int, text: str | None, cuts: list[Cut]) -> None:
        if self._out:
            out = min(size, self._out)
            self._out -= out
            size -= out
        if size:
            cuts.append(Cut(size, text))

    def _trim(self, start: int) -> None:
        """Drop what is decided, but for the context."""
        drop = max(0, start - (1 if self._until is None else CONTEXT))
        self._buffer = self._buffer[drop:]
        self._position = start - drop
