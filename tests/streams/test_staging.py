"""Events that an engine has yet to commit: nobody reads them, and nothing of them is lost or doubled."""

from __future__ import annotations

import pytest

from deltawire.gateway.streams.durable import DurableStream
from deltawire.gateway.streams.history import History
from deltawire.gateway.streams.log import Ledger, Retention
from deltawire.gateway.streams.producers import MAX_REMEMBERED, REMEMBERED_COST, ProducerState
from deltawire.gateway.streams.publication import Publication
from deltawire.gateway.streams.staging import MAX_STAGED, OpenMessage, StoredState
from deltawire.protocol.addresses import SubscribeRequest
from deltawire.protocol.errors import StreamError, is_closed
from deltawire.protocol.events import MessageStart, MessageStop, TextDelta
from tests.streams.durable import append, make_durable, take, texts_of
from tests.support.reading import STAMP


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def stream(ledger: Ledger) -> DurableStream:
    return make_durable(ledger)


def test_a_staged_event_has_its_seq_and_is_in_no_log(stream: DurableStream) -> None:
    assert append(stream, TextDelta("a"), TextDelta("b")) == [1, 2]
    assert (stream.head, stream.log.head, stream.is_settled) == (2, 0, False)
    assert append(stream, TextDelta("c")) == [3]


def test_a_commit_is_in_the_log_once_it_is_made(stream: DurableStream) -> None:
    append(stream, TextDelta("a"), TextDelta("b"))
    first = take(stream)
    append(stream, TextDelta("c"))
    second = take(stream)
    assert stream.take_commit() is None
    assert (first.first, second.first) == (1, 3)
    stream.commit(first, 0.0)
    assert (texts_of(stream), stream.is_settled) == (["a", "b"], False)
    stream.commit(second, 0.0)
    assert (texts_of(stream), stream.is_settled, stream.log.head) == (["a", "b", "c"], True, 3)


def test_staged_events_are_counted_until_they_are_in_the_log_and_then_there(
    stream: DurableStream, ledger: Ledger
) -> None:
    append(stream, TextDelta("x" * 1000))
    staged = ledger.bytes
    assert staged >= 1000
    stream.commit(take(stream), 0.0)
    assert ledger.bytes >= 1000
    stream.close("closed", 0.0)
    stream.commit(take(stream), 0.0)
    stream.clear()
    assert ledger.bytes == 0


def test_there_is_no_room_while_too_much_waits_for_the_engine(stream: DurableStream) -> None:
    while stream.has_room:
        append(stream, TextDelta("x" * 50_000))
    assert stream.staging is not None
    assert MAX_STAGED <= stream.staging.bytes <= MAX_STAGED + 100_000
    stream.commit(take(stream), 0.0)
    assert stream.has_room


def test_the_end_of_a_stream_is_told_to_readers_after_all_before_it_is_committed(stream: DurableStream) -> None:
    reader = stream.subscribe(SubscribeRequest(), now=0.0)
    append(stream, TextDelta("a"))
    stream.close("closed", 0.0)
    assert stream.is_closed
    assert stream.end_reason is None
    with pytest.raises(StreamError) as refused:
        append(stream, TextDelta("b"))
    assert is_closed(refused.value)
    while reader.take():
        pass
    assert not reader.ended
    commit = take(stream)
    assert commit.end_reason == "closed"
    stream.commit(commit, 0.0)
    assert stream.end_reason == "closed"
    while reader.take():
        pass
    assert reader.ended


def test_a_commit_has_the_producers_and_messages_that_changed(stream: DurableStream) -> None:
    it = Publication(stream, stream.open_producer("p", 3))
    it.accepted(1, stream.append(MessageStart("m"), STAMP, 0.0, it.writer))
    it.accepted(2, stream.append(TextDelta("a"), STAMP, 0.0, it.writer))
    commit = take(stream)
    assert commit.producers == [ProducerState("p", 3, 2, 2)]
    assert commit.messages == [OpenMessage("m", "p", 1)]
    nobody = stream.open_producer(None, 0)
    stream.append(TextDelta("b"), STAMP, 0.0, nobody)
    commit = take(stream)
    assert (commit.producers, commit.messages) == ((), None), "nothing of them changed"
    stream.append(MessageStart("n"), STAMP, 0.0, nobody)
    it.accepted(3, stream.append(MessageStop("m", "end_turn"), STAMP, 0.0, it.writer))
    commit = take(stream)
    assert (commit.producers, commit.messages) == ([ProducerState("p", 3, 3, 5)], [OpenMessage("n", None, 0)])


def test_a_commit_of_a_stream_that_was_dropped_meanwhile_costs_nothing(stream: DurableStream, ledger: Ledger) -> None:
    append(stream, TextDelta("x" * 1000))
    first = take(stream)
    append(stream, TextDelta("y" * 1000))
    stream.close("closed", 0.0)
    stream.clear()
    assert ledger.bytes == 0
    stream.commit(first, 0.0)
    stream.commit(take(stream), 0.0)
    assert (ledger.bytes, stream.is_settled, stream.end_reason) == (0, True, "closed")


def test_a_producer_may_continue_when_what_it_continues_after_is_committed(stream: DurableStream) -> None:
    publication = Publication(stream, stream.open_producer("p", 0))
    for number in (1, 2):
        publication.accepted(number, stream.append(TextDelta("x"), STAMP, 0.0, publication.writer))
        if number == 1:
            commit = take(stream)
    again = stream.open_producer("p", 0)
    assert again.last == 2
    assert not stream.producers.is_committed(again)
    stream.commit(commit, 0.0)
    assert not stream.producers.is_committed(again)
    stream.commit(take(stream), 0.0)
    assert stream.producers.is_committed(again)
    assert stream.producers.is_committed(stream.open_producer("p", 1)), "a new generation continues after nothing"


def test_a_newer_generation_is_stored_before_it_has_published(stream: DurableStream) -> None:
    stream.open_producer("p", 0)
    assert stream.take_commit() is None, "nobody can be older"
    stream.open_producer("p", 3)
    assert not stream.is_settled
    commit = take(stream)
    assert (commit.producers, commit.frames) == ([ProducerState("p", 3, 0, 0)], [])
    stream.commit(commit, 0.0)
    stream.open_producer("p", 3)
    assert stream.is_settled


def test_an_older_connection_does_not_overwrite_the_numbers_of_a_later_one(stream: DurableStream) -> None:
    older = stream.open_producer("p", 0)
    later = Publication(stream, stream.open_producer("p", 0))
    later.accepted(1, stream.append(TextDelta("x"), STAMP, 0.0, later.writer))
    stream.append(TextDelta("not numbered"), STAMP, 0.0, older)
    assert take(stream).producers == [ProducerState("p", 0, 1, 1)]


def test_no_more_producers_are_remembered_after_a_restart_than_before(stream: DurableStream) -> None:
    states = [ProducerState(f"p{number}", 0, 1, number) for number in range(MAX_REMEMBERED + 5)]
    stream.restore(StoredState(History(Retention()), states, [], None), 0.0, 10.0, 0.0)
    assert stream.producers.bytes == MAX_REMEMBERED * REMEMBERED_COST
    assert stream.open_producer("p5", 0).last == 1, "the oldest are forgotten"
    assert stream.open_producer("p4", 0).last == 0
