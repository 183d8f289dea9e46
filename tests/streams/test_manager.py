"""The manager: every operation, and memory."""

from __future__ import annotations

import gc
import tracemalloc
from itertools import count

import pytest

from deltawire.gateway.streams.leases import OPEN_COST
from deltawire.gateway.streams.log import Ledger, Log, Retention
from deltawire.gateway.streams.manager import AGED_AT_ONCE, STREAM_OVERHEAD, StreamManager
from deltawire.gateway.streams.producers import REMEMBERED_COST
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.errors import StreamError, is_closed, is_full, is_invalid, is_not_found
from deltawire.protocol.events import MessageStart, MessageStop, TextDelta
from deltawire.protocol.messages import Gap, Policy, StreamEnd
from tests.support.reading import STAMP, ask, drain, live, numbered, only, publish, texts


def make_manager(**limits: float) -> StreamManager:
    numbers = count(1)
    return StreamManager(
        StreamSettings(),
        lambda: f"e{next(numbers)}",
        memory_limit=int(limits.get("memory_limit", 1 << 30)),
        max_streams=int(limits.get("max_streams", 1_000_000)),
        closed_retention=limits.get("closed_retention", 600.0),
    )


def ids(streams: list[Stream]) -> list[str]:
    return [stream.id for stream in streams]


# Operations


def test_create_makes_a_stream_with_an_epoch_of_its_own() -> None:
    manager = make_manager()
    one, other = manager.create("a", 1.0), manager.create("b", 2.0)
    assert (one.id, other.id, one.created_at, other.created_at) == ("a", "b", 1.0, 2.0)
    assert one.epoch != other.epoch
    assert one.settings is manager.settings


def test_create_takes_settings_of_its_own() -> None:
    settings = StreamSettings(policy=Policy.BLOCK)
    assert make_manager().create("a", 0.0, settings).settings is settings


def test_create_refuses_an_id_that_is_taken_closed_or_not() -> None:
    manager = make_manager()
    manager.create("a", 0.0)
    with pytest.raises(StreamError, match=r"create 'a': the stream exists already") as refusal:
        manager.create("a", 0.0)
    assert is_invalid(refusal.value)
    manager.close("a", 0.0)
    with pytest.raises(StreamError, match="exists already"):
        manager.create("a", 0.0)


@pytest.mark.parametrize("stream_id", ["", ".", "..", "a/b", "a b", "é", "x" * 129])
@pytest.mark.parametrize("operation", ["create", "get_or_create"])
def test_a_malformed_id_is_invalid(stream_id: str, operation: str) -> None:
    manager = make_manager()
    with pytest.raises(StreamError) as refusal:
        getattr(manager, operation)(stream_id, 0.0)
    assert is_invalid(refusal.value)
    assert str(refusal.value).startswith(f"create {stream_id!r}: stream id ")
    assert manager.count() == 0


def test_get_finds_open_and_closed_streams() -> None:
    manager = make_manager()
    stream = manager.create("a", 0.0)
    assert manager.get("a") is stream
    manager.close("a", 0.0)
    assert manager.get("a") is stream


@pytest.mark.parametrize("operation", ["get", "close"])
def test_a_stream_that_is_not_there_is_not_found(operation: str) -> None:
    manager = make_manager()
    arguments = {"get": (), "close": (0.0,)}[operation]
    with pytest.raises(StreamError, match=rf"{operation} 'nope': stream not found") as refusal:
        getattr(manager, operation)("nope", *arguments)
    assert is_not_found(refusal.value)


def test_a_stream_that_is_only_opened_is_found_once_it_is_kept() -> None:
    manager = make_manager()
    opened = manager.open("a", 0.0)
    assert (manager.count(), manager.bytes) == (0, 0)
    manager.keep(opened, 0.0)
    manager.keep(opened, 0.0)
    assert manager.get("a") is manager.open("a", 1.0) is opened
    assert (manager.count(), manager.bytes) == (1, STREAM_OVERHEAD)


