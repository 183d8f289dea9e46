r"""Patterns in a subset of regular expressions, each of a bounded length, and their prefixes.

A text comes in pieces. To know whether a match may be in progress at the end of what has come, a redactor needs, beside
the pattern, an expression for everything that a match can begin with: its *prefix*. It is derived from the pattern:

    prefix of a character     nothing yet
    prefix of RS              prefix of R, or R and the prefix of S
    prefix of R|S             prefix of R, or of S
    prefix of R{m,n}          up to n-1 times R, and the prefix of R
    prefix of \b              nothing yet: it depends on the next character

Lookarounds, back references and anchors have no such prefix and are no part of the syntax. Neither is repetition
without a bound, but for the last character of a pattern (`sk-[a-z]{20,}`): such a pattern has matched as soon as the
bounded part has, and whatever follows of that character is its *tail*, which needs no look-ahead.
"""

from __future__ import annotations

import re
from functools import reduce
from typing import Final, NamedTuple, TypeAlias

MAX_LENGTH: Final = 320
"""Characters that a match may have before its tail: an e-mail address, the longest of the built-in patterns, has 281.
So much text is held back at most."""

MAX_POSITIONS: Final = 1000
"""Characters in a pattern with all repetitions written out: the time for one character of a text grows with them."""


MAX_NESTING: Final = 20
"""Groups within each other: parsing is recursive."""


class PatternError(ValueError):
    """A pattern is no regular expression of the subset; the message says why and what to do."""


class Char(NamedTuple):
    """One character of a set; `text` is its expression."""

    text: str


class Edge(NamedTuple):
    r"""`\b` or `\B`: a condition on the characters before and after."""

    text: str


class Sequence(NamedTuple):
    """Parts, one after the other."""

    parts: tuple[Node, ...]


class Choice(NamedTuple):
    """Any one of several parts."""

    parts: tuple[Node, ...]


class Repeat(NamedTuple):
    """A part so many times; without a bound if `most` is None."""

    part: Node
    least: int
    most: int | None


Node: TypeAlias = Char | Edge | Sequence | Choice | Repeat

Leads: TypeAlias = dict[str, set[str]]
"""Expressions of first characters, and those of the characters that can follow each."""


class Expression(NamedTuple):
    """A pattern, as expressions for RE2.

    Attributes:
        match: what matches, without the tail.
        prefix: what a match can begin with.
        tail: one character of the tail; empty if there is none.
        leads: the first characters that a match can have, and those that can follow each; "" stands for its end.
        is_word: whether a match begins where a word begins or ends.
        shortest: characters that `match` has at least.
        longest: characters that it has at most.
    """

    match: str
    prefix: str
    tail: str
    leads: Leads
    is_word: bool
    shortest: int
    longest: int


_TOKEN = re.compile(
    r"""(?P<edge>\\[bB])
    |(?P<escape>\\[dDsSwW]|\\[^A-Za-z0-9]|\\[nrtfv])
    |(?P<set>\[\^?\]?(?:\\.|[^\]\\])*\])
    |(?P<open>\(\?:|\((?!\?))
    |(?P<close>\))
    |(?P<bar>\|)
    |(?P<repeat>\{\d{1,4}(?:,\d{0,4})?\}|[?*+])
    |(?P<dot>\.)
    |(?P<plain>[^\\()\[\]{}|?*+.^$])""",
    re.VERBOSE | re.DOTALL,
)


def parse(pattern: str) -> list[Expression]:
    """Parse a pattern; alternatives of the whole pattern are patterns of their own.

    Args:
        pattern: in the subset; `(?i)` at its beginning ignores case.

    Raises:
        PatternError: it is not in the subset, too long, or matches the empty text.
    """
    flag = "(?i)" if pattern.startswith("(?i)") else ""
    parser = _Parser(pattern, len(flag))
    return [_express(parts, flag) for parts in parser.parse()]


class _Parser:
    def __init__(self, pattern: str, start: int) -> None:
        self._pattern = pattern
        self._position = start
        self._depth = 0

    def parse(self) -> list[tuple[Node, ...]]:
        alternatives = self._alternatives()
        if self._position < len(self._pattern):
            raise PatternError("a `)` without its `(`")
        return alternatives

    def _next(self) -> tuple[str, str]:
        """The kind and text of the next token; both are empty at the end."""
        if self._position == len(self._pattern):
            return "", ""
        token = _TOKEN.match(self._pattern, self._position)
        if token is None or token.lastgroup is None:
            rest = self._pattern[self._position :][:8]
            raise PatternError(
                f"`{rest}` is not supported: write characters, sets, groups, `|`, `?` and {{least,most}}; `\\` before "
                "a character that stands for itself"
            )
        return token.lastgroup, token.group()

    def _alternatives(self) -> list[tuple[Node, ...]]:
        alternatives: list[tuple[Node, ...]] = []
        parts: list[Node] = []
        while True:
            kind, text = self._next()
            if kind in ("", "close", "bar"):
                alternatives.append(tuple(parts))
                parts = []
                if kind != "bar":
                    return alternatives
                self._position += len(text)
                continue
            self._position += len(text)
            if kind == "repeat":
                if not parts or isinstance(parts[-1], Edge | Repeat):
                    raise PatternError(f"`{text}` follows nothing that it could repeat")
                parts.append(_repeat(parts.pop(), text))
            elif kind == "open":
                parts.append(self._group())
            else:
                parts.append(Edge(text) if kind == "edge" else Char(text))

    def _group(self) -> Node:
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise PatternError(f"groups are nested deeper than {MAX_NESTING}")
        inner = tuple(Sequence(parts) for parts in self._alternatives())
        if self._next()[0] != "close":
            raise PatternError("a `(` without its `)`")
        self._position += 1
        self._depth -= 1
        return inner[0] if len(inner) == 1 else Choice(inner)


