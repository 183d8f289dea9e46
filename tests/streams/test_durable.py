"""A stored stream: read from memory and from pages as from one log, before and after a restart."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from deltawire.gateway.streams.durable import DurableStream
from deltawire.gateway.streams.ending import end_lost
from deltawire.gateway.streams.history import History
from deltawire.gateway.streams.log import Ledger, Retention
from deltawire.gateway.streams.producers import ProducerState
from deltawire.gateway.streams.staging import OpenMessage, StoredState
from deltawire.protocol.addresses import SubscribeRequest
from deltawire.protocol.codec import decode_event, encode_event
from deltawire.protocol.errors import WireError
from deltawire.protocol.events import (
    ContentEnd,
    ContentStart,
    Data,
    Error,
    Event,
    EventType,
    MessageStart,
    MessageStop,
    TextDelta,
    Thinking,
    Usage,
)
from deltawire.protocol.framing import payload_start
from deltawire.protocol.messages import CaughtUp, Gap, Policy, StreamEnd, Subscribed
from deltawire.protocol.position import Position
from tests.streams.durable import (
    Shelf,
    append,
    frames_of,
    history_of,
    make_durable,
    messages,
    subscribe,
    take,
    texts_of,
)
from tests.support.reading import STAMP

ANSWER: list[Data] = [MessageStart("m"), TextDelta("one "), TextDelta("two")]


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def shelf(ledger: Ledger) -> Shelf:
    return Shelf(ledger)


@pytest.fixture
def stream(ledger: Ledger, shelf: Shelf) -> DurableStream:
    return make_durable(ledger, pages=shelf)


def restore(stream: DurableStream, shelf: Shelf, events: list[Data], *open_messages: OpenMessage) -> None:
    """Fill a stream as after a restart."""
    shelf.frames = frames_of(*events)
    producers = [ProducerState("p", 2, 7, 5)]
    stream.restore(StoredState(history_of(shelf.frames), producers, open_messages, None), 0.0, 10.0, 0.0)


def store(stream: DurableStream, shelf: Shelf, *events: Data) -> None:
    """Append and commit, one commit each."""
    for data in events:
        append(stream, data)
        commit = take(stream)
        shelf.frames += commit.frames
        stream.commit(commit, 0.0)


def text_of(found: Sequence[object]) -> str:
    return "".join(it.data.text for it in found if isinstance(it, Event) and isinstance(it.data, TextDelta))


# Reading


def test_stored_events_are_read_when_somebody_needs_them(stream: DurableStream, shelf: Shelf) -> None:
    restore(stream, shelf, ANSWER)
    assert (stream.head, stream.log.head, stream.floor, stream.log.floor) == (3, 3, 1, 4)
    assert not shelf.wanted
    reader, other = subscribe(stream), subscribe(stream)
    first, *rest, caught_up = list(messages(reader, shelf))
    assert isinstance(first, Subscribed)
    assert (first.floor, first.head) == (1, 3)
    assert text_of(rest) == "one two"
    assert caught_up == CaughtUp(seq=3)
    assert next(messages(other, shelf)) == first
    assert shelf.deliver() == 0, "the second reader read the page of the first"


def test_a_page_is_wanted_once_however_many_wait(stream: DurableStream, shelf: Shelf) -> None:
    restore(stream, shelf, ANSWER)
    readers = [subscribe(stream) for _ in range(3)]
    for reader in readers * 2:
        while reader.take():
            pass
    assert shelf.wanted == [(stream, 1)]
    shelf.deliver()
    assert {text_of(list(messages(reader, shelf))) for reader in readers} == {"one two"}


def test_what_comes_after_a_restart_follows_what_is_stored(stream: DurableStream, shelf: Shelf) -> None:
    restore(stream, shelf, ANSWER)
    store(stream, shelf, TextDelta("!"))
    assert texts_of(stream) == ["!"], "memory has the new event alone"
    found = list(messages(subscribe(stream), shelf))
    assert text_of(found) == "one two!"
    assert [it.seq for it in found if isinstance(it, Event)] == [1, 4], "folded"


def test_a_reader_resumes_where_memory_ends_and_before(stream: DurableStream, shelf: Shelf) -> None:
    restore(stream, shelf, ANSWER)
    for after in range(4):
        request = SubscribeRequest(position=Position("e", after))
        subscribed, *rest = messages(subscribe(stream, request), shelf)
        assert isinstance(subscribed, Subscribed)
        assert (subscribed.after, subscribed.recovered) == (after, True)
        assert not [it for it in rest if isinstance(it, Gap)]


@given(
    texts=st.lists(st.text(min_size=1, max_size=60), min_size=1, max_size=60),
    held=st.integers(1, 60),
    after=st.integers(0, 60),
    policy=st.sampled_from([Policy.COALESCE, Policy.DROP_OLDEST, Policy.DISCONNECT]),
    types=st.sampled_from([None, frozenset({EventType.TEXT_DELTA}), frozenset({EventType.MESSAGE_STOP})]),
    size=st.sampled_from([1, 300, 2000, 1 << 20]),
    is_closed=st.booleans(),
)
def test_invariant_3_reading_pages_and_memory_is_reading_one_log(
    *,
    texts: list[str],
    held: int,
    after: int,
    policy: Policy,
    types: frozenset[EventType] | None,
    size: int,
    is_closed: bool,
) -> None:
    ledger = Ledger()
    shelf = Shelf(ledger, limit=1000)
    stream = make_durable(ledger, pages=shelf)
    store(stream, shelf, MessageStart("m"), *map(TextDelta, texts), MessageStop("m", "end_turn"))
    if is_closed:
        stream.close("closed", 0.0)
        stream.commit(take(stream), 0.0)
    head = stream.log.head
    after = min(after, head)
    request = SubscribeRequest(position=Position("e", after), policy=policy, types=types)
    whole = list(messages(subscribe(stream, request), shelf))
    stream.log.trim_to(head + 1 - min(held, head))
    paged = list(messages(subscribe(stream, request), shelf, size))
    assert text_of(paged) == text_of(whole)
    assert not [it for it in paged if isinstance(it, Gap)]
    if policy is not Policy.COALESCE:
        assert paged == whole
    assert paged[-1] == whole[-1]
    assert isinstance(paged[-1], StreamEnd if is_closed else CaughtUp)
    stream.close("closed", 0.0)
    stream.clear()
    assert shelf.bytes == 0
    assert not stream.held_pages


def test_a_reader_that_fell_behind_what_memory_holds_misses_nothing(shelf: Shelf, ledger: Ledger) -> None:
    stream = make_durable(ledger, pages=shelf)
    store(stream, shelf, *ANSWER)
    reader = subscribe(stream, SubscribeRequest(policy=Policy.COALESCE))
    before = list(messages(reader, shelf))
    store(stream, shelf, *(TextDelta(f"{n} ") for n in range(100)))
    stream.log.trim_to(80)
    assert reader.judge()
    found = list(messages(reader, shelf))
    assert text_of(before + found) == "one two" + "".join(f"{n} " for n in range(100))


def test_drops_of_a_slow_reader_are_told_where_memory_has_them_no_more(shelf: Shelf, ledger: Ledger) -> None:
    stream = make_durable(ledger, pages=shelf)
    reader = subscribe(stream, SubscribeRequest(policy=Policy.DROP_OLDEST, buffer=10))
    before = list(messages(reader, shelf))
    store(stream, shelf, *(TextDelta(str(n)) for n in range(50)), Usage(1, 2, 3))
    store(stream, shelf, *(TextDelta(str(n)) for n in range(5)))
    assert reader.judge()
    stream.log.trim_to(54)
    found = list(messages(reader, shelf))
    assert isinstance(before[-1], CaughtUp)
    gaps = [(it.first, it.seq, it.reason) for it in found if isinstance(it, Gap)]
    assert gaps == [(1, 46, "dropped")]
    assert [it.seq for it in found if isinstance(it, Event)] == list(range(47, 57))


def test_events_that_can_not_be_read_are_a_gap_and_the_rest_is_served(stream: DurableStream, shelf: Shelf) -> None:
    restore(stream, shelf, [TextDelta(str(n)) for n in range(10)])
    reader = subscribe(stream, SubscribeRequest(policy=Policy.DISCONNECT))
    while reader.take():
        pass
    shelf.fault = "corrupt"
    frames, shelf.frames = shelf.frames, shelf.frames[:4]
    shelf.deliver()
    shelf.fault, shelf.frames = "", frames
    gap, *events, caught_up = messages(reader, shelf)
    assert gap == Gap(first=1, seq=4, reason="evicted")
    assert [it.seq for it in events if isinstance(it, Event)] == [5, 6, 7, 8, 9, 10]
    assert caught_up == CaughtUp(seq=10)


def test_pages_take_no_more_memory_than_they_may_and_are_counted(ledger: Ledger) -> None:
    shelf = Shelf(ledger, limit=100_000)
    stream = make_durable(ledger, pages=shelf)
    restore(stream, shelf, [TextDelta("x" * 1000) for _ in range(1000)])
    before = ledger.bytes
    reader = subscribe(stream, SubscribeRequest(policy=Policy.DISCONNECT))
    for _ in messages(reader, shelf):
        assert shelf.bytes <= 100_000
        assert ledger.bytes - before == shelf.bytes
    assert shelf.bytes > 40_000
    shelf.shrink(0)
    assert (shelf.bytes, ledger.bytes) == (0, before)


def test_a_page_of_what_was_dropped_meanwhile_is_not_kept(stream: DurableStream, shelf: Shelf) -> None:
    restore(stream, shelf, [TextDelta("x" * 1000) for _ in range(100)])
    reader = subscribe(stream)
    while reader.take():
        pass
    stream.trim_to(0)
    shelf.deliver()
    assert not stream.held_pages
    gap, caught_up = messages(reader, shelf)
    assert (gap, caught_up) == (Gap(first=1, seq=100, reason="evicted"), CaughtUp(seq=100))


def test_a_stored_stream_without_events_has_none(stream: DurableStream, shelf: Shelf) -> None:
    stream.restore(StoredState(history_of([], floor=5), [], [], None), 0.0, 10.0, 0.0)
    found = list(messages(subscribe(stream), shelf))
    assert found[1:] == [Gap(first=1, seq=4, reason="evicted"), CaughtUp(seq=4)]


# Retention


def test_the_engine_keeps_what_retention_says_and_memory_no_more_than_usual(ledger: Ledger, shelf: Shelf) -> None:
    stream = make_durable(ledger, Retention(events=200_000, bytes=1 << 30), shelf)
    store(stream, shelf, *(TextDelta("x" * 1000) for _ in range(9_000)))
    assert stream.log.bytes <= Retention().bytes
    assert stream.log.floor > 1
    assert not stream.trim(0.0)
    assert stream.floor == 1
    assert len(text_of(list(messages(subscribe(stream), shelf)))) == 9_000_000


def test_retention_goes_in_steps_and_never_takes_too_much(ledger: Ledger, shelf: Shelf) -> None:
    stream = make_durable(ledger, Retention(events=640), shelf)
    for _ in range(2_000):
        store(stream, shelf, TextDelta("x"))
        stream.trim(0.0)
        held = stream.log.head - stream.floor + 1
        assert min(stream.log.head, 640) <= held <= 650
        assert stream.log.floor >= stream.floor


def test_what_is_too_old_is_dropped_from_store_and_memory(ledger: Ledger, shelf: Shelf) -> None:
    stream = make_durable(ledger, Retention(age=64.0), shelf)
    for now in range(100):
        append(stream, TextDelta("x"))
        stream.commit(take(stream), float(now))
    assert stream.trim_by_age(100.0)
    assert stream.floor == 100 - 64 + 1
    assert stream.log.floor == stream.floor
    assert stream.trim_by_age(1000.0)
    assert (stream.floor, stream.log.floor, stream.stored_bytes, ledger.stored) == (101, 101, 0, 0)


def test_the_times_of_what_was_stored_before_a_restart_count(ledger: Ledger, shelf: Shelf) -> None:
    stream = make_durable(ledger, Retention(age=100.0), shelf)
    history = history_of(frames_of(*ANSWER), retention=Retention(age=100.0))
    stream.restore(StoredState(history, [], [], None), 50.0, 10.0, offset=-60.0)
    assert not stream.trim_by_age(39.0)
    assert stream.trim_by_age(40.0)
    assert stream.floor == 4


# Pieces


def test_commits_are_worth_a_piece_when_they_are_large_enough_or_a_message_is_complete(
    stream: DurableStream, shelf: Shelf
) -> None:
    store(stream, shelf, MessageStart("m"), *(TextDelta("x") for _ in range(40)))
    assert not stream.take_piece()
    store(stream, shelf, MessageStop("m", "end_turn"))
    assert len(stream.take_piece()) == 42
    store(stream, shelf, MessageStart("n"), TextDelta("x"), MessageStop("n", "end_turn"))
    assert not stream.take_piece(), "too little to be worth it"
    store(stream, shelf, *(TextDelta("x" * 1000) for _ in range(60)))
    piece = stream.take_piece()
    assert len(piece) == 63, "everything since the last one"
    assert decode_event(piece[0][payload_start(piece[0]) :]) == MessageStart("n")
    assert not stream.take_piece()


# Digests and messages over a restart


def stop_of(stream: DurableStream) -> MessageStop:
    (frame,) = take(stream).frames
    stop = decode_event(frame[payload_start(frame) :])
    assert isinstance(stop, MessageStop)
    return stop


def test_the_digest_of_a_message_is_of_all_its_text_before_and_after(stream: DurableStream, shelf: Shelf) -> None:
    texts = [f"{n} " * 100 for n in range(1000)]
    before: list[Data] = [Error("old"), MessageStart("m"), *map(TextDelta, texts)]
    restore(stream, shelf, before, OpenMessage("m", "p", 2))
    assert stream.is_recovering
    assert not stream.has_room
    assert not shelf.wanted, "until somebody wants to go on"
    stream.recover()
    while shelf.deliver():
        pass
    assert stream.has_room
    append(stream, TextDelta("end"))
    commit = take(stream)
    assert commit.messages is None
    append(stream, MessageStop("m", "end_turn"))
    stop = stop_of(stream)
    assert stop.digest is not UNSET
    assert (stop.digest.first, stop.digest.characters) == (2, len("".join(texts)) + 3)


def test_a_block_keeps_its_kind_over_a_restart_in_pages_and_in_what_is_added(
    stream: DurableStream, shelf: Shelf
) -> None:
    before: list[Data] = [
        MessageStart("m"),
        ContentStart(0, kind="thinking"),
        Thinking("t", 0),
        ContentEnd(0, kind="thinking"),
        ContentStart(1, kind="refusal"),
        TextDelta("a", 1, kind="refusal"),
    ]
    restore(stream, shelf, before, OpenMessage("m", "p", 1))
    stream.recover()
    while shelf.deliver():
        pass
    append(stream, TextDelta("b", 1), ContentEnd(1))
    commit = take(stream)
    shelf.frames += commit.frames
    stream.commit(commit, 0.0)
    reader = subscribe(stream, SubscribeRequest(kind=frozenset({"refusal"}), policy=Policy.BLOCK))
    assert [it.seq for it in messages(reader, shelf) if isinstance(it, Event)] == [1, 5, 6, 7, 8]


@pytest.mark.parametrize("message", [OpenMessage("m", "p", 0), OpenMessage("m", "p", 1)])
def test_there_is_no_digest_where_the_text_before_was_not_read(
    stream: DurableStream, shelf: Shelf, message: OpenMessage
) -> None:
    restore(stream, shelf, ANSWER, message)
    append(stream, MessageStop("m", "end_turn"))
    assert stop_of(stream).digest is UNSET


def test_there_is_no_digest_where_the_text_before_can_not_be_read(stream: DurableStream, shelf: Shelf) -> None:
    restore(stream, shelf, ANSWER, OpenMessage("m", "p", 1))
    stream.recover()
    shelf.fault = "corrupt"
    shelf.deliver()
    assert stream.has_room
    append(stream, MessageStop("m", "end_turn"))
    assert stop_of(stream).digest is UNSET


def test_a_message_that_begins_instead_has_a_digest(stream: DurableStream, shelf: Shelf) -> None:
    restore(stream, shelf, ANSWER, OpenMessage("m", "p", 1))
    append(stream, MessageStop("m", "end_turn"), MessageStart("n"), TextDelta("abc"))
    take(stream)
    append(stream, MessageStop("n", "end_turn"))
    digest = stop_of(stream).digest
    assert digest is not UNSET
    assert (digest.first, digest.characters) == (5, 3)


def test_producers_are_known_and_older_ones_fenced(stream: DurableStream, shelf: Shelf) -> None:
    restore(stream, shelf, ANSWER)
    again = stream.open_producer("p", 2)
    assert (again.last, again.seq) == (7, 5)
    with pytest.raises(WireError, match="generation 1 is over"):
        stream.open_producer("p", 1)


@pytest.mark.parametrize("owner", ["p", None])
def test_messages_in_progress_are_waited_for_anew(stream: DurableStream, shelf: Shelf, owner: str | None) -> None:
    restore(stream, shelf, ANSWER, OpenMessage("m", owner, 1))
    assert stream.leases.is_running
    assert end_lost(stream, STAMP, 9.0, 10.0) == []
    assert end_lost(stream, STAMP, 10.0, 10.0) == ["m"]
    commit = take(stream)
    assert (commit.first, len(commit.frames), commit.messages) == (4, 2, [])


def test_an_event_is_decoded_as_it_was_encoded_and_nothing_else_is() -> None:
    assert decode_event(encode_event(TextDelta("x"), 1, STAMP)) == TextDelta("x")
    with pytest.raises(WireError, match="no event"):
        decode_event(b'{"type":"caught_up","seq":1}')


def test_a_history_of_rows_that_are_all_trimmed_knows_the_next_seq() -> None:
    history = History(Retention(), 21)
    history.restore([20], [1000], [0.0])
    assert (history.last, history.floor, history.bytes, history.loose) == (20, 21, 0, 21)
    assert not history.trim(1e9)
    history.add(22, 500, 1.0)
    assert (history.last, history.floor, history.bytes) == (22, 21, 500)
    assert history.trim_to(0)
    assert (history.floor, history.bytes) == (23, 0)
