"""Urgent events: ahead of what a consumer has to wait for, and in their place (SPEC §5.9)."""

from __future__ import annotations

import pytest

from deltawire.gateway.streams.candidates import MAX_AHEAD
from deltawire.gateway.streams.log import Retention
from deltawire.gateway.streams.pages import StoredPage
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.stream import Stream
from deltawire.gateway.streams.subscription import Subscription
from deltawire.gateway.streams.view import CHUNK
from deltawire.protocol.addresses import SubscribeRequest
from deltawire.protocol.codec import JSON, MSGPACK, Codec
from deltawire.protocol.event_stream import Body, EventStream
from deltawire.protocol.events import Data, Error, Event, EventType, TextDelta, Usage
from deltawire.protocol.messages import Policy, Urgent
from tests.streams.durable import frames_of, history_of, make_durable
from tests.support.reading import STAMP, ask, drain, live, make_stream, numbered, publish, read_frames, spans

BEHIND = 10_000


def copies(data: bytes, codec: Codec = JSON) -> list[Event]:
    """The events that came ahead; nothing else did."""
    found = []
    for frame in read_frames(data, codec):
        assert isinstance(frame.message, Urgent)
        event = codec.decode_to_consumer(bytes(frame.message.event))
        assert isinstance(event, Event)
        found.append(event)
    return found


def seqs(data: bytes) -> list[object]:
    return [event.seq for event in copies(data)]


def mark(stream: Stream, data: Data) -> int:
    return stream.append(data, STAMP, 0.0, is_urgent=True)


@pytest.mark.thorough
@pytest.mark.parametrize("codec", [JSON, MSGPACK])
@pytest.mark.parametrize("policy", Policy)
def test_an_urgent_event_is_the_first_thing_a_consumer_gets_that_is_far_behind(policy: Policy, codec: Codec) -> None:
    stream = make_stream()
    reader = live(stream, f"policy={policy}&buffer=10000&urgent=error", codec)
    publish(stream, *numbered(1, BEHIND), Error("x"))
    (event,) = copies(reader.take_ahead(), codec)
    assert (event.seq, event.data) == (BEHIND + 1, Error("x"))
    assert reader.cursor == 0, "it moves nothing"
    assert reader.take_ahead() == b"", "it comes ahead once"
    *_, last = drain(reader)
    assert (last.seq, last.data) == (event.seq, event.data)  # type: ignore[union-attr]  # the event
    assert stream.log.ledger.urgent == 1


def test_a_read_that_leaves_an_urgent_event_behind_begins_with_its_copy() -> None:
    stream = make_stream()
    publish(stream, *numbered(1, BEHIND), Error("x"))
    reader = stream.subscribe(ask("policy=block&urgent=error"), now=0.0)
    assert b'"urgent"' not in (reader.take() or b""), "`subscribed` comes first"
    first, *others = read_frames(reader.take() or b"")
    assert isinstance(first.message, Urgent)
    assert spans([frame.message for frame in others])[0] == (1, 1)
    assert not any(isinstance(message, Urgent) for message in drain(reader))


def test_the_very_copy_is_the_bytes_of_the_event() -> None:
    stream = make_stream()
    reader = live(stream, "urgent=marked")
    mark(stream, TextDelta("first"))
    mark(stream, TextDelta("second"))
    (frame,) = read_frames(reader.take_ahead())
    assert isinstance(frame.message, Urgent)
    assert stream.log.frame(2).endswith(bytes(frame.message.event))


@pytest.mark.parametrize("before", [0, 1])
def test_the_next_event_of_a_consumer_does_not_come_ahead_of_itself(before: int) -> None:
    stream = make_stream()
    reader = live(stream, "urgent=error")
    publish(stream, *numbered(1, before), Error("x"))
    assert seqs(reader.take_ahead()) == ([2] if before else [])


@pytest.mark.parametrize(
    ("query", "ahead"),
    [
        ("", []),
        ("urgent=marked", [4, 6]),
        ("urgent=usage", [3, 4, 6]),
        ("urgent=usage,error", [3, 4, 5, 6]),
        ("urgent=usage,error&types=usage,text_delta", [3, 6]),
        ("urgent=error&index=1", [4, 5]),
    ],
)
def test_what_comes_ahead_is_what_was_asked_for_or_marked_and_the_filter_lets_through(
    query: str, ahead: list[int]
) -> None:
    stream = make_stream()
    reader = live(stream, query)
    publish(stream, *numbered(1, 2), Usage(1, 2, 3))
    mark(stream, Error("marked"))
    publish(stream, Error("plain"))
    mark(stream, TextDelta("x", 0))
    assert seqs(reader.take_ahead()) == ahead