def _repeat(part: Node, text: str) -> Repeat:
    if text in "?*+":
        return Repeat(part, int(text == "+"), 1 if text == "?" else None)
    least, comma, most = text[1:-1].partition(",")
    bound = (int(most) if most else None) if comma else int(least)
    if bound is not None and (bound < int(least) or bound == 0):
        raise PatternError(f"`{text}`: the second number must be at least the first, and over 0")
    return Repeat(part, int(least), bound)


def _express(parts: tuple[Node, ...], flag: str) -> Expression:
    tail = ""
    match parts:
        case (*before, Repeat(Char(text), least, None)):
            tail = flag + text
            parts = (*before, Repeat(Char(text), least, least)) if least else tuple(before)
    whole = Sequence(parts)
    least, longest, positions = _measure(whole)
    if not least:
        raise PatternError("it matches the empty text")
    if longest > MAX_LENGTH:
        raise PatternError(f"it matches up to {longest} characters; the most is {MAX_LENGTH}: bound repetitions lower")
    if positions > MAX_POSITIONS:
        raise PatternError(f"it is too large: {positions} characters with all repetitions written out")
    leads = {flag + first: {it and flag + it for it in following} for first, following in _leads(whole).items()}
    begun = flag + (_begun(whole) or "[^\\x00-\\x{10FFFF}]")
    return Expression(flag + _render(whole), begun, tail, leads, parts[0] == Edge(r"\b"), least, longest)


def _measure(node: Node) -> tuple[int, int, int]:
    """The least and the most characters that a node matches, and the characters in it, repetitions written out."""
    match node:
        case Char():
            return 1, 1, 1
        case Edge():
            return 0, 0, 0
        case Sequence(parts):
            sizes = [_measure(part) for part in parts]
            return sum(it[0] for it in sizes), sum(it[1] for it in sizes), sum(it[2] for it in sizes)
        case Choice(parts):
            sizes = [_measure(part) for part in parts]
            return min(it[0] for it in sizes), max(it[1] for it in sizes), sum(it[2] for it in sizes)
        case Repeat(part, least, most):
            if most is None:
                raise PatternError(
                    "a repetition without a bound may only be the last character of a pattern: write {least,most}"
                )
            shortest, longest, positions = _measure(part)
            return shortest * least, longest * most, positions * most


def _render(node: Node) -> str:
    match node:
        case Char(text) | Edge(text):
            return text
        case Sequence(parts):
            return "".join(map(_render, parts))
        case Choice(parts):
            return f"(?:{'|'.join(map(_render, parts))})"
        case Repeat(part, least, most):
            return f"(?:{_render(part)}){{{least},{most}}}"


def _prefix(node: Node) -> str:
    """What a match of a node can begin with, for nodes that match at least something."""
    match node:
        case Char() | Edge():
            return ""
        case Sequence(parts):
            *before, last = parts or (Sequence(()),)
            prefix = _prefix(last) if parts else ""
            for part in reversed(before):
                prefix = f"(?:{_prefix(part)}|{_render(part)}{prefix})"
            return prefix
        case Choice(parts):
            return f"(?:{'|'.join(map(_prefix, parts))})"
        case Repeat(part, _, most):
            inner = _prefix(part)
            return inner if most == 1 else f"(?:{_render(part)}){{0,{(most or 1) - 1}}}{inner}"


def _leads(node: Node) -> Leads:
    """The first two characters that a match of a node can have, as in `Expression.leads`; conditions don't count.

    Under "", it has an entry if the node also matches the empty text.
    """
    match node:
        case Char(text):
            return {text: {""}}
        case Edge():
            return {"": set()}
        case Sequence(parts):
            return reduce(_follow, map(_leads, parts), {"": set()})
        case Choice(parts):
            leads: Leads = {}
            for part in parts:
                _add(leads, _leads(part))
            return leads
        case Repeat(part, least, most):
            once = _leads(part)
            repeated = once if most == 1 else _follow(once, once | {"": set()})
            return repeated if least else repeated | {"": set()}


def _follow(before: Leads, after: Leads) -> Leads:
    """Leads of a sequence of two parts."""
    leads: Leads = {}
    for first, following in before.items():
        _add(leads, {first: following - {""} | after.keys() if "" in following else following} if first else after)
    return leads


def _add(leads: Leads, more: Leads) -> None:
    for first, following in more.items():
        leads[first] = leads.get(first, set()) | following


def _begun(node: Node) -> str:
    """As `_prefix`, without the empty text where that is easily told apart; empty if nothing is left.

    The empty text is the beginning of every match. It would be found at the end of every text, and finding something
    takes RE2 several times as long as finding nothing.
    """
    match node:
        case Char() | Edge():
            begun = [""]
        case Sequence((Edge(text), *rest)):
            following = _begun(Sequence(tuple(rest)))
            begun = [following and text + following]
        case Sequence((only,)):
            begun = [_begun(only)]
        case Sequence((first, *rest)) if _measure(first)[0]:
            begun = [_begun(first), _render(first) + _prefix(Sequence(tuple(rest)))]
        case Choice(parts):
            begun = [_begun(part) for part in parts]
        case Repeat(part, _, most) if most == 1:
            begun = [_begun(part)]
        case Repeat(part, _, int(most)) if _measure(part)[0]:
            begun = [_begun(part), f"(?:{_render(part)}){{1,{most - 1}}}{_prefix(part)}"]
        case _:
            begun = [_prefix(node)]
    found = list(filter(None, begun))
    return f"(?:{'|'.join(found)})" if found else ""
