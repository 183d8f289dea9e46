"""What a manager does with stored streams: it unloads rather than forgets, and bounds the whole store."""

from __future__ import annotations

import pytest

from deltawire.gateway.streams.durable import DurableStream
from deltawire.gateway.streams.log import Retention
from deltawire.gateway.streams.manager import STREAM_OVERHEAD, StreamManager
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.staging import StoredState
from deltawire.protocol.errors import StreamError
from deltawire.protocol.events import MessageStart, MessageStop, TextDelta
from tests.streams.durable import (
    append,
    history_of,
    subscribe,
    take,
)


class Store:
    """Notes what a manager tells it."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.failure: str | None = None

    def created(self, stream: DurableStream) -> None:
        self.told.append(("created", stream.id))

    def trimmed(self, stream: DurableStream) -> None:
        self.told.append(("trimmed", stream.id))

    def forgotten(self, stream: DurableStream) -> None:
        self.told.append(("forgotten", stream.id))


def test_a_store_is_told_of_streams_that_are_kept_and_forgotten() -> None:
    manager = StreamManager(StreamSettings(), make_epoch=lambda: "e", closed_retention=5.0, data_age=60.0)
    manager.store = told = Store()
    opened = manager.open("a", 0.0)
    assert isinstance(opened, DurableStream)
    assert told.told == []
    manager.keep(opened, 0.0)
    fill(manager, "a", "x")
    manager.expire(60.0)
    manager.close("a", 60.0)
    manager.expire(65.0)
    assert told.told == [("created", "a"), ("trimmed", "a"), ("forgotten", "a")]


@pytest.mark.parametrize(
    ("age", "limit", "effective"), [(0.0, 60.0, 60.0), (30.0, 60.0, 30.0), (90.0, 60.0, 60.0), (90.0, 0.0, 90.0)]
)
def test_events_are_stored_no_longer_than_the_store_allows(age: float, limit: float, effective: float) -> None:
    manager = StreamManager(StreamSettings(retention=Retention(age=age)), make_epoch=lambda: "e", data_age=limit)
    manager.store = Store()
    stream = manager.create("a", 0.0)
    assert isinstance(stream, DurableStream)
    assert stream.history.retention.age == effective
    assert stream.settings.retention.age == age, "what is stored with the stream is its own"


@pytest.mark.parametrize("end_reason", [None, "closed"])
def test_streams_from_before_a_restart_are_found_listed_and_expire(end_reason: None) -> None:
    manager = StreamManager(StreamSettings(), make_epoch=lambda: "new", closed_retention=5.0, data_age=60.0)
    manager.store = told = Store()
    stream = manager.make_stored("a", "e", manager.settings, 0.0)
    stream.restore(StoredState(history_of([]), [], [], end_reason), 0.0, 10.0, 0.0)
    manager.restore(stream)
    assert manager.open("a", 0.0) is stream
    assert manager.list() == [stream]
    assert manager.page([], [""], "", 10) == [stream]
    assert told.told == []
    manager.expire(5.0)
    assert manager.count() == (0 if end_reason else 1)


def fill(manager: StreamManager, name: str, text: str) -> DurableStream:
    """A stream whose events are stored."""
    stream = manager.get_or_create(name, 0.0)
    assert isinstance(stream, DurableStream)
    append(stream, MessageStart("m"), TextDelta(text), MessageStop("m", "end_turn"))
    stream.commit(take(stream), 0.0)
    return stream


def test_too_little_memory_unloads_idle_streams_and_forgets_none() -> None:
    manager = StreamManager(StreamSettings(), make_epoch=lambda: "e", memory_limit=100_000)
    manager.store = told = Store()
    streams = [fill(manager, name, name * 30_000) for name in "abcd"]
    streams[1].close("closed", 0.0)
    streams[1].commit(take(streams[1]), 0.0)
    reader = subscribe(streams[2])
    assert manager.make_room(0.0, 40_000)
    assert streams[2].log.floor == 1, "it is read"
    assert manager.list() == streams
    assert manager.bytes <= 60_000
    streams[2].unsubscribe(reader, 1.0)
    assert manager.make_room(2.0, 80_000)
    assert [stream.log.floor for stream in streams] == [4] * 4
    assert [stream.floor for stream in streams] == [1] * 4
    assert manager.count() == 4
    assert [name for name, _ in told.told] == ["created"] * 4


def test_too_little_memory_takes_pages_and_what_no_policy_needs_from_streams_in_use() -> None:
    manager = StreamManager(StreamSettings(buffer_bytes=5_000), make_epoch=lambda: "e", memory_limit=100_000)
    manager.store = Store()
    streams = [fill(manager, name, "first") for name in "ab"]
    for stream in streams:
        subscribe(stream)
        for _ in range(30):
            append(stream, TextDelta("x" * 1000))
        stream.commit(take(stream), 0.0)
    assert manager.make_room(0.0, 40_000)
    assert streams[0].log.bytes <= 5_000
    assert streams[0].log.head - streams[0].log.floor >= 3
    assert [stream.floor for stream in streams] == [1, 1]
    assert not manager.make_room(0.0, 95_000)
    assert not manager.make_room(0.5, 95_000), "not looked at again so soon"
    streams[0].publishing = 0


def test_there_is_no_room_where_all_streams_are_in_use() -> None:
    manager = StreamManager(StreamSettings(), make_epoch=lambda: "e", memory_limit=50_000)
    manager.store = Store()
    subscribe(fill(manager, "a", "a" * 30_000))
    assert not manager.make_room(0.0, 30_000)


def test_where_there_are_too_many_streams_those_without_events_go_and_stored_ones_stay() -> None:
    manager = StreamManager(StreamSettings(), make_epoch=lambda: "e", max_streams=3)
    manager.store = Store()
    before = manager.make_stored("before", "e", manager.settings, 0.0)
    before.restore(StoredState(history_of([]), [], [], None), 0.0, 10.0, 0.0)
    manager.restore(before)
    waiting = manager.create("waiting", 0.0)
    waiting.append(TextDelta("x"), "2026-01-01T00:00:00Z", 0.0)
    for number in range(3):
        fill(manager, f"new{number}", "x") if number < 1 else manager.create(f"new{number}", float(number))
    assert [stream.id for stream in manager.list()] == ["waiting", "new0", "new2"]
    assert fill(manager, "last", "x") in manager.list()
    with pytest.raises(StreamError, match=r"max_streams \(3\) is reached and every stream is in use or stored"):
        manager.create("more", 9.0)


def test_too_little_memory_forgets_streams_without_events_first() -> None:
    manager = StreamManager(StreamSettings(), make_epoch=lambda: "e", memory_limit=10 * STREAM_OVERHEAD)
    manager.store = told = Store()
    for number in range(20):
        manager.create(f"s{number}", float(number))
    assert [stream.id for stream in manager.list()] == [f"s{number}" for number in range(10, 20)]
    assert told.told.count(("forgotten", "s0")) == 1


def test_a_stream_that_waits_for_the_engine_is_not_unloaded_before() -> None:
    manager = StreamManager(StreamSettings(), make_epoch=lambda: "e", memory_limit=50_000)
    manager.store = Store()
    stream = manager.get_or_create("a", 0.0)
    assert isinstance(stream, DurableStream)
    append(stream, TextDelta("a" * 30_000))
    assert not manager.make_room(0.0, 30_000)
    stream.commit(take(stream), 0.0)
    assert manager.make_room(0.0, 30_000)
    assert manager.count() == 1


def test_above_the_limit_of_the_store_closed_and_unused_streams_go_first_then_the_oldest_events() -> None:
    settings = StreamSettings(retention=Retention(bytes=640_000))
    manager = StreamManager(settings, make_epoch=lambda: "e", data_limit=100_000)
    manager.store = told = Store()
    streams = {name: fill(manager, name, "x" * 30_000) for name in "abcd"}
    for stream in streams.values():
        for _ in range(20):
            append(stream, TextDelta("y" * 1000))
            stream.commit(take(stream), 0.0)
    manager.close("d", 0.0)
    subscribe(streams["a"])
    streams["b"].last_active_at = 5.0
    manager.expire(10.0)
    gone = [name for what, name in told.told if what == "forgotten"]
    assert gone == ["d", "c", "b"], "three times 50 kB, to get from 200 kB to 98 kB and less"
    told.told.clear()
    for _ in range(60):
        append(streams["a"], TextDelta("y" * 1000))
        streams["a"].commit(take(streams["a"]), 0.0)
    manager.expire(11.0)
    assert ("trimmed", "a") in told.told
    assert 50_000 < manager.ledger.stored <= 100_000
    assert streams["a"].floor > 1
