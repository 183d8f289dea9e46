"""Events that an engine has yet to commit: nobody reads them, and nothing of them is lost or doubled."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec import UNSET

from deltawire.gateway.streams.log import Ledger, Retention
from deltawire.gateway.streams.manager import StreamManager
from deltawire.gateway.streams.producers import MAX_REMEMBERED, REMEMBERED_COST, ProducerState
from deltawire.gateway.streams.publication import Publication
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.staging import MAX_STAGED, Commit, Staging, StoredState
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.addresses import SubscribeRequest
from deltawire.protocol.codec import decode_event, encode_event
from deltawire.protocol.errors import StreamError, WireError, is_closed
from deltawire.protocol.events import Data, Error, MessageStart, MessageStop, TextDelta
from deltawire.protocol.framing import TEXT, frame, payload_start, split_frames
from tests.support.reading import STAMP


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def stream(ledger: Ledger) -> Stream:
    stream = Stream("s", "e", StreamSettings(), 0.0, ledger)
    stream.staging = Staging(0)
    return stream


def append(stream: Stream, *events: Data) -> list[int]:
    return [stream.append(data, STAMP, 0.0) for data in events]


def take(stream: Stream) -> Commit:
    commit = stream.take_commit()
    assert commit is not None
    return commit


def texts_of(stream: Stream) -> list[str]:
    frames = stream.log.frames(stream.log.floor - 1, stream.log.head)
    events = [decode_event(it[payload_start(it) :]) for it in frames]
    return [it.text for it in events if isinstance(it, TextDelta)]


def test_a_staged_event_has_its_seq_and_is_in_no_log(stream: Stream) -> None:
    assert append(stream, TextDelta("a"), TextDelta("b")) == [1, 2]
    assert (stream.head, stream.log.head, stream.is_settled) == (2, 0, False)
    assert append(stream, TextDelta("c")) == [3]


def test_a_commit_is_in_the_log_once_it_is_made(stream: Stream) -> None:
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


def test_staged_events_are_counted_until_they_are_in_the_log_and_then_there(stream: Stream, ledger: Ledger) -> None:
    append(stream, TextDelta("x" * 1000))
    staged = ledger.bytes
    assert staged >= 1000
    stream.commit(take(stream), 0.0)
    assert ledger.bytes >= 1000
    stream.close("closed", 0.0)
    stream.commit(take(stream), 0.0)
    stream.clear()
    assert ledger.bytes == 0


def test_there_is_no_room_while_too_much_waits_for_the_engine(stream: Stream) -> None:
    while stream.has_room:
        append(stream, TextDelta("x" * 50_000))
    assert stream.staging is not None
    assert MAX_STAGED <= stream.staging.bytes <= MAX_STAGED + 100_000
    stream.commit(take(stream), 0.0)
    assert stream.has_room


def test_the_end_of_a_stream_is_told_to_readers_after_all_before_it_is_committed(stream: Stream) -> None:
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


def test_a_commit_has_the_producers_and_messages_that_changed(stream: Stream) -> None:
    it = Publication(stream, stream.open_producer("p", 3))
    it.accepted(1, stream.append(MessageStart("m"), STAMP, 0.0, it.writer))
    it.accepted(2, stream.append(TextDelta("a"), STAMP, 0.0, it.writer))
    commit = take(stream)
    assert commit.producers == [ProducerState("p", 3, 2, 2)]
    assert commit.messages == [("m", "p")]
    nobody = stream.open_producer(None, 0)
    stream.append(TextDelta("b"), STAMP, 0.0, nobody)
    commit = take(stream)
    assert (commit.producers, commit.messages) == ([], None), "nothing of them changed"
    stream.append(MessageStart("n"), STAMP, 0.0, nobody)
    it.accepted(3, stream.append(MessageStop("m", "end_turn"), STAMP, 0.0, it.writer))
    commit = take(stream)
    assert (commit.producers, commit.messages) == ([ProducerState("p", 3, 3, 5)], [("n", None)])


# After a restart


def restored(
    stream: Stream,
    events: list[Data],
    *,
    floor: int = 1,
    messages: tuple[tuple[str, str | None], ...] = (),
    held: int = 0,
) -> Callable[[], int]:
    """Fill a stream as after a restart, with all events or `held`; returns what says how often they were read."""
    frames = [frame(TEXT, encode_event(data, seq, STAMP)) for seq, data in enumerate(events, floor)]
    reads = 0

    def read(first: int, last: int) -> list[bytes]:
        nonlocal reads
        reads += 1
        return list(split_frames(b"".join(frames[first - floor : last + 1 - floor])))

    producers = [ProducerState("p", 2, 7, 5)]
    stream.restore(StoredState(floor, floor + (held or len(events)) - 1, producers, messages, None), read, 0.0, 10.0)
    return lambda: reads


ANSWER: list[Data] = [MessageStart("m"), TextDelta("one "), TextDelta("two")]


def test_stored_events_are_read_when_they_are_needed_and_once(stream: Stream) -> None:
    count_reads = restored(stream, ANSWER)
    assert (stream.head, stream.log.head, stream.log.floor, stream.is_settled, count_reads()) == (3, 3, 1, True, 0)
    for _ in range(2):
        stream.subscribe(SubscribeRequest(), now=0.0)
    assert (texts_of(stream), count_reads()) == (["one ", "two"], 1)


def test_what_comes_after_a_restart_follows_what_is_stored(stream: Stream) -> None:
    restored(stream, ANSWER, floor=8)
    stream.load(0.0)
    assert append(stream, TextDelta("!")) == [11]
    stream.commit(take(stream), 0.0)
    assert (stream.log.floor, stream.log.head, texts_of(stream)) == (8, 11, ["one ", "two", "!"])


def test_the_digest_of_a_message_is_of_all_its_text_before_and_after(stream: Stream) -> None:
    restored(stream, ANSWER, messages=(("m", "p"),))
    stream.load(0.0)
    append(stream, MessageStop("m", "end_turn"))
    stop = decode_event(take(stream).frames[0][4:])
    assert isinstance(stop, MessageStop)
    assert stop.digest is not UNSET
    assert (stop.digest.first, stop.digest.characters) == (1, len("one two"))


def test_there_is_no_digest_where_the_text_before_was_not_read(stream: Stream) -> None:
    restored(stream, ANSWER, messages=(("m", "p"),))
    append(stream, MessageStop("m", "end_turn"))
    stop = decode_event(take(stream).frames[0][2:])
    assert isinstance(stop, MessageStop)
    assert stop.digest is UNSET


def test_producers_are_known_and_older_ones_fenced(stream: Stream) -> None:
    restored(stream, ANSWER)
    again = stream.open_producer("p", 2)
    assert (again.last, again.seq) == (7, 5)
    with pytest.raises(WireError, match="generation 1 is over"):
        stream.open_producer("p", 1)


@pytest.mark.parametrize("owner", ["p", None])
def test_messages_in_progress_are_waited_for_anew(stream: Stream, owner: str | None) -> None:
    restored(stream, ANSWER, messages=(("m", owner),))
    assert stream.leases.is_running
    assert stream.end_lost(STAMP, 9.0, 10.0) == []
    assert stream.end_lost(STAMP, 10.0, 10.0) == ["m"]
    commit = take(stream)
    assert (commit.first, len(commit.frames), commit.messages) == (4, 2, [])


def test_a_stream_that_is_dropped_unread_is_dropped(stream: Stream, ledger: Ledger) -> None:
    count_reads = restored(stream, ANSWER)
    stream.clear()
    assert (ledger.bytes, count_reads()) == (0, 0)


def test_a_stored_stream_without_events_has_none(stream: Stream) -> None:
    count_reads = restored(stream, [], floor=5)
    stream.load(0.0)
    assert (stream.head, count_reads()) == (4, 0)


def test_an_event_is_decoded_as_it_was_encoded_and_nothing_else_is() -> None:
    assert decode_event(encode_event(TextDelta("x"), 1, STAMP)) == TextDelta("x")
    with pytest.raises(WireError, match="no event"):
        decode_event(b'{"type":"caught_up","seq":1}')


class Store:
    """Notes what a manager tells it."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def created(self, stream: Stream) -> None:
        self.told.append(("created", stream.id))

    def unload(self, stream: Stream) -> bool:
        self.told.append(("unload", stream.id))
        frames = stream.log.frames(stream.log.floor - 1, stream.log.head)
        return stream.unload(lambda *_: frames)

    def forgotten(self, stream: Stream) -> None:
        self.told.append(("forgotten", stream.id))


