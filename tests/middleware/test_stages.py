"""What each built-in stage makes of events."""

from __future__ import annotations

import pytest

from deltawire.gateway.middleware.changing import limit, set_fields
from deltawire.gateway.middleware.selecting import drop, keep, sample
from deltawire.gateway.middleware.thinking import split_thinking
from deltawire.protocol.events import (
    ContentStart,
    Error,
    EventType,
    Extension,
    MessageStart,
    MessageStop,
    TextDelta,
    Thinking,
    Usage,
)
from tests.middleware.streaming import Screened

START, STOP = MessageStart("m", "gpt"), MessageStop("m", "end_turn")
USAGE, EXTENSION = Usage(1, 2, 3), Extension("acme", "note", {"a": 1})
MESSAGE = [START, Thinking("hm"), TextDelta("hi"), USAGE, EXTENSION, Error("oops"), STOP]


def test_drop_drops_the_types_it_names() -> None:
    screened = Screened(drop([EventType.USAGE, EventType.THINKING]))
    screened.send(*MESSAGE)
    assert screened.read() == [START, TextDelta("hi"), EXTENSION, Error("oops"), STOP]


def test_keep_drops_all_others_but_those_readers_need() -> None:
    screened = Screened(keep([EventType.TEXT_DELTA]))
    screened.send(*MESSAGE)
    assert screened.read() == [START, TextDelta("hi"), Error("oops"), STOP]


@pytest.mark.parametrize("type_", ["message_start", "message_stop", "error"])
def test_what_readers_need_can_not_be_dropped(type_: EventType) -> None:
    with pytest.raises(ValueError, match="readers need them"):
        drop([EventType(type_)])
    with pytest.raises(ValueError, match="readers need them"):
        sample([EventType(type_)], 2)


def test_sample_keeps_the_first_and_each_nth_after_it() -> None:
    screened = Screened(sample([EventType.USAGE, EventType.EXTENSION], 3))
    screened.send(EXTENSION, *(Usage(n, 0, n) for n in range(7)), "a")
    assert screened.read() == [EXTENSION, Usage(0, 0, 0), Usage(3, 0, 3), Usage(6, 0, 6), TextDelta("a")]


def test_set_renames_and_adds() -> None:
    screened = Screened(
        set_fields(EventType.MESSAGE_START, {"model": "ours"}, where={"model": "gpt"}),
        set_fields(EventType.MESSAGE_START, {"provider": "us"}),
    )
    screened.send(START, MessageStart("n", "other"), "a")
    assert screened.read() == [MessageStart("m", "ours", "us"), MessageStart("n", "other", "us"), TextDelta("a")]


@pytest.mark.parametrize(
    ("type_", "fields", "why"),
    [
        ("usage", {"colour": 1}, "no `colour`"),
        ("usage", {"prompt_tokens": -1}, "prompt_tokens"),
        ("message_start", {"message_id": ""}, "message_id"),
        ("message_stop", {"digest": None}, "no `digest`"),
    ],
)
def test_what_can_not_be_set_is_told(type_: str, fields: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        set_fields(EventType(type_), fields)


def test_limit_cuts_the_text_of_each_choice_and_says_so() -> None:
    screened = Screened(limit(5))
    screened.send(START, "abc", "defg", "h", Thinking("and on"), TextDelta("short", choice=1))
    screened.send(MessageStop("m", "end_turn", choice=1), STOP)
    assert screened.read() == [
        START,
        TextDelta("abc"),
        TextDelta("de"),
        Thinking("and on"),
        TextDelta("short", choice=1),
        MessageStop("m", "end_turn", choice=1),
        MessageStop("m", "length_limit"),
    ]
    screened.send(START, "again")
    assert screened.text() == "abcdeshortagain"


def test_split_thinking_tells_thinking_apart_from_text() -> None:
    screened = Screened(split_thinking())
    screened.send(TextDelta("<think>let me see</think>It is", index=0, choice=1), TextDelta(" `<think>`", index=0))
    screened.send(ContentStart(1), MessageStop("m", "end_turn"))
    assert screened.read()[:3] == [
        Thinking("let me see", 0, 1),
        TextDelta("It is", 0, 1),
        TextDelta(" `<think>`", 0),
    ]
    assert screened.text() == "It is `<think>`"


def test_all_pieces_of_a_delta_have_its_kind() -> None:
    screened = Screened(split_thinking())
    screened.send(TextDelta("a<think>b", kind="answer"), STOP)
    assert screened.read()[:-1] == [TextDelta("a", kind="answer"), Thinking("b", kind="answer")]


def test_nothing_is_left_of_a_tag_alone_and_an_empty_delta_stays() -> None:
    screened = Screened(split_thinking())
    assert screened.send("a", "<think>", "b", "") == [1, 1, 2, 3]
    assert screened.read() == [TextDelta("a"), Thinking("b"), TextDelta("")]


def test_a_tag_cut_between_deltas_is_a_tag() -> None:
    screened = Screened(split_thinking())
    screened.send(*"<think>a</think>b", STOP)
    assert screened.read() == [Thinking("a"), TextDelta("b"), STOP]


def test_each_choice_thinks_for_itself() -> None:
    screened = Screened(split_thinking())
    for letters in zip("<think>a", "no tags!", strict=True):
        screened.send(*(TextDelta(letter, choice=choice) for choice, letter in enumerate(letters)))
    assert "".join(it.text for it in screened.read() if isinstance(it, TextDelta)) == "no tags!"
    assert [it for it in screened.read() if isinstance(it, Thinking)] == [Thinking("a", choice=0)]