def test_no_more_than_the_newest_few_come_ahead_and_the_others_in_their_place() -> None:
    stream = make_stream()
    reader = live(stream, "urgent=error,usage&policy=block")
    publish(stream, TextDelta("x"), *[Usage(1, 2, 3)] * MAX_AHEAD, *[Error("x")] * (MAX_AHEAD - 2))
    head = stream.log.head
    assert seqs(reader.take_ahead()) == list(range(head - MAX_AHEAD + 1, head + 1))
    assert spans(drain(reader)) == [(seq, seq) for seq in range(1, head + 1)]


def test_copies_come_a_chunk_at_a_time() -> None:
    stream = make_stream()
    reader = live(stream, "urgent=error")
    publish(stream, TextDelta("x"), *[Error("x" * (CHUNK // 2))] * 5)
    assert [seqs(reader.take_ahead()) for _ in range(4)] == [[2, 3], [4, 5], [6], []]


def test_a_marked_delta_is_neither_folded_nor_dropped() -> None:
    stream = make_stream()
    folding = live(stream, "policy=coalesce&buffer=1")
    dropping = live(stream, "policy=drop_newest&buffer=1")
    publish(stream, *numbered(1, 3))
    mark(stream, TextDelta("now"))
    publish(stream, *numbered(5, 8))
    for reader in (folding, dropping):
        assert reader.judge()
    assert spans(drain(folding)) == [(1, 3), (4, 4), (5, 8)]
    assert spans(drain(dropping)) == [(1, 1), "dropped 2-3", (4, 4), "dropped 5-8"]


def test_what_was_evicted_does_not_come_ahead_and_a_copy_may_precede_its_gap() -> None:
    stream = make_stream(StreamSettings(retention=Retention(events=10)))
    reader = live(stream, "urgent=error&policy=block")
    publish(stream, TextDelta("x"), Error("lost"), TextDelta("x"), Error("kept"))
    assert seqs(reader.take_ahead()) == [2, 4]
    late = stream.subscribe(ask("urgent=error&policy=block&after=0"), now=0.0)
    late.take()
    publish(stream, *numbered(5, 13))
    assert seqs(late.take_ahead()) == [4]
    assert spans(drain(reader))[0] == "evicted 1-3"


def test_the_first_who_asks_finds_what_was_there_before_and_others_need_not_search() -> None:
    stream = make_stream()
    assert stream.log.candidates is None
    publish(stream, TextDelta("x"), Error("before"), TextDelta("y"))
    asked = SubscribeRequest(urgent=frozenset({EventType.ERROR}), policy=Policy.BLOCK)
    first, second = (begin(stream, asked) for _ in range(2))
    assert seqs(first.take_ahead()) == [2]
    publish(stream, Error("after"))
    assert seqs(second.take_ahead()) == [2, 4]
    assert seqs(first.take_ahead()) == [4]


def begin(stream: Stream, request: SubscribeRequest) -> Subscription:
    """A consumer that has got `subscribed`, and nothing else."""
    reader = stream.subscribe(request, now=0.0)
    reader.take()
    return reader


def test_a_server_sent_copy_leaves_the_position_alone() -> None:
    stream = make_stream()
    codec = EventStream(stream.epoch, Body(is_chunked=False))
    reader = stream.subscribe(ask("urgent=error&policy=block"), codec, now=0.0)
    reader.take()
    publish(stream, TextDelta("x"), Error("x"))
    sent = reader.take_ahead()
    assert sent.startswith(b'event: urgent\ndata: {"type":"urgent","event":{"type":"error","seq":2,')
    assert b"id:" not in sent


def test_a_mark_is_stored_with_its_event() -> None:
    stream = make_durable()
    mark(stream, TextDelta("a"))
    commit = stream.take_commit()
    assert commit is not None
    again = make_durable()
    frames = (*commit.frames, *frames_of(TextDelta("b"), first=2))
    again.history = history_of(list(frames))
    again.add_page(1, StoredPage(2, frames), 0.0)
    page = again.page_with(1)
    assert page is not None
    assert [kind.is_urgent for kind in page.kinds(0, 2)] == [True, False]