def test_a_store_is_told_of_streams_that_are_kept_and_forgotten() -> None:
    manager = StreamManager(StreamSettings(retention=Retention(age=60.0)), make_epoch=lambda: "e", closed_retention=5.0)
    manager.store = store = Store()
    opened = manager.open("a", 0.0)
    assert opened.staging is not None
    assert store.told == []
    manager.keep(opened, 0.0)
    manager.get_or_create("a", 0.0)
    manager.close("a", 0.0)
    manager.expire(5.0)
    assert store.told == [("created", "a"), ("forgotten", "a")]


@pytest.mark.parametrize("end_reason", [None, "closed"])
def test_streams_from_before_a_restart_are_found_listed_and_expire(end_reason: None) -> None:
    manager = StreamManager(
        StreamSettings(retention=Retention(age=60.0)), make_epoch=lambda: "new", closed_retention=5.0
    )
    manager.store = store = Store()
    stream = manager.make_stored("a", "e", manager.settings, 0.0)
    stream.restore(StoredState(1, 0, [], [], end_reason), lambda *_: [], 0.0, 10.0)
    manager.restore(stream)
    assert manager.open("a", 0.0) is stream
    assert manager.list() == [stream]
    assert manager.page([], [""], "", 10) == [stream]
    assert store.told == []
    manager.expire(5.0)
    assert manager.count() == (0 if end_reason else 1)


