"""Events go through the stages in order, come out whole and in order, and a stage that fails is contained."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltawire.gateway.middleware.holding import MAX_HELD
from deltawire.gateway.middleware.selecting import drop
from deltawire.gateway.middleware.stage import Context, Function, OnError, plan_function
from deltawire.gateway.middleware.thinking import split_thinking
from deltawire.gateway.streams.ending import end_lost
from deltawire.gateway.streams.producers import Writer
from deltawire.protocol.digest import TextDigest
from deltawire.protocol.errors import WireError
from deltawire.protocol.events import (
    ContentEnd,
    Data,
    Error,
    EventType,
    MessageStart,
    MessageStop,
    TextDelta,
    Thinking,
    Usage,
)
from deltawire.protocol.inline_thinking import ThinkingSplitter
from tests.middleware.streaming import Screened
from tests.support.reading import STAMP

USAGE = Usage(1, 2, 3)


def upper(data: Data, _: Context) -> Iterable[Data]:
    return [TextDelta(data.text.upper())] if isinstance(data, TextDelta) else [data]


def twice(data: Data, _: Context) -> Iterable[Data]:
    return [data, data]


def failing_on(text: str) -> Function:
    def fail(data: Data, _: Context) -> Iterable[Data]:
        if isinstance(data, TextDelta) and data.text == text:
            raise RuntimeError(f"no {text}")
        return [data]

    return fail


def test_what_a_stage_gives_is_what_the_next_one_takes() -> None:
    screened = Screened(plan_function("upper", upper), plan_function("twice", twice))
    assert screened.send("a", "b") == [2, 4]
    assert screened.read() == [TextDelta("A"), TextDelta("A"), TextDelta("B"), TextDelta("B")]


def test_a_changed_event_goes_by_stages_for_other_types_too() -> None:
    screened = Screened(plan_function("upper", upper), drop([EventType.USAGE]))
    screened.send("a", USAGE)
    assert screened.read() == [TextDelta("A")]


def test_an_event_of_which_nothing_becomes_counts_as_the_one_before_it() -> None:
    screened = Screened(drop([EventType.USAGE]))
    assert screened.send("a", USAGE, "b") == [1, 1, 2]
    assert screened.dropped_ == 1


def test_all_that_becomes_of_a_marked_event_is_marked_at_once_or_later() -> None:
    screened = Screened(plan_function("twice", twice), split_thinking())
    stream, screen = screened.stream, screened.screen
    screen.take(TextDelta("a"), STAMP, 0.0, None)
    screen.take(TextDelta("b<th"), STAMP, 0.0, None, is_urgent=True)
    screen.finish(1.0)
    kinds = stream.log.kinds(0, stream.log.head)
    assert [kind.is_urgent for kind in kinds] == [False, False, *[True] * (len(kinds) - 2)]
    assert len(kinds) > 3


def test_a_function_keeps_what_it_wants_of_each_stream() -> None:
    def count(data: Data, context: Context) -> Iterable[Data]:
        context.state["n"] = context.state.get("n", 0) + 1
        return [TextDelta(f"{context.stream}{context.state['n']}")] if isinstance(data, TextDelta) else [data]

    screened = Screened(plan_function("count", count))
    screened.send("a", "b")
    assert screened.text() == "demo1demo2"


def test_what_is_held_back_comes_out_with_all_behind_it_in_order() -> None:
    screened = Screened(split_thinking())
    producer = Writer("p", 0)
    assert screened.send("a<th", USAGE, writer=producer) == [None, None]
    assert screened.read() == []
    assert screened.send("ink>b", writer=producer) == [3]
    assert screened.read() == [TextDelta("a"), USAGE, Thinking("b")]
    assert screened.released_ == [("p", 1), ("p", 2)]


def test_what_is_held_back_costs_memory_until_it_is_out() -> None:
    screened = Screened(split_thinking())
    screened.send("x")
    before = screened.stream.bytes - screened.stream.log.bytes
    screened.send("<th")
    assert screened.stream.bytes - screened.stream.log.bytes >= before + 400
    screened.send("e")
    assert screened.stream.bytes - screened.stream.log.bytes == screened.screen.bytes
    assert screened.ledger.bytes == screened.stream.bytes


def test_texts_that_have_begun_cost_memory() -> None:
    screened = Screened(split_thinking())
    before = screened.screen.bytes
    for index in range(100):
        screened.send(TextDelta("x", index=index))
    assert screened.screen.bytes >= before + 80 * 500


def test_what_is_held_back_is_due_after_the_delay() -> None:
    screened = Screened(split_thinking())
    assert screened.screen.due_at is None
    screened.send("<", now=5.0)
    screened.send("t", now=5.1)
    assert screened.screen.due_at == 5.25
    screened.screen.let_out(5.25)
    assert screened.screen.due_at is None
    assert screened.text() == "<t"


def test_no_more_is_held_back_than_the_bound() -> None:
    screened = Screened(split_thinking())
    screened.send("<", *[USAGE] * (MAX_HELD - 1))
    assert screened.read() == []
    screened.send(USAGE)
    assert len(screened.read()) == MAX_HELD + 1


def test_the_end_of_the_stream_lets_out_what_is_held_back() -> None:
    screened = Screened(split_thinking())
    screened.send("a<")
    screened.stream.close("closed", 1.0)
    assert screened.text() == "a<"


def test_the_end_of_a_message_whose_producer_is_lost_lets_out_what_is_held_back() -> None:
    screened = Screened(split_thinking())
    producer = Writer("p", 0)
    screened.send(MessageStart("m"), "a<", writer=producer)
    screened.stream.leases.lost(producer, 1.0)
    end_lost(screened.stream, "2026-11-22T11:00:00Z", 1.0, 1.0)
    assert [it.type for it in screened.read()] == ["message_start", "text_delta", "error", "message_stop"]
    assert screened.text() == "a<"


@pytest.mark.parametrize("end", [ContentEnd(0), MessageStop("m", "end_turn"), MessageStart("n")])
def test_the_end_of_a_text_lets_out_what_is_held_back_of_it(end: Data) -> None:
    screened = Screened(split_thinking())
    screened.send(TextDelta("a<", index=0))
    assert screened.read() == []
    screened.send(end)
    assert screened.read() == [TextDelta("a<", index=0), end]


def test_the_digest_is_that_of_what_readers_get() -> None:
    screened = Screened(plan_function("upper", upper))
    screened.send(MessageStart("m"), "ab", "c")
    stops: list[MessageStop] = []

    class Listener:
        def began(self, *_: object) -> None: ...

        def ended(self, _: object, stop: MessageStop, seq: int) -> None:
            assert seq == 4
            stops.append(stop)

    screened.stream.watcher = Listener()
    screened.send(MessageStop("m", "end_turn"))
    expected = TextDigest()
    expected.add("ABC")
    assert stops[0].digest
    assert (stops[0].digest.sha256, stops[0].digest.characters) == (expected.sha256(), 3)


# Failures


def test_a_failing_stage_refuses_the_event_in_words() -> None:
    screened = Screened(plan_function("picky", failing_on("b")))
    screened.send("a")
    with pytest.raises(WireError, match="stage `picky` failed on this event, so it is refused"):
        screened.send("b")
    screened.send("c")
    assert screened.text() == "ac"
    assert screened.failures == [("picky", "RuntimeError")]


@pytest.mark.parametrize(("on_error", "text"), [("drop", "ac"), ("pass", "abc")])
def test_a_failing_stage_can_drop_the_event_or_let_it_pass(on_error: OnError, text: str) -> None:
    screened = Screened(plan_function("picky", failing_on("b"), on_error))
    screened.send("a", "b", "c")
    assert screened.text() == text
    assert len(screened.failures) == 1


def test_a_function_keeps_its_state_when_it_fails() -> None:
    def count(data: Data, context: Context) -> Iterable[Data]:
        if data == TextDelta("b"):
            raise RuntimeError
        context.state["n"] = context.state.get("n", 0) + 1
        return [TextDelta(str(context.state["n"]))]

    screened = Screened(plan_function("count", count, "drop"))
    screened.send("a", "b", "c")
    assert screened.text() == "12"


def test_a_stage_that_holds_back_begins_anew_when_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    screened = Screened(split_thinking("pass"))
    screened.send("a<")
    monkeypatch.setattr(ThinkingSplitter, "feed", Mock(side_effect=RuntimeError))
    screened.send("b")
    monkeypatch.undo()
    screened.send("c")
    assert screened.text() == "a<bc"
    assert screened.failures == [("split_thinking", "RuntimeError")]


def test_what_no_consumer_could_decode_is_a_failure() -> None:
    screened = Screened(plan_function("wrong", lambda *_: [Usage(-1, 0, 0)]))
    with pytest.raises(WireError, match="`wrong`"):
        screened.send("a")


def test_an_event_that_was_held_back_and_fails_later_is_dropped() -> None:
    screened = Screened(split_thinking(), plan_function("picky", failing_on("b<")))
    producer = Writer("p", 0)
    screened.send("b<", writer=producer)
    assert screened.released_ == []
    screened.send("c", writer=producer)
    assert screened.text() == "b<c"
    screened = Screened(split_thinking(), plan_function("picky", failing_on("b")))
    screened.send("b<", writer=producer)
    assert screened.send("c") == [1]
    assert (screened.text(), screened.released_, screened.dropped_) == ("<c", [("p", 0)], 1)
    assert len(screened.reasons) == 1
    assert "stage `picky` failed on this event after it had been held back" in screened.reasons[0]


def test_each_of_several_events_that_come_out_together_and_fail_is_told_of() -> None:
    screened = Screened(split_thinking(), plan_function("picky", failing_on("bad")))
    bad = TextDelta("bad", index=1)
    assert screened.send("<", bad, bad, writer=Writer("p", 0)) == [None, None, None]
    assert screened.send("d") == [1]
    assert (screened.text(), len(screened.released_), len(screened.reasons)) == ("<d", 3, 2)


def test_nothing_of_an_event_gets_out_if_a_stage_fails_on_a_part_of_it_later() -> None:
    def split(data: Data, _: Context) -> Iterable[Data]:
        return map(TextDelta, data.text.split("|")) if isinstance(data, TextDelta) else [data]

    for text, is_late in (("a|bad|c<", False), ("a|bad<", True)):
        screened = Screened(plan_function("split", split), split_thinking(), plan_function("picky", failing_on("bad")))
        if is_late:
            assert screened.send(text) == [None]
        else:
            with pytest.raises(WireError):
                screened.send(text)
        assert screened.send("d") == [1]
        assert screened.text() == "<d", "the beginning of a tag is in the delta that decides it"


def test_nothing_of_a_refused_event_goes_any_further() -> None:
    seen: list[Data] = []

    def split(data: Data, _: Context) -> Iterable[Data]:
        return map(TextDelta, data.text.split("|")) if isinstance(data, TextDelta) else [data]

    def see(data: Data, _: Context) -> Iterable[Data]:
        seen.append(data)
        return [data]

    stages = plan_function("split", split), plan_function("picky", failing_on("bad")), plan_function("see", see)
    for screened in Screened(*stages[:2]), Screened(*stages):
        with pytest.raises(WireError):
            screened.send("a|bad|c")
        screened.send("d|e")
        assert screened.text() == "de"
    assert seen == [TextDelta("d"), TextDelta("e")]


def test_an_event_that_is_refused_leaves_what_is_held_back_before_it() -> None:
    screened = Screened(plan_function("picky", failing_on("b")), split_thinking())
    screened.send("a<")
    with pytest.raises(WireError):
        screened.send("b")
    screened.send("c")
    assert screened.text() == "a<c"


def test_an_error_event_does_not_end_a_text() -> None:
    screened = Screened(split_thinking())
    screened.send("<th", Error("oops"), "ink>x")
    assert screened.read() == [Error("oops"), Thinking("x")]


PIECES = st.lists(st.sampled_from(["<think>", "</think>", "<", "th", "ink>", "a", "`", "``", "\n", " "]), max_size=12)


@given(PIECES, st.lists(st.integers(0, 100), max_size=10))
def test_thinking_is_told_apart_the_same_at_any_cut(pieces: list[str], places: list[int]) -> None:
    whole = "".join(pieces)
    bounds = [0, *sorted(place % (len(whole) + 1) for place in places), len(whole)]
    cut = [whole[start:end] for start, end in pairwise(bounds)]
    results = []
    for sent in ([whole], cut):
        screened = Screened(split_thinking())
        screened.send(*sent, MessageStop("m", "end_turn"))
        events = screened.read()
        assert isinstance(events[-1], MessageStop)
        joined: list[tuple[str, str]] = []
        for it in events[:-1]:
            kind, text = ("text", it.text) if isinstance(it, TextDelta) else ("thinking", it.thinking)  # type: ignore[attr-defined]
            if joined and joined[-1][0] == kind:
                joined[-1] = (kind, joined[-1][1] + text)
            elif text:
                joined.append((kind, text))
        results.append(joined)
    assert results[0] == results[1]


def test_nothing_of_a_refused_event_comes_with_those_that_wait_behind_it() -> None:
    def split(data: Data, _: Context) -> Iterable[Data]:
        return map(TextDelta, ("bad", "secret<")) if data == TextDelta("bad|secret<") else [data]

    stages = plan_function("split", split), split_thinking(), plan_function("picky", failing_on("bad"))
    screened = Screened(*stages)
    with pytest.raises(WireError):
        screened.send("bad|secret<")
    assert screened.send(TextDelta("x<", 1), "d", TextDelta("y", 1)) == [None, None, 3]
    assert screened.text() == "x<d<y"
