r"""Redacting arguments of tools: JSON that comes in pieces, and is JSON afterwards too. Pure.

    raw:      {"a": "key:\nsk-abc…"}
    scanned:         key:⏎sk-abc…      each string is a text of its own, with what its escapes stand for

A match is cut out of a string by whole escapes, and never across its quotes. Outside strings, where valid JSON can have
nothing but numbers and names, a match that is made of these alone is kept: a mark in their place would not be JSON.
What does not begin as JSON is scanned as it is: some tools take plain text.
"""

from __future__ import annotations

import json
import re
from collections import deque
from typing import Final, NamedTuple

from deltawire.gateway.middleware.finder import Finder
from deltawire.gateway.middleware.scanning import Cut, Scanner

_SPECIAL: Final = re.compile(r'["\\]')
_ESCAPE: Final = re.compile(r'\\(?:(["\\/bfnrt])|u([0-9A-Fa-f]{4}))')
_ESCAPE_BEGUN: Final = re.compile(r"\\(?:u[0-9A-Fa-f]{0,3})?\Z")
_SHORT: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_OUTSIDE: Final = re.compile(r"[-+.0-9E\s,:\[\]{}truefalsn]*")
"""What valid JSON has outside strings."""

_STRUCTURE: Final = re.compile(r"[^\s,:\[\]{}]")
"""What is no structure: all else can't begin a match there."""

_MARK: Final = "\N{REPLACEMENT CHARACTER}"


class _Run(NamedTuple):
    """Characters that were scanned and are undecided.

    Attributes:
        text: as scanned.
        width: characters of the raw text that each of them is.
        is_kept: whether it is the rest of an escape whose beginning was let out.
    """

    text: str
    width: int
    is_kept: bool = False


