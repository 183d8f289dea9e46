from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltawire.protocol.providers.halves import encode_json, has_halves, join, mend, mend_all


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("plain", "plain"),
        ("grüße 🌍", "grüße 🌍"),
        ("\ud83c\udf0d", "🌍"),
        ("\ud83d\udc80", "💀"),
        ("\ud83c", "\ufffd"),
        ("\udf0d\ud83c", "\ufffd\ufffd"),
        ("\udcf0\udc9f\udc8c\udc8d", "🌍"),
        ("\udced\udca0\udcbc\udced\udcbc\udc8d", "🌍"),
        ("\udcff\udce2\udc82x", "\ufffd\ufffdx"),
    ],
)
def test_halves_beside_each_other_are_joined_and_others_replaced(text: str, mended: str) -> None:
    assert mend(text) == mended
    assert has_halves(text) == (not text.isprintable())


@given(st.text(), st.sampled_from(["utf-8", "utf-16-le", "cesu"]), st.data())
def test_a_text_cut_anywhere_into_units_is_whole_again(text: str, unit: str, data: st.DataObject) -> None:
    wide = text.encode("utf-16-le")
    halves = "".join(chr(int.from_bytes(wide[i : i + 2], "little")) for i in range(0, len(wide), 2))
    units = {
        "utf-8": text.encode().decode("ascii", "surrogateescape"),
        "utf-16-le": halves,
        "cesu": halves.encode("utf-8", "surrogatepass").decode("ascii", "surrogateescape"),
    }[unit]
    told, rest = "", ""
    while units:
        size = data.draw(st.integers(1, len(units)))
        piece, rest = join(rest + units[:size])
        told += piece
        units = units[size:]
    assert told + mend(rest) == text


@given(st.text(st.characters(codec=None)))
def test_whatever_is_mended_is_valid(text: str) -> None:
    mend(text).encode()
    piece, rest = join(text)
    (piece + mend(rest)).encode()
    assert len(rest) <= 5


def test_json_is_mended_names_and_all() -> None:
    assert mend_all({"a\ud800": ["\udc00", 1, None]}) == {"a\ufffd": ["\ufffd", 1, None]}
    assert encode_json({"a\ud800": "x"}) == '{"a\ufffd":"x"}'
