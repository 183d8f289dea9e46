"""The stage `redact`: what becomes of events, whatever is between them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("re2", reason="needs the extra: pip install 'deltawire[redact]'")

from deltawire.gateway.middleware.holding import MAX_HELD
from deltawire.gateway.middleware.patterns import PERSONAL, SECRETS
from deltawire.gateway.middleware.redacting import redact
from deltawire.gateway.streams.producers import Writer
from deltawire.protocol.events import (
    ContentEnd,
    ContentStart,
    Data,
    Error,
    Extension,
    MessageStart,
    MessageStop,
    TextDelta,
    Thinking,
    ToolDelta,
    Usage,
)
from tests.middleware.streaming import Screened

KEY = "sk-abcdefghijklmnopqrstuvwxyz"
STOP = MessageStop("m", "end_turn")
USAGE = Usage(1, 2, 3)


@pytest.fixture
def screened() -> Screened:
    return Screened(redact(SECRETS + PERSONAL))


def test_a_secret_in_many_deltas_becomes_one_mark(screened: Screened) -> None:
    screened.send("My key is ", "sk-", *KEY[3:], ", keep it", STOP)
    assert screened.text() == "My key is [redacted], keep it"


def test_a_delta_of_which_nothing_is_left_is_dropped(screened: Screened) -> None:
    screened.send("sk-", KEY[3:], KEY, " so", STOP)
    assert screened.read() == [TextDelta("[redacted]"), TextDelta(" so"), STOP]


def test_an_event_comes_out_whole_or_not_at_all(screened: Screened) -> None:
    producer = Writer("p", 0)
    assert screened.send("it is sk-abc", writer=producer) == [None]
    assert screened.read() == []
    assert screened.send(" no secret, ", writer=producer) == [2]
    assert screened.read() == [TextDelta("it is sk-abc"), TextDelta(" no secret, ")]
    assert screened.released_ == [("p", 1)]


def test_events_between_the_deltas_of_a_text_keep_their_place(screened: Screened) -> None:
    screened.send("a ", TextDelta("sk-abcdefghij"), USAGE, ContentStart(1), TextDelta("klmnopqrstuvwxyz, "), USAGE)
    assert screened.read() == [TextDelta("a "), TextDelta("[redacted]"), USAGE, ContentStart(1), TextDelta(", "), USAGE]


def test_blocks_and_choices_are_texts_of_their_own(screened: Screened) -> None:
    screened.send(
        TextDelta("sk-abcdefghij", index=0),
        TextDelta("klmnopqrstuvwxyz", index=1),
        TextDelta("sk-abcdefghij", choice=1),
        TextDelta("klmnopqrstuvwxyz ", index=0),
        STOP,
    )
    assert screened.read() == [
        TextDelta("[redacted]", index=0),
        TextDelta("klmnopqrstuvwxyz", index=1),
        TextDelta("sk-abcdefghij", choice=1),
        TextDelta(" ", index=0),
        STOP,
    ]


def test_choices_that_are_interleaved_letter_by_letter_are_redacted(screened: Screened) -> None:
    for letter in f"{KEY} ":
        screened.send(TextDelta(letter, choice=0), TextDelta(letter, choice=1))
    screened.send(STOP)
    assert screened.text() == "[redacted][redacted]  "


def test_a_text_ends_with_its_block(screened: Screened) -> None:
    screened.send(TextDelta("sk-abcdefghij", index=0), ContentEnd(0), TextDelta("klmnopqrstuvwxyz", index=0), STOP)
    assert screened.text() == "sk-abcdefghijklmnopqrstuvwxyz"


def test_a_text_does_not_end_with_another_message(screened: Screened) -> None:
    begin, rest = "-----BEGIN PRIVATE KEY-----MII", "abc-----END PRIVATE KEY----- so"
    screened.send(MessageStart("m"), begin, MessageStart("n"), MessageStop("n", "end_turn"), rest, STOP, rest, STOP)
    assert screened.text() == f"[redacted] so{rest}"


def test_a_delta_of_another_text_waits_behind_what_is_held_back(screened: Screened) -> None:
    others = [Thinking(", "), TextDelta(", ", choice=1)]
    assert screened.send("sk-abc", *others) == [None, None, None]
    assert screened.read() == []
    screened.send(" no secret, ")
    assert screened.read() == [TextDelta("sk-abc"), *others, TextDelta(" no secret, ")]


def test_thinking_and_arguments_are_redacted_too(screened: Screened) -> None:
    screened.send(Thinking(KEY), ToolDelta(0, '{"key": "' + KEY[:9]), ToolDelta(0, f'{KEY[9:]}"}}'), STOP)
    assert screened.read()[:3] == [Thinking("[redacted]"), ToolDelta(0, '{"key": "[redacted]'), ToolDelta(0, '"}')]


def test_errors_and_extensions_are_redacted_whole(screened: Screened) -> None:
    screened.send(
        Error(f"bad key {KEY}"),
        Extension("p", "n", {"k": [KEY, 1, None], KEY: True, f"{KEY}2": 2}),
        Extension("p", "n", STOP),
    )
    assert screened.read() == [
        Error("bad key [redacted]"),
        Extension("p", "n", {"k": ["[redacted]", 1, None], KEY: True, f"{KEY}2": 2}),
        Extension("p", "n", {"message_id": "m", "stop_reason": "end_turn"}),
    ]


def test_what_was_let_out_is_redacted_from_there_on(screened: Screened) -> None:
    screened.send("sk-abcdefghij")
    screened.screen.let_out(1.0)
    screened.send("klmnopqrstuvwxyz, so", STOP)
    assert screened.text() == "sk-abcdefghij[redacted], so"


def test_too_many_events_behind_a_text_let_it_out(screened: Screened) -> None:
    screened.send("sk-abc", *[USAGE] * MAX_HELD)
    assert len(screened.read()) == MAX_HELD + 1


def test_texts_that_have_begun_cost_memory(screened: Screened) -> None:
    before = screened.screen.bytes
    screened.send(*[TextDelta(", ", index=index) for index in range(100)])
    assert screened.screen.bytes >= before + 100 * 1000


def test_two_redactors_each_do_their_part() -> None:
    screened = Screened(redact(SECRETS, "<secret>"), redact(PERSONAL, "<person>"))
    screened.send(*f"write joe@example.com {KEY} now", STOP)
    assert screened.text() == "write <person> <secret> now"


KINDS = st.sampled_from(["text", "choice", "usage", "thinking"])


@given(st.lists(st.tuples(KINDS, st.integers(1, 9)), max_size=40))
def test_whatever_is_between_no_secret_gets_through_and_no_other_text_is_lost(plan: list[tuple[str, int]]) -> None:
    whole = f"Dear joe@example.com, {KEY} is the key, and 4111 1111 1111 1111 the card."
    expected = "Dear [redacted], [redacted] is the key, and [redacted] the card."
    screened = Screened(redact(SECRETS + PERSONAL))
    left = dict.fromkeys(("text", "choice", "thinking"), whole)

    def cut(kind: str, size: int) -> Data:
        if kind == "usage":
            return USAGE
        piece, left[kind] = left[kind][:size], left[kind][size:]
        if kind == "thinking":
            return Thinking(piece)
        return TextDelta(piece, choice=1) if kind == "choice" else TextDelta(piece)

    sent = [cut(kind, size) for kind, size in plan] + [cut(kind, 1000) for kind in left]
    screened.send(*sent, STOP)
    got = screened.read()
    for choice in (0, 1):
        texts = [it.text for it in got if isinstance(it, TextDelta) and bool(it.choice) == bool(choice)]
        assert "".join(texts) == expected
    assert "".join(it.thinking for it in got if isinstance(it, Thinking)) == expected
    assert sum(it == USAGE for it in got) == sum(kind == "usage" for kind, _ in plan)
