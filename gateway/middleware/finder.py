"""Finding the matches of many patterns in a text whose end is still to come. RE2 does the work, in linear time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from deltawire.gateway.middleware.syntax import Expression, PatternError, parse

ASCII: Final = "".join(map(chr, range(128)))
"""All of its characters."""

MEMORY: Final = 8 * 1024 * 1024
"""Bytes that RE2 may take for one expression: its own default. With less than it wants it is slower, not wrong."""

MAX_LETTERS: Final = 256
"""First letters whose patterns are remembered: more than any pattern that is no set of all letters has."""

Check = Callable[[str], int]
"""Says how many characters at the beginning of what matched are what is looked for; 0 if none are."""


class Pattern(NamedTuple):
    """What to find.

    Attributes:
        text: a pattern (`syntax`).
        check: of what has matched; None if every match counts.
        until: a pattern; a match extends to the end of the next match of this one.
    """

    text: str
    check: Check | None = None
    until: str = ""


class Hit(NamedTuple):
    """What was found.

    Attributes:
        start: where it begins.
        end: where it ends, without its tail.
        tail: matches one piece of the tail; None if it has none.
        until: finds where the tail ends; None if `tail` does.
    """

    start: int
    end: int
    tail: Any
    until: Any


class _Part(NamedTuple):
    match: Any
    first: Any  # its first character
    check: Check | None
    tail: Any
    until: Any


class Finder:
    """Finds the matches of patterns: the leftmost first, of those at one place the longest.

    Args:
        patterns: what to find.

    Raises:
        PatternError: a pattern can't be used.
        ImportError: RE2 is not installed.

    Attributes:
        shortest: characters that a match has at least.
        longest: characters of text that may have to wait for what follows.
        find_lead: finds what may be the first two characters of a match after a position; None if nothing is. This
            takes a fifth of what `is_plain` takes, and nearly always there is nothing.
    """

    def __init__(self, patterns: Iterable[Pattern]) -> None:
        expressions: list[Expression] = []
        self._parts: list[_Part] = []
        for pattern in patterns:
            try:
                for it in parse(pattern.text):
                    expressions.append(it)
                    tail = compile_(f"(?:{it.tail})+") if it.tail else None
                    until = compile_(pattern.until) if pattern.until else None
                    first = compile_("|".join(it.leads))
                    self._parts.append(_Part(compile_(it.match), first, pattern.check, tail, until))
            except PatternError as error:
                raise PatternError(f"pattern `{pattern.text}`: {error}") from None
        self._from: dict[str, list[_Part]] = {}
        self.shortest = min((it.shortest for it in expressions), default=0)
        self.longest = max((it.longest for it in expressions), default=0)
        matches = "|".join(f"(?:{it.match})" for it in expressions)
        begun = "|".join(f"(?:{it.prefix})" for it in expressions)
        self._whole = compile_(matches)
        self._begun = compile_(f"(?:{begun})\\z")
        self._any = compile_(f"{matches}|(?:{begun})\\z")
        self.find_lead: Callable[[str, int], object] = _compile_leads(expressions).search

    def is_plain(self, text: str, start: int) -> bool:
        """Whether nothing matches after a position, or may once more text has come."""
        found = self._any.search(subject(text), start)
        return found is None or found.start() == len(text)

    def begun(self, text: str, start: int) -> int:
        """Where the first match that more text may begin, or make longer, begins; the length of the text if none."""
        found = self._begun.search(subject(text), start)
        return len(text) if found is None else int(found.start())

    def find(self, text: str, start: int, before: int) -> Hit | None:
        """Find the first match that begins before a position; None if there is none.

        Args:
            text: in which the characters before `start` only tell whether a word begins there.
            start: where to begin.
            before: where a match has to begin before.
        """
        within = subject(text)
        while (found := self._whole.search(within, start)) is not None and found.start() < before:
            start = found.start()
            best: Hit | None = None
            for part in self._parts_from(text[start]):
                match = part.match.match(within, start)
                if match is None:
                    continue
                length = match.end() - start
                if part.check is not None:
                    length = part.check(text[start : match.end()])
                if length and (best is None or start + length > best.end):
                    best = Hit(start, start + length, part.tail, part.until)
            if best is not None:
                return best
            start += 1
        return None

    def _parts_from(self, letter: str) -> list[_Part]:
        """The patterns that a match beginning with a letter can be of: to try all takes ten times as long."""
        parts = self._from.get(letter)
        if parts is None:
            parts = [part for part in self._parts if part.first.fullmatch(letter)]
            if len(self._from) < MAX_LETTERS:
                self._from[letter] = parts
        return parts


def _compile_leads(expressions: Iterable[Expression]) -> re.Pattern[str]:
    """Compile what finds the first two characters of all matches, though not of matches alone.

    Python's own expressions are the quickest here, and cannot take long: this one looks at three characters.
    """
    seconds: dict[tuple[str, str], set[str]] = {}  # by where a match begins, and its first character
    for it in expressions:
        edge = r"\b" if it.is_word else ""
        for first, following in it.leads.items():
            letters = {letter for one in following for letter in (_letters(one) if one else [r"\s\S"])}
            for letter in _letters(first):
                seconds.setdefault((edge, letter), set()).update(letters)
    firsts: dict[tuple[str, frozenset[str]], str] = {}  # all that the same ones follow
    for (edge, letter), letters in seconds.items():
        key = edge, frozenset(letters)
        firsts[key] = firsts.get(key, "") + letter
    leads = "|".join(f"(?<={edge}[{them}])(?:[{''.join(letters)}]|\\Z)" for (edge, letters), them in firsts.items())
    return re.compile(f"[{''.join(firsts.values())}](?:{leads})" if firsts else "(?!)", re.ASCII)


def _letters(expression: str) -> list[str]:
    """What an expression of one character matches, to stand in a set of Python's."""
    compiled = compile_(expression)
    _, last = compiled.possiblematchrange(1)
    others = [] if last < b"\x80" else ["\x80-\U0010ffff"]
    return [*map(re.escape, compiled.findall(ASCII)), *others]


def subject(text: str) -> str | bytes:
    """A text as RE2 searches it soonest: it gives positions in bytes, which have to be counted in characters again."""
    return text.encode() if text.isascii() else text


def compile_(pattern: str) -> Any:
    """Compile an expression for RE2, which finds the longest of the leftmost matches.

    Raises:
        PatternError: it is none.
        ImportError: RE2 is not installed.
    """
    import re2  # noqa: PLC0415 - an optional extra

    options = re2.Options()
    options.longest_match = True
    options.log_errors = False
    options.max_mem = MEMORY
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        why = error.args[0] if error.args else "not a regular expression"
        raise PatternError(why.decode(errors="replace") if isinstance(why, bytes) else str(why)) from None