def fill(manager: StreamManager, name: str, text: str) -> Stream:
    """A stream whose events are stored."""
    stream = manager.get_or_create(name, 0.0)
    append(stream, MessageStart("m"), TextDelta(text), MessageStop("m", "end_turn"))
    stream.commit(take(stream), 0.0)
    return stream


def test_too_little_memory_unloads_idle_streams_and_forgets_none() -> None:
    manager = StreamManager(StreamSettings(), make_epoch=lambda: "e", memory_limit=100_000)
    manager.store = store = Store()
    streams = [fill(manager, name, name * 30_000) for name in "abcd"]
    streams[1].close("closed", 0.0)
    streams[1].commit(take(streams[1]), 0.0)
    reader = streams[2].subscribe(SubscribeRequest(), now=0.0)
    assert manager.make_room(0.0, 40_000)
    unloaded = [name for told, name in store.told if told == "unload"]
    assert "c" not in unloaded, "it is read"
    assert unloaded
    assert manager.list() == streams
    assert manager.bytes <= 60_000
    streams[2].unsubscribe(reader, 1.0)
    for stream in streams:
        assert stream.log.head == 3
        stream.load(1.0)
        assert texts_of(stream) == [stream.id * 30_000]
    assert manager.make_room(2.0, 80_000), "those that were loaded again are unloaded again"
    assert manager.count() == 4


def test_there_is_no_room_where_all_streams_are_in_use() -> None:
    manager = StreamManager(StreamSettings(), make_epoch=lambda: "e", memory_limit=50_000)
    manager.store = Store()
    fill(manager, "a", "a" * 30_000).subscribe(SubscribeRequest(), now=0.0)
    assert not manager.make_room(0.0, 30_000)