class ArgumentsScanner:
    """Redacts the arguments of one tool call, as `Scanner` does a text.

    Args:
        finder: finds what is to be redacted.
        replacement: what takes its place.
    """

    __slots__ = (
        "_added",
        "_before",
        "_has_kept",
        "_in_string",
        "_is_json",
        "_out",
        "_pending",
        "_replacement",
        "_runs",
        "_scanner",
        "_shortest",
    )

    def __init__(self, finder: Finder, replacement: str) -> None:
        self._scanner = Scanner(finder, _MARK)
        self._shortest = finder.shortest
        self._replacement = replacement
        self._runs: deque[_Run] = deque()
        self._begin()

    def _begin(self) -> None:
        self._runs.clear()
        self._added: list[str] = []  # the last of them, not scanned yet
        self._is_json: bool | None = None  # not known before its first character
        self._in_string = False
        self._before = ""  # the last character of JSON's structure
        self._pending = ""  # the beginning of an escape
        self._out = 0  # characters of that which were let out
        self._has_kept = False  # whether the last match was kept

    def feed(self, text: str) -> list[Cut] | None:
        """As `Scanner.feed`."""
        was_clear = not self._runs and not self._pending
        cuts: list[Cut] = []
        if self._is_json is None and (begun := text.lstrip()):
            self._is_json = begun[0] in '{["'
        if not self._is_json:
            self._add(text, 1)
            self._scan(cuts)
        else:
            self._feed_json(text, cuts)
        if was_clear and not self._runs and not self._pending and all(cut.text is None for cut in cuts):
            return None
        return cuts

    def _feed_json(self, text: str, cuts: list[Cut]) -> None:
        text, self._pending = self._pending + text, ""
        place = 0
        while place < len(text):
            if not self._in_string:
                place = self._go_outside(text, place, cuts)
                continue
            found = _SPECIAL.search(text, place)
            end = len(text) if found is None else found.start()
            self._add(text[place:end], 1)
            place = end
            if found is None:
                break
            if found.group() == '"':
                self._close(cuts)
                place += 1
            elif _ESCAPE_BEGUN.match(text, place):
                self._pending = text[place:]
                break
            else:
                place = self._take_escape(text, place)
        self._scan(cuts)

    def _go_outside(self, text: str, place: int, cuts: list[Cut]) -> int:
        """Take what is outside strings, and the quote that begins the next; return where that is."""
        end = text.find('"', place)
        is_string = end >= 0
        outside = text[place : end if is_string else len(text)]
        if structure := outside.strip():
            self._before = structure[-1]
            if self._scanner.is_in_block and structure != ",":
                cuts += self._translate(self._scanner.finish())
        if self._scanner.is_in_block or not (self._runs or _STRUCTURE.search(outside)):
            cuts.append(Cut(len(outside), None))
        else:
            self._add(outside, 1)
            self._scan(cuts)
        if not is_string:
            return len(text)
        if self._runs:
            cuts += self._translate(self._scanner.finish())
        cuts.append(Cut(1, None))
        self._in_string = True
        return end + 1

    def _close(self, cuts: list[Cut]) -> None:
        """End a string. A private key may go on in the next one, if they are lines in an array."""
        if self._scanner.is_new and sum(map(len, self._added)) < self._shortest:  # too short to match: many are
            self._added.clear()
            cuts += [Cut(len(run.text) * run.width, None) for run in self._runs]
            self._runs.clear()
        self._scan(cuts)
        if not self._scanner.is_in_block or self._before == ":":
            cuts += self._translate(self._scanner.finish())
        self._in_string = False
        cuts.append(Cut(1, None))

    def _take_escape(self, text: str, place: int) -> int:
        """Take what an escape stands for; return where it ends."""
        found = _ESCAPE.match(text, place)
        out, self._out = self._out, 0
        if found is None:  # not JSON
            size = out or 1
            self._add(text[place : place + size], int(not out), is_kept=bool(out))
            return place + size
        short, code = found.groups()
        letter = _SHORT.get(short, short) if short else chr(int(code, 16))
        if "\ud800" <= letter <= "\udfff":
            letter = _MARK  # half of a character, which RE2 does not take
        self._add(letter, len(found.group()) - out, is_kept=bool(out))
        return found.end()

    def _add(self, text: str, width: int, *, is_kept: bool = False) -> None:
        if text:
            self._runs.append(_Run(text, width, is_kept))
            self._added.append(text)

    def _scan(self, cuts: list[Cut]) -> None:
        """Scan what was added."""
        if self._added:
            text = "".join(self._added)
            self._added.clear()
            found = self._scanner.feed(text)
            cuts += self._translate([Cut(len(text), None)] if found is None else found)

    def _translate(self, found: list[Cut]) -> list[Cut]:
        """What cuts of the scanned text are in the raw one."""
        cuts: list[Cut] = []
        for size, text in found:
            runs = self._take(size)
            becomes = text
            if text is not None:
                is_outside = bool(self._is_json) and not self._in_string
                self._has_kept = (
                    is_outside
                    and (text == _MARK or self._has_kept)
                    and all(_OUTSIDE.fullmatch(run.text) for run in runs)
                )
                becomes = None if self._has_kept else self._written if text == _MARK else ""
            for run in runs:
                if run.is_kept or becomes is None:
                    cuts.append(Cut(len(run.text) * run.width, None))
                else:
                    cuts.append(Cut(len(run.text) * run.width, becomes))
                    becomes = ""
        return cuts

    @property
    def _written(self) -> str:
        """The replacement, as it is written here."""
        return json.dumps(self._replacement, ensure_ascii=False)[1:-1] if self._in_string else self._replacement

    def _take(self, size: int) -> list[_Run]:
        taken: list[_Run] = []
        while size:
            run = self._runs.popleft()
            if len(run.text) > size:
                self._runs.appendleft(_Run(run.text[size:], run.width, run.is_kept))
                run = _Run(run.text[:size], run.width, run.is_kept)
            taken.append(run)
            size -= len(run.text)
        return taken

    def let_out(self) -> list[Cut]:
        """As `Scanner.let_out`."""
        cuts = self._translate(self._scanner.let_out())
        if size := len(self._pending) - self._out:
            cuts.append(Cut(size, None))
            self._out = len(self._pending)
        return cuts

    def finish(self) -> list[Cut]:
        """As `Scanner.finish`."""
        cuts = self._translate(self._scanner.finish())
        cuts.append(Cut(len(self._pending) - self._out, None))
        self._begin()
        return cuts
