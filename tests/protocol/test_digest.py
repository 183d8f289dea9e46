"""The digest of a message's text."""

from __future__ import annotations

from hashlib import sha256
from sys import getsizeof

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType

from deltawire.protocol.codec import JSON
from deltawire.protocol.digest import CHOICE_COST, LONG, MAX_CHOICES, PIECES, MessageDigest, TextDigest
from deltawire.protocol.errors import WireError
from deltawire.protocol.events import Digest, MessageStop, make_event


def hash_of(text: str) -> str:
    return sha256(text.encode()).hexdigest()


@given(st.lists(st.text()), st.sampled_from([UNSET, 0, 3]))
def test_the_digest_of_the_pieces_is_that_of_the_text(pieces: list[str], choice: int | UnsetType) -> None:
    digest = MessageDigest()
    digest.begin(5)
    for piece in pieces:
        digest.add(choice, piece)
    text = "".join(pieces)
    assert digest.of(choice) == Digest(first=5, characters=len(text), sha256=hash_of(text))


def test_a_digest_can_be_asked_for_in_between() -> None:
    digest = MessageDigest()
    digest.add(UNSET, "é" * LONG)
    digest.of(UNSET)
    digest.add(UNSET, "b")
    assert digest.of(UNSET) == Digest(first=1, characters=LONG + 1, sha256=hash_of("é" * LONG + "b"))


def test_a_new_message_begins_anew() -> None:
    digest = MessageDigest()
    digest.add(UNSET, "old")
    digest.begin(7)
    assert digest.of(UNSET) == Digest(first=7, characters=0, sha256=hash_of(""))


def test_choices_are_counted_each_by_itself() -> None:
    digest = MessageDigest()
    digest.add(0, "a")
    digest.add(1, "b")
    digest.add(UNSET, "c")
    digests = [digest.of(0), digest.of(1), digest.of(UNSET)]
    assert [found.sha256 for found in digests if isinstance(found, Digest)] == [*map(hash_of, "abc")]


def test_more_choices_than_are_counted_have_no_digest() -> None:
    digest = MessageDigest()
    for choice in range(MAX_CHOICES + 1):
        digest.add(choice, "x")
    assert isinstance(digest.of(MAX_CHOICES - 1), Digest)
    assert digest.of(MAX_CHOICES) is UNSET


@pytest.mark.parametrize("text", ["😀", "x", "😀" + "x" * 254, "x" * 255, "é" * 1000])
def test_what_waits_to_be_hashed_is_bounded_in_bytes(text: str) -> None:
    digest = TextDigest()
    worst = 0
    for _ in range(3 * PIECES):
        digest.add(text)
        worst = max(worst, getsizeof(digest._pending) + sum(map(getsizeof, digest._pending)))
    assert worst <= CHOICE_COST


def test_choices_beside_the_first_are_counted_until_the_next_message() -> None:
    digest = MessageDigest()
    assert [digest.add(choice, "x") for choice in (0, 0, 1)] == [True, False, True]
    assert digest.bytes == CHOICE_COST
    for choice in range(MAX_CHOICES + 9):
        digest.add(choice, "x")
    assert digest.bytes == (MAX_CHOICES - 1) * CHOICE_COST
    digest.begin(7)
    assert digest.bytes == 0


def test_a_producer_does_not_send_a_digest() -> None:
    stop = MessageStop("m", "end_turn", digest=Digest(first=1, characters=0, sha256=hash_of("")))
    with pytest.raises(WireError, match="`digest` is given by the gateway"):
        JSON.check_event(make_event(stop))
