"""Integers and seqs from URLs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltawire.protocol.events import MAX_SEQ
from deltawire.protocol.position import Position, parse_integer, parse_seq


@given(st.integers(0, MAX_SEQ))
def test_every_seq_is_read_back_from_its_digits(seq: int) -> None:
    assert parse_seq(str(seq)) == seq


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "-1",
        "+1",
        "1.0",
        "1e3",
        "0x1",
        "1_000",
        " 1",
        "1 ",
        "1\n",
        "٣",
        "²",
        "one",
        str(MAX_SEQ + 1),
        "9" * 5000,
    ],
)
def test_what_is_not_a_seq_is_refused_with_the_range(text: str) -> None:
    with pytest.raises(ValueError, match=f"expected an integer from 0 to {MAX_SEQ}"):
        parse_seq(text)


@pytest.mark.parametrize(("text", "is_within"), [("0", False), ("1", True), ("5", True), ("6", False), ("005", True)])
def test_an_integer_is_held_to_its_bounds(text: str, *, is_within: bool) -> None:
    if is_within:
        assert 1 <= parse_integer(text, 1, 5) <= 5
    else:
        with pytest.raises(ValueError, match="from 1 to 5"):
            parse_integer(text, 1, 5)


def test_a_position_is_an_epoch_and_a_seq() -> None:
    assert Position("f3a1c2", 7) == ("f3a1c2", 7)