def test_a_stream_that_waits_for_the_engine_is_not_unloaded_before() -> None:
    manager = StreamManager(StreamSettings(), make_epoch=lambda: "e", memory_limit=50_000)
    manager.store = Store()
    stream = manager.get_or_create("a", 0.0)
    append(stream, TextDelta("a" * 30_000))
    assert not manager.make_room(0.0, 30_000)
    stream.commit(take(stream), 0.0)
    assert manager.make_room(0.0, 30_000)
    assert manager.count() == 1


def test_a_commit_to_events_that_nobody_reads_reads_none_of_them(stream: Stream) -> None:
    count_reads = restored(stream, [*ANSWER, MessageStop("m", "end_turn")])
    stream.close("closed", 0.0)
    stream.commit(take(stream), 0.0)
    assert (stream.end_reason, stream.log.head, count_reads()) == ("closed", 4, 0)


def test_messages_of_lost_producers_end_without_a_read_and_are_read_with_the_rest(stream: Stream) -> None:
    lost: list[Data] = [Error("lost", "producer_lost"), MessageStop("m", "producer_lost")]
    count_reads = restored(stream, [*ANSWER, *lost], messages=(("m", "p"),), held=3)
    assert stream.end_lost(STAMP, 10.0, 10.0) == ["m"]
    stream.commit(take(stream), 10.0)
    assert (stream.log.head, stream.is_settled, count_reads()) == (5, True, 0)
    stream.load(10.0)
    assert (stream.log.held_from, stream.log.head, texts_of(stream)) == (1, 5, ["one ", "two"])


def test_a_commit_of_a_stream_that_was_dropped_meanwhile_costs_nothing(stream: Stream, ledger: Ledger) -> None:
    append(stream, TextDelta("x" * 1000))
    first = take(stream)
    append(stream, TextDelta("y" * 1000))
    stream.close("closed", 0.0)
    stream.clear()
    assert ledger.bytes == 0
    stream.commit(first, 0.0)
    stream.commit(take(stream), 0.0)
    assert (ledger.bytes, stream.is_settled, stream.end_reason) == (0, True, "closed")


def test_a_producer_may_continue_when_what_it_continues_after_is_committed(stream: Stream) -> None:
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


def test_a_newer_generation_is_stored_before_it_has_published(stream: Stream) -> None:
    stream.open_producer("p", 0)
    assert stream.take_commit() is None, "nobody can be older"
    stream.open_producer("p", 3)
    assert not stream.is_settled
    commit = take(stream)
    assert (commit.producers, commit.frames) == ([ProducerState("p", 3, 0, 0)], [])
    stream.commit(commit, 0.0)
    stream.open_producer("p", 3)
    assert stream.is_settled


def test_an_older_connection_does_not_overwrite_the_numbers_of_a_later_one(stream: Stream) -> None:
    older = stream.open_producer("p", 0)
    later = Publication(stream, stream.open_producer("p", 0))
    later.accepted(1, stream.append(TextDelta("x"), STAMP, 0.0, later.writer))
    stream.append(TextDelta("not numbered"), STAMP, 0.0, older)
    assert take(stream).producers == [ProducerState("p", 0, 1, 1)]


def test_no_more_producers_are_remembered_after_a_restart_than_before(stream: Stream) -> None:
    states = [ProducerState(f"p{number}", 0, 1, number) for number in range(MAX_REMEMBERED + 5)]
    stream.restore(StoredState(1, 0, states, [], None), lambda *_: [], 0.0, 10.0)
    assert stream.producers.bytes == MAX_REMEMBERED * REMEMBERED_COST
    assert stream.open_producer("p5", 0).last == 1, "the oldest are forgotten"
    assert stream.open_producer("p4", 0).last == 0
