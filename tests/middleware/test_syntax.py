"""Patterns are a bounded subset of regular expressions, and what a match begins with is derived from them."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("re2", reason="needs the extra: pip install 'deltawire[redact]'")

from deltawire.gateway.middleware.finder import Finder, Pattern, compile_
from deltawire.gateway.middleware.syntax import MAX_LENGTH, PatternError, parse


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("abc", ["abc"]),
        ("a{2,4}b?c", ["aac", "aaaabc"]),
        ("(?:ab|cd){1,2}e", ["abe", "cdabe"]),
        (r"[0-9]{2}(?:-[0-9]{2}){0,2}", ["12", "12-34-56"]),
        (r"\bx\.y", ["x.y"]),
        ("a(?:b|)c", ["abc", "ac"]),
        ("(?:a?b){2}", ["bab", "abab"]),
    ],
)
def test_every_beginning_of_a_match_is_found_at_the_end_of_a_text(pattern: str, matches: list[str]) -> None:
    finder = Finder([Pattern(pattern)])
    for text in matches:
        assert compile_(parse(pattern)[0].match).fullmatch(text)
        for size in range(1, len(text)):
            assert finder.begun(f"-{text[:size]}", 0) == 1, text[:size]
        assert finder.begun(f"-{text}~", 0) == len(text) + 2


def test_a_match_that_can_not_be_longer_has_nothing_begun() -> None:
    assert Finder([Pattern("ab?c")]).begun("abc", 0) == 3


def test_a_match_that_can_be_longer_waits() -> None:
    assert Finder([Pattern("ab{1,2}")]).begun("ab", 0) == 0


def test_a_repetition_without_a_bound_at_the_end_is_a_tail() -> None:
    (expression,) = parse("ab{3,}")
    assert (expression.longest, expression.tail) == (4, "b")
    assert Finder([Pattern("ab{3,}")]).begun("abbb", 0) == 4


def test_alternatives_of_a_whole_pattern_have_tails_of_their_own() -> None:
    assert [it.tail for it in parse("a[0-9]+|b|c.*")] == ["[0-9]", "", "."]


def test_case_can_be_ignored() -> None:
    assert Finder([Pattern("(?i)abc")]).begun("xAB", 0) == 1


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("a*b", "without a bound"),
        ("(?:ab)+", "without a bound"),
        ("a?", "empty text"),
        ("", "empty text"),
        ("a{400}", f"up to 400 characters; the most is {MAX_LENGTH}"),
        ("(?:a|b|c|d){300}", "too large"),
        ("a{3,2}", "the second number"),
        ("(a", "without its"),
        ("a)", "without its"),
        ("*a", "nothing that it could repeat"),
        ("^a", "not supported"),
        ("a$", "not supported"),
        ("(?=a)b", "not supported"),
        (r"(a)\1", "not supported"),
        ("a\\", "not supported"),
        ("[z-a]", "range"),
        ("(" * 30 + "a" + ")" * 30, "nested"),
    ],
)
def test_what_is_not_in_the_subset_is_refused_in_words(pattern: str, why: str) -> None:
    with pytest.raises(PatternError, match=re.escape(why)):
        Finder([Pattern(pattern)])
