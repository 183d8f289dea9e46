"""Arguments of tools are redacted as what their JSON stands for, and are JSON afterwards, wherever they are cut."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("re2", reason="needs the extra: pip install 'deltawire[redact]'")

from deltawire.gateway.middleware.arguments import ArgumentsScanner
from deltawire.gateway.middleware.finder import Finder
from deltawire.gateway.middleware.patterns import PERSONAL, SECRETS
from deltawire.gateway.middleware.scanning import Cut
from tests.middleware.test_scanning import apply, cut_at

FINDER = Finder(SECRETS + PERSONAL)
MARK = '["redacted"]'
"""A replacement that has to be escaped."""

KEY = "sk-abcdefghijklmnopqrstuvwxyz0123"
MAIL = "bob@example.com"
BLOCK = "-----BEGIN PRIVATE KEY-----\nMIIabc\n-----END PRIVATE KEY-----"


def redact(pieces: Sequence[str], pauses: set[int] | None = None) -> str:
    scanner = ArgumentsScanner(FINDER, MARK)
    cuts: list[Cut] = []
    before = 0
    for number, piece in enumerate(pieces):
        found = scanner.feed(piece)
        cuts += [Cut(len(piece), None)] if found is None else found
        before += len(piece)
        if pauses and number in pauses:
            cuts += scanner.let_out()
            assert sum(cut.size for cut in cuts) == before, "nothing waits after that"
    cuts += scanner.finish()
    text = "".join(pieces)
    assert sum(cut.size for cut in cuts) == len(text), "each character is decided once"
    return apply(text, cuts)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (f'{{"content":"key:\\n{KEY}"}}', {"content": f"key:\n{MARK}"}),
        (f'{{"content":"key:\\t{KEY}\\n"}}', {"content": f"key:\t{MARK}\n"}),
        (f'{{"content":"s\\u006b{KEY[2:]}"}}', {"content": MARK}),
        (f'{{"to":"to:\\n{MAIL}"}}', {"to": f"to:\n{MARK}"}),
        ('{"to":"bob\\u0040example.com"}', {"to": MARK}),
        ('{"auth":"Bearer abcdefghij\\/klmnopqrstuvwxyz"}', {"auth": MARK}),
        ('{"card":4111111111111111}', {"card": 4111111111111111}),
        ('{"card":"4111111111111111"}', {"card": MARK}),
        (f'{{"a":"\\"{KEY}\\""}}', {"a": f'"{MARK}"'}),
        ('{"a":"-----BEGIN PRIVATE KEY-----\\nMII","b":"c"}', {"a": MARK, "b": "c"}),
        (json.dumps({"a": BLOCK + "x"}), {"a": MARK + "x"}),
        (json.dumps({"a": BLOCK.split("\n"), "b": "c"}), {"a": [MARK, "", ""], "b": "c"}),
        ('{"a":["-----BEGIN PRIVATE KEY-----","MII"],"b":"c"}', {"a": [MARK, ""], "b": "c"}),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_what_a_string_stands_for_is_redacted(raw: str, expected: object, size: int) -> None:
    assert json.loads(redact([raw[at : at + size] for at in range(0, len(raw), size)])) == expected


def test_what_is_not_json_is_redacted_too() -> None:
    assert redact([f"patch {KEY} and 4111111111111111"]) == f"patch {MARK} and {MARK}"
    assert redact(["{", KEY, "}"]) == f"{{{MARK}}}"
    assert redact([f'{{"a":"say "{KEY}" and \\{KEY}']) == f'{{"a":"say "{MARK}" and \\[\\"redacted\\"]'


@given(st.text('\\u00u6b"n{s:k-', max_size=40), st.lists(st.integers(0, 100), max_size=10), st.sets(st.integers(0, 10)))
def test_any_text_comes_out_whole(text: str, places: list[int], pauses: set[int]) -> None:
    assert redact(cut_at("{" + text, places), pauses) == "{" + text


@pytest.mark.parametrize("unit", ["\\n", "\\u0061", '"', '":"', "1,", '\\"a@b.co', '","', "\\", '"a"', '"4111"'])
def test_no_arguments_take_long(unit: str) -> None:
    text = '{"' + unit * (64 * 1024 // len(unit))
    began = time.process_time()
    redact([text])
    assert time.process_time() - began < 3.0, "a message of the largest size by default takes a fraction of that"


TEXTS = st.lists(
    st.sampled_from(["a", " ", "\n", "\t", '"', "\\", "é", "😀", "/", KEY, MAIL, BLOCK, "4111 1111 1111 1111"]),
    max_size=6,
).map("".join)
VALUES = st.recursive(
    TEXTS | st.integers() | st.floats(allow_nan=False) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(st.sampled_from("abcd"), VALUES, min_size=1),
    st.tuples(st.booleans()),
    st.lists(st.integers(0, 10_000), max_size=30),
    st.sets(st.integers(0, 30)),
)
def test_arguments_are_json_afterwards_and_the_same_at_any_cut(
    value: dict[str, Any], escapes: tuple[bool], places: list[int], pauses: set[int]
) -> None:
    raw = json.dumps(value, ensure_ascii=escapes[0])
    pieces = cut_at(raw, places)
    whole = redact([raw])
    json.loads(whole)
    assert redact(pieces) == whole
    json.loads(redact(pieces, pauses))


@given(st.text(max_size=20), st.sampled_from(["\n", "\t", '"', "\\", " ", "\x01"]), st.lists(st.integers(0, 10_000)))
def test_no_secret_passes_behind_an_escape(before: str, edge: str, places: list[int]) -> None:
    raw = json.dumps({"a": f"{before}{edge}{KEY}{edge}{MAIL}"})
    out = redact(cut_at(raw, places))
    assert KEY not in out
    assert MAIL not in out
    assert json.loads(out)["a"].endswith(f"{edge}{MARK}{edge}{MARK}")