def test_get_or_create_creates_once() -> None:
    manager = make_manager()
    assert manager.get_or_create("a", 0.0) is manager.get_or_create("a", 1.0)


def test_close_ends_a_stream_that_can_still_be_read() -> None:
    manager = make_manager()
    publish(manager.create("a", 0.0), *numbered(1, 2))
    stream = manager.close("a", 1.0, "shutdown")
    assert manager.list() == [stream]
    assert only(StreamEnd, drain(stream.subscribe(ask(), now=2.0))) == [StreamEnd(seq=2, reason="shutdown")]
    with pytest.raises(StreamError) as refusal:
        publish(stream, *numbered(3, 3))
    assert is_closed(refusal.value)


def test_closing_twice_changes_nothing() -> None:
    manager = make_manager(closed_retention=10.0)
    manager.create("a", 0.0)
    manager.close("a", 1.0)
    assert manager.close("a", 9.0, "shutdown").end_reason == "closed"
    manager.expire(11.0)
    assert manager.count() == 0


def test_close_all_ends_the_open_ones_and_says_which() -> None:
    manager = make_manager()
    for stream_id in "abc":
        manager.create(stream_id, 0.0)
    manager.close("b", 1.0)
    assert ids(manager.close_all(2.0, "shutdown")) == ["a", "c"]
    assert [stream.end_reason for stream in manager.list()] == ["shutdown", "closed", "shutdown"]
    assert manager.close_all(3.0) == []


def test_cleanup_ends_what_saw_nothing_for_the_threshold() -> None:
    manager = make_manager()
    for stream_id in ("event", "consumer", "quiet", "closed"):
        manager.create(stream_id, 0.0)
    manager.close("closed", 0.0)
    publish(manager.get("event"), *numbered(1, 1), now=50.0)
    manager.get("consumer").subscribe(ask(), now=50.0)
    assert manager.cleanup_inactive(100.0, 99.0) == []
    assert ids(manager.cleanup_inactive(100.0, 100.0)) == ["quiet"]
    assert manager.get("quiet").end_reason == "inactive"
    assert ids(manager.cleanup_inactive(100.0, 150.0)) == ["event", "consumer"]


def test_streams_are_listed_oldest_first() -> None:
    manager = make_manager()
    for stream_id in "cab":
        manager.create(stream_id, 0.0)
    assert ids(manager.list()) == ["c", "a", "b"]
    assert manager.count() == 3


# Expiry


def test_closed_streams_are_forgotten_when_their_retention_is_over() -> None:
    manager = make_manager(closed_retention=60.0)
    for stream_id in "ab":
        publish(manager.create(stream_id, 0.0), *numbered(1, 3))
    manager.close("b", 1.0)
    manager.close("a", 2.0)
    manager.expire(60.9)
    assert manager.count() == 2
    manager.expire(61.5)
    assert ids(manager.list()) == ["a"]
    manager.expire(62.0)
    assert (manager.count(), manager.bytes) == (0, 0)


def test_an_id_can_be_used_again_once_forgotten_in_another_epoch() -> None:
    manager = make_manager(closed_retention=1.0)
    old = manager.create("a", 0.0)
    manager.close("a", 0.0)
    manager.expire(1.0)
    new = manager.create("a", 2.0)
    assert new.epoch != old.epoch
    manager.expire(100.0)
    assert manager.get("a") is new


def test_expire_trims_by_age_where_there_is_one() -> None:
    manager = make_manager()
    aging = manager.create("aging", 0.0, StreamSettings(retention=Retention(age=10.0)))
    lasting = manager.create("lasting", 0.0)
    for stream in (aging, lasting):
        publish(stream, *numbered(1, 3))
    manager.expire(20.0)
    assert (aging.log.floor, lasting.log.floor) == (4, 1)


def test_expire_looks_at_a_few_of_many_streams_at_a_time_and_at_all_in_turn() -> None:
    manager = make_manager()
    streams = [
        manager.create(f"s{number}", 0.0, StreamSettings(retention=Retention(age=1.0)))
        for number in range(AGED_AT_ONCE + 10)
    ]
    for stream in streams:
        publish(stream, TextDelta("old"))
    manager.expire(10.0)
    assert [stream.log.floor for stream in streams] == [2] * AGED_AT_ONCE + [1] * 10
    manager.expire(10.0)
    assert [stream.log.floor for stream in streams] == [2] * len(streams)


