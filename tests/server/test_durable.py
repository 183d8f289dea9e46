"""A gateway with `data_dir`: streams, producers and messages outlive it, and nothing is told before it is committed."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from weakref import ref

import httpx
import pytest

from deltawire.gateway.client import Publisher, Subscriber
from deltawire.gateway.config import ConfigError, Settings
from deltawire.gateway.engines.sqlite import SqliteEngine
from deltawire.gateway.server import Gateway
from deltawire.gateway.server.connection.producer import Producer
from deltawire.gateway.streams.durable import DurableStream
from deltawire.protocol.events import Event, MessageStart, MessageStop, TextDelta
from deltawire.protocol.messages import Gap
from tests.support.peers import Peer, consumer, peer, producer, publish, text_delta, text_of, types_of
from tests.support.waiting import eventually

START = {"type": "message_start", "data": {"message_id": "m"}}
STOP = {"type": "message_stop", "data": {"message_id": "m", "stop_reason": "end_turn"}}

EVENTS = 200

Restart = Callable[..., AbstractAsyncContextManager[Gateway]]


@pytest.fixture(params=["always", "off"])
def restart(tmp_path: Path, request: pytest.FixtureRequest) -> Restart:
    """Starts a gateway on the same folder each time."""

    @asynccontextmanager
    async def start(**settings: Any) -> AsyncIterator[Gateway]:
        chosen: dict[str, Any] = {"port": 0, "drain_timeout": 0.2, "data_dir": str(tmp_path), "sync": request.param}
        async with Gateway(Settings(**chosen | settings)) as gateway:
            yield gateway

    return start


def http(gateway: Gateway) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=gateway.url.replace("ws:", "http:"))


async def test_a_reader_resumes_after_a_restart_as_if_nothing_had_been(restart: Restart) -> None:
    async with restart() as gateway, consumer(gateway) as reading, producer(gateway) as writing:
        [subscribed, _] = await reading.read_until("caught_up")
        await publish(writing, START, text_delta("one "), upto=2)
        assert text_of(await reading.read_until("text_delta")) == "one "
    async with restart() as gateway:
        async with producer(gateway) as writing:
            await writing.say(text_delta("two"), STOP, {"type": "close_stream"})
            await writing.read_all()
            assert writing.code == 1000
        async with consumer(gateway, f"after=2&epoch={subscribed['epoch']}") as reading:
            messages = await reading.read_all()
    assert messages[0] | {"epoch": subscribed["epoch"], "recovered": True, "head": 4} == messages[0]
    assert types_of(messages) == ["subscribed", "text_delta", "message_stop", "caught_up", "stream_end"]


async def test_a_late_reader_gets_the_whole_answer_and_a_digest_over_the_restart(restart: Restart) -> None:
    async with restart() as gateway, producer(gateway, "producer=p") as writing:
        await publish(writing, START, text_delta("one "), upto=2)
    async with restart() as gateway:
        async with producer(gateway, "producer=p") as writing:
            await publish(writing, text_delta("two"), STOP, upto=4)
        async with Subscriber(gateway.url, "demo") as events:
            got = [await anext(events) for _ in range(4)]
            assert events.proven == 1
    assert [type(it.data) for it in got if isinstance(it, Event)] == [MessageStart, TextDelta, TextDelta, MessageStop]


async def test_a_stream_whose_message_was_open_before_a_restart_can_be_closed(restart: Restart) -> None:
    async with restart() as gateway, producer(gateway, "producer=p") as writing:
        await publish(writing, START, text_delta("one "), upto=2)
    async with restart() as gateway, http(gateway) as client:
        assert (await client.delete("/v1/streams/demo")).status_code == 200


async def test_a_producer_that_keeps_sending_gets_one_ack_for_many_commits(restart: Restart) -> None:
    async with restart() as gateway, consumer(gateway) as reading, producer(gateway) as writing:
        for number in range(1, EVENTS + 1):
            await writing.say(text_delta(f"{number} "))
            await reading.read_until("text_delta", seq=number)  # it is committed: the next one is in another commit
        await writing.read_until("ack", seq=EVENTS)
        assert gateway.hub.tally.acks < EVENTS / 2


async def test_a_producer_goes_on_with_its_numbers_and_an_older_one_is_fenced(restart: Restart) -> None:
    numbered = [text_delta(str(number)) | {"producer_seq": number} for number in range(1, 6)]
    async with restart() as gateway, producer(gateway, "producer=p&generation=2") as writing:
        await publish(writing, *numbered[:3], upto=3)
    async with restart() as gateway:
        async with peer(gateway, "demo/publish?producer=p&generation=1") as old:
            assert (await old.read())["code"] == "fenced"
        async with peer(gateway, "demo/publish?producer=p&generation=2") as writing:
            ready = await writing.read()
            assert (ready["head"], ready["producer_seq"]) == (3, 3)
            await writing.say(*numbered)
            assert (await writing.read_until("ack", producer_seq=5))[-1]["seq"] == 5
        async with consumer(gateway) as reading:
            assert text_of(await reading.read_until("caught_up")) == "12345"


async def test_a_message_in_progress_has_its_lease_anew_and_ends_when_nobody_returns(restart: Restart) -> None:
    async with restart() as gateway, producer(gateway, "producer=p") as writing:
        await publish(writing, START, text_delta("half"), upto=2)
    async with restart(lease=0.2) as gateway, consumer(gateway) as reading:
        messages = await reading.read_until("message_stop")
    assert types_of(messages)[-2:] == ["error", "message_stop"]
    assert messages[-1]["data"]["stop_reason"] == "producer_lost"


async def test_a_closed_stream_stays_closed(restart: Restart) -> None:
    async with restart() as gateway, producer(gateway) as writing:
        await writing.say(text_delta("all"), {"type": "close_stream"})
        await writing.read_all()
    async with restart() as gateway:
        assert gateway.hub.info("demo").closed
        async with consumer(gateway) as reading:
            assert types_of(await reading.read_all()) == ["subscribed", "text_delta", "caught_up", "stream_end"]


async def test_pages_over_http_hold_what_is_from_before_the_restart(restart: Restart) -> None:
    async with restart() as gateway, producer(gateway) as writing:
        await publish(writing, *[text_delta(str(number)) for number in range(10)], upto=10)
    async with restart() as gateway, http(gateway) as client:
        info = (await client.get("/v1/streams/demo")).json()
        lines = (await client.get("/v1/streams/demo/events?after=4")).text.splitlines()
    assert (info["head"], info["floor"], info["events"]) == (10, 1, 10)
    assert len(lines) == 6


async def test_retention_holds_over_restarts(restart: Restart) -> None:
    async with restart(retention_events=300) as gateway, producer(gateway) as writing:
        for start in range(0, 1000, 50):
            await publish(writing, [text_delta("x")] * 50, upto=start + 50)
    async with restart(retention_events=300) as gateway, consumer(gateway) as reading:
        gap = (await reading.read_until("gap"))[-1]
    assert gap == {"type": "gap", "first": 1, "seq": 700, "reason": "evicted"}


async def test_a_stream_that_is_dropped_is_dropped_for_good(restart: Restart) -> None:
    async with restart() as gateway, producer(gateway) as writing:
        await writing.say(text_delta("all"), {"type": "close_stream"})
        await writing.read_all()
        await eventually(lambda: not gateway._connections)
        gateway.hub.manager.expire(gateway.hub.now() + gateway.settings.closed_retention + 1)
    async with restart() as gateway:
        assert gateway.hub.count() == 0


async def test_little_memory_costs_no_stored_stream_and_all_can_be_read(restart: Restart) -> None:
    async with restart(memory_limit=2**20) as gateway:
        for number in range(60):
            async with producer(gateway, stream=f"s{number}") as writing:
                await publish(writing, text_delta(str(number) * 20_000), upto=1)
        assert gateway.hub.manager.bytes <= 2**20 + 2**17, "all of them have over 2 MB"
        for number in (0, 30, 59):
            async with consumer(gateway, stream=f"s{number}") as reading:
                assert text_of(await reading.read_until("caught_up")) == str(number) * 20_000
        assert gateway.hub.count() == 60
    async with restart(memory_limit=2**20) as gateway:
        assert gateway.hub.count() == 60


async def fill_disk(gateway: Gateway, writing: Peer) -> SqliteEngine:
    """Store one event of a producer, and send a second one that the disk has no room for."""
    engine = gateway.hub._engine
    assert isinstance(engine, SqliteEngine)
    await publish(writing, text_delta("stored") | {"producer_seq": 1}, upto=1)
    engine._database.execute("PRAGMA max_page_count = 1")  # no more than there are
    await writing.say(text_delta("x" * 60_000) | {"producer_seq": 2})
    await eventually(lambda: engine.failure, "that the disk is full")
    return engine


async def free_disk(engine: SqliteEngine) -> None:
    engine._database.execute("PRAGMA max_page_count = 1073741823")
    await eventually(lambda: engine.failure is None, "that there is room again")


async def test_while_nothing_can_be_stored_nothing_is_acked_and_readers_go_on(restart: Restart) -> None:
    async with restart() as gateway, http(gateway) as client:
        async with producer(gateway, "producer=p") as writing:
            engine = await fill_disk(gateway, writing)
            await writing.say(text_delta("y") | {"producer_seq": 3})
            *others, problem = await writing.read_until("problem")
        assert (problem["code"], problem["retryable"], types_of(others).count("ack")) == ("overloaded", True, 0)
        assert "full" in problem["message"]
        unready = await client.get("/readyz")
        assert unready.status_code == 503
        assert "full" in unready.json()["detail"]
        async with consumer(gateway) as reading:
            assert text_of(await reading.read_until("caught_up")) == "stored"
            await free_disk(engine)
            stored = (await reading.read_until("text_delta"))[-1]
            assert stored["seq"] == 2, "it was kept, and stored when there was room"
        assert (await client.get("/readyz")).status_code == 200
        metrics = gateway.hub.storage_metrics()
        assert metrics.commits >= 2
        assert metrics.failures >= 1
        assert metrics.events.sum >= 2
        assert metrics.stored_bytes > 60_000
        assert gateway.hub.tally.committed_bytes > 60_000
        async with Publisher(gateway.url, "demo", producer="q") as publisher:
            await publisher.send(TextDelta("again"))
        async with Subscriber(gateway.url, "demo") as events:
            got = [await anext(events) for _ in range(1)]
    assert not [it for it in got if isinstance(it, Gap)]


async def test_a_producer_that_only_waits_while_nothing_can_be_stored_gets_its_ack_later(
    restart: Restart,
) -> None:
    async with restart() as gateway, producer(gateway, "producer=p") as writing:
        engine = await fill_disk(gateway, writing)
        await free_disk(engine)
        assert types_of(await writing.read_until("ack", seq=2)) == ["ack"], "it was told nothing else"


async def test_a_producer_that_returns_is_ready_once_what_it_sent_is_stored(
    restart: Restart, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with restart() as gateway:
        async with producer(gateway, "producer=p") as writing:
            engine = await fill_disk(gateway, writing)
        monkeypatch.setattr(SqliteEngine, "failure", None)  # as if it were only slow
        async with peer(gateway, "demo/publish?producer=p") as writing:
            await writing.say(text_delta("y") | {"producer_seq": 3})
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await writing.read_until("ready")
            await free_disk(engine)
            messages = await writing.read_until("ack")
            assert types_of(messages)[0] == "ready"
            assert messages[0]["producer_seq"] == 2
            assert messages[-1] == {"type": "ack", "seq": 3, "producer_seq": 3}


async def test_a_producer_that_returns_while_nothing_can_be_stored_is_refused(restart: Restart) -> None:
    async with restart() as gateway:
        async with producer(gateway, "producer=p") as writing:
            engine = await fill_disk(gateway, writing)
        async with peer(gateway, "demo/publish?producer=p") as writing:
            messages = await writing.read_all()
            assert [it.get("code") for it in messages] == ["overloaded"]
            assert writing.code == 4003
        await free_disk(engine)
        async with peer(gateway, "demo/publish?producer=p") as writing:
            [ready] = await writing.read_until("ready")
            assert ready["producer_seq"] == 2


async def test_a_producer_that_waits_for_ready_is_refused_once_the_store_fails(
    restart: Restart, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with restart() as gateway:
        async with producer(gateway, "producer=p") as writing:
            await fill_disk(gateway, writing)
        monkeypatch.setattr(SqliteEngine, "failure", None)
        async with peer(gateway, "demo/publish?producer=p") as writing:
            await eventually(lambda: any(isinstance(it, Producer) for it in gateway.hub.deadlines._swept))
            monkeypatch.undo()
            messages = await writing.read_all()
            assert [it.get("code") for it in messages] == ["overloaded"]


async def test_nothing_is_kept_of_a_producer_that_was_refused_while_it_waited_for_ready(
    restart: Restart, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with restart() as gateway:
        async with producer(gateway, "producer=p") as writing:
            engine = await fill_disk(gateway, writing)
        await eventually(lambda: not gateway._connections)
        monkeypatch.setattr(SqliteEngine, "failure", None)  # as if it were only slow
        async with peer(gateway, "demo/publish?producer=p") as writing:
            await eventually(lambda: any(isinstance(it, Producer) for it in gateway.hub.deadlines._swept))
            (waiting,) = map(ref, gateway._connections)
            monkeypatch.undo()
            await writing.read_all()
        await eventually(lambda: gc.collect() >= 0 and waiting() is None, "that it is forgotten", pause=0.1)
        await free_disk(engine)


async def test_a_fault_with_one_stream_costs_no_other_its_acks(
    restart: Restart, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = DurableStream.commit

    def fail(stream: DurableStream, *arguments: Any) -> None:
        if stream.id == "faulty":
            raise ZeroDivisionError
        commit(stream, *arguments)

    monkeypatch.setattr(DurableStream, "commit", fail)
    async with restart() as gateway, producer(gateway, stream="faulty") as faulty, producer(gateway) as writing:
        await faulty.say(text_delta("lost in the log, though not in the store"))
        await eventually(lambda: gateway.hub.tally.faults)
        await publish(writing, text_delta("fine"), upto=1)


async def test_a_second_gateway_on_the_folder_does_not_start(restart: Restart) -> None:
    async with restart():
        with pytest.raises(ConfigError, match="another gateway uses it"):
            async with restart():
                pass
