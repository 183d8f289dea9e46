"""Redaction is the same however a text is cut, lets no pattern through, and leaves the rest of the text as it is."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

pytest.importorskip("re2", reason="needs the extra: pip install 'deltawire[redact]'")

from deltawire.gateway.middleware.finder import Finder, Pattern, compile_
from deltawire.gateway.middleware.patterns import PERSONAL, SECRETS
from deltawire.gateway.middleware.scanning import Cut, Scanner
from deltawire.gateway.middleware.syntax import PatternError

MARK = "[redacted]"
EVERYTHING = Finder(SECRETS + PERSONAL)
SIMPLE = Finder([Pattern("ab{1,3}c"), Pattern(r"\bkey-[0-9]{3,}"), Pattern("(?:xy){2}z?"), Pattern("a(?:bb|b?c)d")])
REFERENCE = re.compile(r"(?P<tail>\bkey-[0-9]{3,})|ab{1,3}c|(?:xy){2}z?")
TEXT = (
    "hi joe@example.com. Key sk-abcdefghijklmnopqrstuvwxyz0123, AKIAIOSFODNN7EXAMPLE! Call +49 30 1234567, pay with "
    "4111 1111 1111 1111 or 1234 4111 1111 1111 1111; DE89 3704 0044 0532 0130 00 OK, BE68 5390 0754 7034 OK\n"
    "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nabc+/=\n-----END RSA PRIVATE KEY-----\n"
    "ok eyJhbGciOiJIUzI1NiJ9.eyJzdWIi.abc done, Bearer abcdefghijklmnopqrstuvwx== x 3782 822463 10005 Straße é"
)
REDACTED = (
    f"hi {MARK}. Key {MARK}, {MARK}! Call {MARK}, pay with {MARK} or 1234 {MARK}; {MARK} OK, {MARK} OK\n{MARK}\n"
    f"ok {MARK} done, {MARK} x {MARK} Straße é"
)


def apply(text: str, cuts: Sequence[Cut], start: int = 0) -> str:
    """What becomes of a text."""
    parts: list[str] = []
    for size, becomes in cuts:
        parts.append(text[start : start + size] if becomes is None else becomes)
        start += size
    return "".join(parts)


def feed(scanner: Scanner, piece: str) -> list[Cut]:
    cuts = scanner.feed(piece)
    return [Cut(len(piece), None)] if cuts is None else cuts


def redact(finder: Finder, pieces: Sequence[str]) -> str:
    scanner = Scanner(finder, MARK)
    cuts = [cut for piece in pieces for cut in feed(scanner, piece)] + scanner.finish()
    text = "".join(pieces)
    assert sum(cut.size for cut in cuts) == len(text), "each character is decided once"
    return apply(text, cuts)


def cut_at(text: str, places: Sequence[int]) -> list[str]:
    bounds = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(bounds)]


def test_a_text_in_one_piece_is_redacted() -> None:
    assert redact(EVERYTHING, [TEXT]) == REDACTED


def test_a_text_in_single_characters_is_redacted_likewise() -> None:
    assert redact(EVERYTHING, list(TEXT)) == REDACTED


@given(st.lists(st.integers(0, 10_000), max_size=60))
def test_no_cut_changes_what_is_redacted(places: list[int]) -> None:
    assert redact(EVERYTHING, cut_at(TEXT, places)) == REDACTED


@given(st.text("abcdxyz key-019\n", max_size=80), st.lists(st.integers(0, 1000), max_size=20))
def test_any_text_is_redacted_the_same_at_any_cut(text: str, places: list[int]) -> None:
    assert redact(SIMPLE, cut_at(text, places)) == redact(SIMPLE, [text])


PLAIN = Finder([Pattern("ab{1,3}c"), Pattern(r"\bkey-[0-9]{3,}"), Pattern("(?:xy){2}z?")])


@given(st.text("abcxyz key-019", max_size=80), st.lists(st.integers(0, 1000), max_size=20))
def test_what_is_redacted_is_what_another_engine_finds_in_the_whole_text(text: str, places: list[int]) -> None:
    assert redact(PLAIN, cut_at(text, places)) == REFERENCE.sub(MARK, text)


@given(st.text(max_size=200), st.lists(st.integers(0, 1000), max_size=10))
def test_a_text_without_a_match_stays_as_it_is(text: str, places: list[int]) -> None:
    assert redact(Finder([Pattern("\ue000\ue001")]), cut_at(text.replace("\ue000", ""), places)) == text.replace(
        "\ue000", ""
    )


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        (r"\B[a-z]{3}", "abcd 1", f"a{MARK} 1"),
        (r"[a-z]\B[0-9]x", "a1x", MARK),
        (r"\ba\b", "a ba a", f"{MARK} ba {MARK}"),
        (r"a?bc|[^a-z]{2}z", "bc,abc,éüz", f"{MARK},{MARK},{MARK}"),
        (r"(?:\bk|=)[0-9]{2}", "ak12 k34 a=56", f"ak12 {MARK} a{MARK}"),
        (r"\b-a|\b\nx", "x-a -a-a x\nx", f"x{MARK} -a{MARK} x{MARK}"),
        (r"\bkey|\béa", "ékey key aéa éa", f"é{MARK} {MARK} a{MARK} éa"),
        ("(?:a){1,3}b|(?:0){2}1|2{0,2}3", "ab aab 001 3 23", f"{MARK} {MARK} {MARK} {MARK} {MARK}"),
        ("(?:ab|ac)d|(?:xy?)z|(?:|k)m0", "abd acd xz xyz km0", f"{MARK} {MARK} {MARK} {MARK} {MARK}"),
        (r"\ba{2,3}1", "aa1 aaaa1", f"{MARK} aaaa1"),
        ("(?i)key", "KEY \N{KELVIN SIGN}eY key", f"{MARK} {MARK} {MARK}"),
        (r"[\]^-]{2}|x+|\Wy|.é", "]^-!xxx,y zé", f"{MARK}-!{MARK}{MARK} {MARK}"),
    ],
)
def test_any_character_may_begin_a_match(pattern: str, text: str, expected: str) -> None:
    finder = Finder([Pattern(pattern)])
    for pieces in ([text], list(text), ["", *text, ""], [text[:1], text[1:]], [text[:2], text[2:]]):
        assert redact(finder, pieces) == expected


CHARACTERS = ["a", "b", "-", "[ab]", "[^a]", "[b-]", r"\w", r"\W", r"\d", ".", "é", r"\b", r"\B"]
PATTERNS = st.recursive(
    st.sampled_from(CHARACTERS),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})"),
        st.builds("(?:{}){{{},{}}}".format, inner, st.integers(0, 1), st.integers(1, 3)),
    ),
    max_leaves=6,
)


@given(PATTERNS, st.text("ab-1é \n", max_size=12), st.lists(st.integers(0, 100), max_size=4))
def test_any_pattern_finds_the_same_at_any_cut(pattern: str, text: str, places: list[int]) -> None:
    try:
        finder = Finder([Pattern(pattern)])
    except PatternError:
        reject()
    assert (MARK in redact(finder, [text])) == (compile_(pattern).search(text) is not None)
    assert redact(finder, cut_at(text, places)) == redact(finder, [text])


def test_what_cannot_begin_a_match_does_not_wait() -> None:
    scanner = Scanner(Finder(SECRETS), MARK)
    for word in ("The", " quick", " brown", " fox"):
        assert scanner.feed(word) is None
        assert scanner.undecided == 0


def test_what_waits_is_no_longer_than_the_longest_match() -> None:
    scanner = Scanner(EVERYTHING, MARK)
    for piece in ("a" * 1000, "eyJ" * 1000, "+1 " * 1000, "1111 " * 1000):
        scanner.feed(piece)
        assert scanner.undecided <= EVERYTHING.longest


def test_the_rest_of_what_was_let_out_is_redacted() -> None:
    scanner = Scanner(Finder(SECRETS), MARK)
    cuts = feed(scanner, "a sk-abcdefgh") + scanner.let_out()
    assert apply("a sk-abcdefgh", cuts) == "a sk-abcdefgh"
    cuts = feed(scanner, "ijklmnopqrstuvwxyz and on") + scanner.finish()
    assert apply("ijklmnopqrstuvwxyz and on", cuts) == f"{MARK} and on"


def test_a_match_that_could_be_longer_is_redacted_when_it_is_let_out() -> None:
    scanner = Scanner(Finder(PERSONAL), MARK)
    cuts = feed(scanner, "4111111111111111") + scanner.let_out()
    assert apply("4111111111111111", cuts) == MARK
    cuts = feed(scanner, " is it") + scanner.finish()
    assert apply(" is it", cuts) == " is it"


@given(st.lists(st.integers(0, 10_000), max_size=20), st.sets(st.integers(0, 20)))
def test_no_secret_gets_out_whole_when_some_of_it_could_not_wait(places: list[int], pauses: set[int]) -> None:
    secret = "sk-abcdefghijklmnopqrstuvwxyz0123"
    scanner = Scanner(Finder(SECRETS), MARK)
    cuts: list[Cut] = []
    text = f"my key is {secret}, keep it"
    for number, piece in enumerate(cut_at(text, places)):
        cuts += feed(scanner, piece)
        if number in pauses:
            cuts += scanner.let_out()
    out = apply(text, cuts + scanner.finish())
    assert secret not in out
    assert secret[-10:] not in out
    assert out.startswith("my key is ")
    assert out.endswith(", keep it")


def test_a_block_without_an_end_is_redacted_up_to_a_bound() -> None:
    text = "-----BEGIN PRIVATE KEY-----" + "x" * 20_000
    assert redact(Finder(SECRETS), [text]) == MARK + "x" * (20_000 - 16 * 1024)


@pytest.mark.parametrize(
    "unit",
    ["1 ", "1111 ", "a@b.co ", "eyJ", "sk-", "a", "a.", "a@a.", "-----BEGIN ", "+1", "DE89 ", "DE89AAAA", "ab", "é@"],
)
def test_no_text_takes_the_built_in_patterns_long(unit: str) -> None:
    text = unit * (64 * 1024 // len(unit))
    began = time.process_time()
    redact(EVERYTHING, [text])
    assert time.process_time() - began < 3.0, "a message of the largest size by default takes a fraction of that"


@pytest.mark.parametrize(
    "pattern", ["(?:a?){100}a{100}", "(?:a|a|a|a){1,100}b", "(?:(?:a{1,5}){1,5}){1,5}b", "(?:a|aa){1,100}[^a]b"]
)
def test_no_pattern_takes_long(pattern: str) -> None:
    finder = Finder([Pattern(pattern)])
    began = time.process_time()
    redact(finder, ["a" * 64 * 1024])
    redact(finder, ["a"] * 4096)
    assert time.process_time() - began < 5.0