def test_expire_looks_at_no_stream_whose_events_last(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = make_manager(closed_retention=1.0)
    for number in range(10):
        manager.create(f"lasting-{number}", 0.0)
    manager.create("aging", 0.0, StreamSettings(retention=Retention(age=10.0)))
    manager.create("forgotten", 0.0, StreamSettings(retention=Retention(age=10.0)))
    manager.close("forgotten", 0.0)
    manager.expire(1.0)
    looked_at: set[str] = set()

    def look(stream: Stream) -> Log:
        looked_at.add(stream.id)
        return Log(Retention(age=10.0), Ledger())

    monkeypatch.setattr(Stream, "log", property(look))
    manager.expire(2.0)
    assert looked_at == {"aging"}


# Memory


def test_invariant_6_bytes_are_those_of_all_logs_and_of_the_streams_themselves() -> None:
    manager = make_manager()
    for stream_id in "abc":
        publish(manager.create(stream_id, 0.0), *numbered(1, 9))
    assert manager.bytes == sum(stream.bytes for stream in manager.list()) + 3 * STREAM_OVERHEAD


def test_invariant_6_bytes_counted_cover_what_streams_of_one_event_allocate() -> None:
    manager = make_manager()
    publish(manager.create("first", 0.0), *numbered(1, 1))
    counted = manager.bytes
    tracemalloc.start()
    try:
        for number in range(1_000):
            publish(manager.create(f"stream-{number}", float(number)), *numbered(1, 1))
        gc.collect()
        each = tracemalloc.get_traced_memory()[0] / 1_000
    finally:
        tracemalloc.stop()
    assert 0.75 * counted <= each <= counted


def crowd() -> StreamManager:
    """Six streams of equal cost: two closed, two idle, one with a consumer, one with a producer."""
    manager = make_manager()
    for at, stream_id in enumerate(["idle-late", "read", "closed-late", "written", "idle-early", "closed-early"]):
        publish(manager.create(stream_id, 0.0), *texts("x" * 1_000), now=float(at))
    live(manager.get("read"))
    manager.get("written").producer_came()
    manager.get("idle-late").last_active_at = 50.0
    manager.close("closed-early", 10.0)
    manager.close("closed-late", 11.0)
    return manager


EACH = crowd().bytes // 6


@pytest.mark.parametrize(
    ("room_for", "forgotten"),
    [
        (6, []),
        (5, ["closed-early"]),
        (4, ["closed-early", "closed-late"]),
        (3, ["closed-early", "closed-late", "idle-early"]),
        (2, ["closed-early", "closed-late", "idle-early", "idle-late"]),
    ],
)
def test_invariant_6_over_the_memory_limit_closed_then_idle_streams_go_oldest_first(
    room_for: int, forgotten: list[str]
) -> None:
    manager = crowd()
    before = ids(manager.list())
    manager.memory_limit = room_for * EACH
    assert manager.make_room(60.0)
    assert sorted(forgotten) == sorted(set(before) - set(ids(manager.list())))
    assert manager.bytes <= manager.memory_limit


def test_invariant_6_what_is_read_or_written_is_never_evicted_and_creating_is_refused() -> None:
    manager = crowd()
    manager.memory_limit = EACH
    with pytest.raises(StreamError, match=rf"create 'more': stream full: memory_limit \({EACH} bytes\)") as refusal:
        manager.create("more", 60.0)
    assert is_full(refusal.value)
    assert ids(manager.list()) == ["read", "written"]


def test_invariant_6_creating_keeps_the_limit_its_own_cost_included() -> None:
    manager = make_manager(memory_limit=10 * STREAM_OVERHEAD)
    for number in range(40):
        manager.create(f"s{number}", float(number))
        assert manager.bytes <= manager.memory_limit
    assert ids(manager.list()) == [f"s{number}" for number in range(30, 40)]


def test_what_the_rest_of_the_process_holds_counts_towards_the_limit() -> None:
    manager = crowd()
    before = manager.bytes
    manager.memory_limit = 6 * EACH
    manager.elsewhere = 2 * EACH
    assert manager.bytes == before + 2 * EACH
    assert manager.make_room(60.0)
    assert manager.count() == 4
    manager.elsewhere = 0
    assert manager.bytes == sum(stream.bytes for stream in manager.list()) + 4 * STREAM_OVERHEAD


def test_what_is_remembered_of_producers_counts_towards_the_limit() -> None:
    manager = make_manager()
    stream = manager.create("a", 0.0)
    before = manager.bytes
    writer = stream.open_producer("p", 0)
    stream.append(MessageStart("m" * 1_000), STAMP, 0.0, writer)
    assert manager.bytes - before - stream.log.bytes == REMEMBERED_COST + OPEN_COST + 1_000
    stream.append(MessageStop("m" * 1_000, "end_turn"), STAMP, 0.0, writer)
    assert manager.bytes - before - stream.log.bytes == REMEMBERED_COST
    manager.close("a", 1.0)
    manager.expire(1_000.0)
    assert manager.bytes == 0


# How many


def test_one_stream_more_than_the_limit_takes_the_place_of_one_that_never_had_an_event() -> None:
    manager = make_manager(max_streams=3)
    publish(manager.create("written", 0.0), *numbered(1, 3))
    manager.create("empty", 1.0)
    manager.close(manager.create("closed", 2.0).id, 2.0)
    manager.create("one-more", 3.0)
    assert ids(manager.list()) == ["written", "closed", "one-more"]


def test_one_stream_more_than_the_limit_is_refused_while_every_stream_is_in_use() -> None:
    manager = make_manager(max_streams=2)
    held = [live(manager.create(stream_id, 0.0)) for stream_id in "ab"]
    with pytest.raises(StreamError, match=r"create 'c': stream full: max_streams \(2\) is reached") as refusal:
        manager.get_or_create("c", 1.0)
    assert is_full(refusal.value)
    assert manager.get_or_create("a", 1.0).id == "a"
    held[0].stream.unsubscribe(held[0], 2.0)
    assert manager.get_or_create("c", 3.0).id == "c"


def test_readers_of_made_up_ids_take_no_place_of_a_stream_that_was_written() -> None:
    manager = make_manager(max_streams=100)
    for number in range(60):
        publish(manager.create(f"real-{number}", 0.0), *numbered(1, 1))
    for number in range(1_000):
        stream = manager.get_or_create(f"guess-{number}", 1.0 + number)
        stream.unsubscribe(stream.subscribe(ask(), now=1.0 + number), 1.5 + number)
    assert [stream.id for stream in manager.list() if stream.log.head] == [f"real-{number}" for number in range(60)]


def test_a_stream_evicted_while_idle_takes_no_more_events_and_costs_nothing() -> None:
    manager = make_manager()
    held = manager.create("a", 0.0)
    publish(held, *numbered(1, 3))
    manager.memory_limit = 0
    assert manager.make_room(5.0)
    with pytest.raises(StreamError, match="send 'a': stream closed"):
        publish(held, *numbered(4, 4))
    assert (held.end_reason, held.closed_at) == ("inactive", 5.0)
    assert (manager.count(), manager.bytes) == (0, 0)


def test_a_consumer_of_a_closed_stream_that_is_evicted_is_told() -> None:
    manager = make_manager()
    stream = manager.create("a", 0.0)
    publish(stream, *numbered(1, 3))
    subscription = stream.subscribe(ask(), now=0.0)
    subscription.take()
    manager.close("a", 1.0)
    manager.memory_limit = 0
    assert manager.make_room(2.0)
    messages = drain(subscription)
    assert only(Gap, messages) == [Gap(first=1, seq=3, reason="evicted")]
    assert messages[-1] == StreamEnd(seq=3, reason="closed")
