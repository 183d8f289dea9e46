"""Late joiners of an answer that is longer than its stream retains."""

from __future__ import annotations

import pytest

from deltawire.gateway.streams.log import Ledger, Retention
from deltawire.gateway.streams.prefix import Prefix
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.codec import JSON, MSGPACK, Codec
from deltawire.protocol.events import Event, MessageStart, MessageStop, TextDelta, Usage
from deltawire.protocol.messages import Gap, Message, Policy
from tests.support.reading import ask, drain, live, only, publish, spans


def make_stream(events: int = 10, size: int = 1 << 20) -> Stream:
    return Stream("s", "e", StreamSettings(retention=Retention(events=events, bytes=size)), 0.0, Ledger())


def read(stream: Stream, query: str = "", codec: Codec = JSON) -> list[Event | Message]:
    """All that a consumer gets that comes now."""
    return drain(stream.subscribe(ask(query), codec, now=0.0))


def answer(count: int) -> list[TextDelta]:
    return [TextDelta(f"word{number} ", 0) for number in range(count)]


def text_of(messages: list[Event | Message]) -> str:
    return "".join(item.data.text for item in messages if isinstance(item, Event) and isinstance(item.data, TextDelta))


@pytest.mark.parametrize("retained", [1, 3, 10, 300, 700])
@pytest.mark.parametrize("count", [5, 299, 2_000])
def test_a_late_coalescing_consumer_gets_the_whole_open_message(retained: int, count: int) -> None:
    stream = make_stream(retained)
    publish(stream, MessageStart("m"), *answer(count))
    messages = read(stream)
    assert not only(Gap, messages)
    assert text_of(messages) == "".join(delta.text for delta in answer(count))


def test_it_comes_in_a_few_frames() -> None:
    stream = make_stream(events=1_000)
    publish(stream, MessageStart("m"), *answer(20_000))
    assert len(only(Event, read(stream))) <= 10


def test_what_is_no_delta_is_kept_in_its_place() -> None:
    stream = make_stream(events=1)
    usage = Usage(1, 2, 3)
    publish(stream, MessageStart("m"), TextDelta("a"), TextDelta("b"), usage, TextDelta("c"), TextDelta("d"))
    events = only(Event, read(stream))
    assert [event.data for event in events] == [
        MessageStart("m"),
        TextDelta("ab"),
        usage,
        TextDelta("cd"),
    ]


def test_a_message_that_ended_is_kept_until_the_next_one_begins() -> None:
    stream = make_stream(events=2)
    publish(stream, MessageStart("m"), *answer(20), MessageStop("m", "end_turn"))
    assert not only(Gap, read(stream))
    publish(stream, MessageStart("n"))
    assert spans(read(stream))[0] == "evicted 1-21"


def test_what_came_before_the_message_is_a_gap() -> None:
    stream = make_stream(events=2)
    publish(stream, *answer(5), MessageStart("m"), *answer(5))
    messages = read(stream)
    assert [(gap.first, gap.seq, gap.reason) for gap in only(Gap, messages)] == [(1, 5, "evicted")]
    assert text_of(messages) == "".join(delta.text for delta in answer(5))


def test_a_resume_inside_a_kept_run_is_a_gap_to_its_end_and_no_further() -> None:
    stream = make_stream(events=1)
    publish(stream, MessageStart("m"), TextDelta("a"), TextDelta("b"), TextDelta("c"), Usage(1, 2, 3), TextDelta("d"))
    messages = read(stream, "after=2")
    assert spans(messages) == ["evicted 3-4", (5, 5), (6, 6)]


def test_a_resume_at_the_end_of_a_kept_run_misses_nothing() -> None:
    stream = make_stream(events=1)
    publish(stream, MessageStart("m"), TextDelta("a"), TextDelta("b"), Usage(1, 2, 3), TextDelta("d"))
    assert spans(read(stream, "after=3")) == [(4, 4), (5, 5)]


@pytest.mark.parametrize("policy", [policy for policy in Policy if policy is not Policy.COALESCE])
def test_consumers_that_do_not_fold_are_told_what_was_trimmed(policy: Policy) -> None:
    stream = make_stream(events=2)
    publish(stream, MessageStart("m"), *answer(5))
    assert spans(read(stream, f"policy={policy}")) == ["evicted 1-4", (5, 5), (6, 6)]


def test_a_consumer_overrun_while_it_reads_gets_the_rest_folded() -> None:
    stream = make_stream(events=3)
    publish(stream, MessageStart("m"))
    subscription = live(stream)
    publish(stream, *answer(50))
    messages = drain(subscription)
    assert not only(Gap, messages)
    assert text_of(messages) == "".join(delta.text for delta in answer(50))


def test_a_message_whose_beginning_is_over_the_limit_is_an_exact_gap() -> None:
    stream = make_stream(events=10, size=64 * 1024)
    big = [TextDelta("x" * 1_000) for _ in range(50)]
    publish(stream, MessageStart("m"), *big)
    messages = read(stream)
    assert [(gap.first, gap.seq) for gap in only(Gap, messages)] == [(1, stream.log.floor - 1)]
    assert stream.log.prefix.bytes == 0
    publish(stream, MessageStart("n"), *answer(30))
    assert not only(Gap, read(stream, f"after={stream.log.prefix.start - 1}"))


def test_invariant_6_what_is_kept_counts_among_the_bytes_and_stays_within_its_share() -> None:
    stream = make_stream(events=10, size=64 * 1024)
    publish(stream, MessageStart("m"), *answer(500))
    assert 0 < stream.log.prefix.bytes <= 8 * 1024
    assert stream.log.bytes > stream.log.prefix.bytes
    others = stream.log.ledger.bytes - stream.log.bytes  # what the message in progress costs beside its events
    stream.log.clear()
    assert stream.log.bytes == 0
    assert stream.log.ledger.bytes == others


def test_it_passes_filter_and_encoding_like_everything_else() -> None:
    stream = make_stream(events=1)
    publish(stream, MessageStart("m"), TextDelta("a"), TextDelta("b"), Usage(1, 2, 3), TextDelta("c"))
    events = only(Event, read(stream, "types=text_delta", MSGPACK))
    assert [event.data for event in events] == [TextDelta("ab"), TextDelta("c")]


def test_nothing_is_kept_before_a_message_begins() -> None:
    prefix = Prefix(limit=1_000)
    assert not prefix.is_kept
    assert prefix.runs_after(0) == []


def test_a_resume_before_the_floor_is_a_gap_up_to_the_floor_and_no_further() -> None:
    stream = make_stream(events=10)
    publish(stream, MessageStart("m"), *answer(18), Usage(1, 2, 3), *answer(6))
    kept = [(run.first, run.last) for run in stream.log.prefix.runs_after(0)]
    assert kept == [(1, 1), (2, 19), (20, 20), (21, 22)]
    assert stream.log.floor == 17, "in the middle of a kept run"
    assert spans(read(stream, "after=14")) == ["evicted 15-16", (17, 19), (20, 20), (21, 26)]
