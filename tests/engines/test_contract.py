"""What a gateway promises whichever engine it has: order, numbers, fencing, ends, retention, resuming, restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from deltawire.gateway.config import Settings
from deltawire.gateway.engines.engine import Done
from deltawire.gateway.engines.sqlite import SqliteEngine
from deltawire.gateway.hub import hub as hub_module
from deltawire.gateway.server import Gateway
from tests.support.peers import Peer, consumer, peer, producer, publish, text_delta, text_of, types_of
from tests.support.ports import free_port
from tests.support.redis_cluster import PAUSE
from tests.support.redis_server import needs_redis, redis_server
from tests.support.waiting import eventually, turn

Start = Callable[..., AbstractAsyncContextManager[Gateway]]

REDIS = pytest.param("redis", marks=needs_redis)
CLUSTER = pytest.param("cluster", marks=needs_redis)
ENGINES = ("memory", "sqlite", REDIS, CLUSTER)
DURABLE = ("sqlite", REDIS, CLUSTER)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster of one server, for all tests: it takes two seconds to start."""
    options = {"cluster-enabled": "yes", "cluster-port": str(free_port())}
    with redis_server(tmp_path_factory.mktemp("cluster"), options=options) as server:
        server.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        asyncio.run(eventually(lambda: b"cluster_state:ok" in server.command("CLUSTER", "INFO"), pause=PAUSE))
        yield server.url.replace("redis:", "redis+cluster:")


def starter(engine: str, folder: Path, url: str = "") -> Start:
    """Starts a gateway with an engine, on the same data each time."""
    chosen: dict[str, dict[str, Any]] = {
        "memory": {},
        "sqlite": {"data_dir": str(folder)},
        "redis": {"engine_url": url},
        "cluster": {"engine_url": url, "engine_prefix": token_hex(8)},
    }

    @asynccontextmanager
    async def start(**settings: Any) -> AsyncIterator[Gateway]:
        common: dict[str, Any] = {"port": 0, "drain_timeout": 0.2}
        async with Gateway(Settings(**common | chosen[engine] | settings)) as gateway:
            yield gateway

    return start


@contextmanager
def _started(request: pytest.FixtureRequest, folder: Path) -> Iterator[Start]:
    engine = request.param
    if engine == "cluster":
        yield starter(engine, folder, request.getfixturevalue("cluster"))
    elif engine == "redis":
        with redis_server(folder / "redis") as server:
            yield starter(engine, folder, server.url)
    else:
        yield starter(engine, folder)


@pytest.fixture(params=ENGINES)
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Start]:
    with _started(request, tmp_path) as start:
        yield start


@pytest.fixture(params=DURABLE)
def durable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Start]:
    with _started(request, tmp_path) as start:
        yield start


def numbered(*numbers: int) -> list[dict[str, Any]]:
    return [text_delta(f"{number} ", producer_seq=number) for number in numbers]


async def write(gateway: Gateway, upto: int, begin: int = 1, query: str = "producer=p") -> None:
    async with producer(gateway, query) as writing:
        await publish(writing, *numbered(*range(begin, upto + 1)), upto=upto)


async def read(gateway: Gateway, query: str = "policy=disconnect", until: str = "caught_up") -> list[dict[str, Any]]:
    async with consumer(gateway, query) as reading:
        return await reading.read_until(until)


def seqs(messages: list[dict[str, Any]]) -> list[int]:
    return [it["seq"] for it in messages if it["type"] == "text_delta"]


async def test_readers_early_and_late_get_everything_once_and_in_order(start: Start) -> None:
    async with start() as gateway, consumer(gateway, "policy=disconnect") as early:
        await write(gateway, 50)
        messages = await early.read_until("text_delta", seq=50)
        assert seqs(messages) == list(range(1, 51))
        late = await read(gateway)
        assert [it for it in late if it["type"] == "text_delta"] == [
            it for it in messages if it["type"] == "text_delta"
        ]
        assert text_of(await read(gateway, "")) == text_of(late)


async def test_a_repeated_number_is_acked_with_its_first_seq_and_stored_once(start: Start) -> None:
    async with start() as gateway:
        await write(gateway, 5)
        async with peer(gateway, "demo/publish?producer=p") as writing:
            assert (await writing.read())["producer_seq"] == 5
            await writing.say(*numbered(3, 4, 5))
            assert (await writing.read_until("ack", producer_seq=5))[-1]["seq"] == 5
            await writing.say(*numbered(6))
            assert (await writing.read_until("ack", producer_seq=6))[-1]["seq"] == 6
        assert seqs(await read(gateway)) == [1, 2, 3, 4, 5, 6]


async def test_a_hole_in_the_numbers_is_refused(start: Start) -> None:
    async with start() as gateway, producer(gateway, "producer=p") as writing:
        await writing.say(*numbered(2))
        assert (await writing.read_until("problem"))[-1]["code"] == "sequence_gap"
        await publish(writing, *numbered(1), upto=1)


async def test_an_older_generation_is_fenced_and_changes_nothing(start: Start) -> None:
    async with start() as gateway:
        async with producer(gateway, "producer=p&generation=1") as old:
            await publish(old, *numbered(1), upto=1)
            async with peer(gateway, "demo/publish?producer=p&generation=2") as new:
                assert (await new.read())["producer_seq"] == 0
                assert (await old.read_until("problem"))[-1]["code"] == "fenced"
                await publish(new, *numbered(1), upto=2)
        async with peer(gateway, "demo/publish?producer=p&generation=1") as old:
            assert (await old.read())["code"] == "fenced"
        assert seqs(await read(gateway)) == [1, 2]


async def test_the_end_of_a_stream_comes_after_all_its_events_and_is_final(start: Start) -> None:
    async with start() as gateway, consumer(gateway) as reading:
        async with producer(gateway) as writing:
            await writing.say(text_delta("all"), {"type": "close_stream"}, text_delta("too late"))
            await writing.read_all()
        assert types_of(await reading.read_all())[-2:] == ["text_delta", "stream_end"]
        async with peer(gateway, "demo/publish") as late:
            assert (await late.read_until("problem"))[-1]["code"] == "stream_closed"
        assert text_of(await read(gateway, until="stream_end")) == "all"


async def test_retention_is_kept_and_what_is_gone_is_an_exact_gap(start: Start) -> None:
    async with start(retention_events=64) as gateway:
        await write(gateway, 200)
        _, gap, *events, _ = await read(gateway)
        assert gap == {"type": "gap", "first": 1, "seq": 136, "reason": "evicted"}
        assert seqs(events) == list(range(137, 201))


@pytest.mark.parametrize("after", [0, 1, 7, 10])
async def test_a_reader_resumes_at_the_next_event(start: Start, after: int) -> None:
    async with start() as gateway:
        await write(gateway, 10)
        epoch = (await read(gateway))[0]["epoch"]
        subscribed, *rest = await read(gateway, f"policy=disconnect&after={after}&epoch={epoch}")
        assert (subscribed["recovered"], seqs(rest)) == (True, list(range(after + 1, 11)))


async def test_everything_survives_a_restart(durable: Start) -> None:
    async with durable() as gateway:
        await write(gateway, 10, query="producer=p&generation=3")
        epoch = (await read(gateway))[0]["epoch"]
        async with producer(gateway, stream="closed") as writing:
            await writing.say(text_delta("x"), {"type": "close_stream"})
            await writing.read_all()
    async with durable() as gateway:
        subscribed, *rest = await read(gateway, f"policy=disconnect&after=4&epoch={epoch}")
        assert (subscribed["epoch"], subscribed["recovered"], seqs(rest)) == (epoch, True, list(range(5, 11)))
        async with peer(gateway, "demo/publish?producer=p&generation=2") as old:
            assert (await old.read())["code"] == "fenced"
        await write(gateway, 12, begin=9, query="producer=p&generation=3")
        assert seqs(await read(gateway)) == list(range(1, 13))
        assert gateway.hub.info("closed").closed


async def test_a_stream_goes_on_after_all_its_events_are_gone(durable: Start) -> None:
    async with durable(data_age=0.05) as gateway:
        await write(gateway, 5)
        stream = gateway.hub.manager.get("demo")
        await eventually(lambda: stream.floor == 6)
    for begin in (6, 7):
        async with durable() as gateway:
            await write(gateway, begin, begin=begin)
            messages = await read(gateway)
            assert messages[1] == {"type": "gap", "first": 1, "seq": 5, "reason": "evicted"}
            assert seqs(messages) == list(range(6, begin + 1))


async def test_the_age_of_the_store_concerns_what_was_stored_before_it_was_set(durable: Start) -> None:
    async with durable() as gateway:
        await write(gateway, 5)
    async with durable(data_age=0.05) as gateway:
        stream = gateway.hub.manager.get("demo")
        await eventually(lambda: stream.floor == 6)
    async with durable() as gateway:
        assert gateway.hub.manager.get("demo").settings.retention.age == 0, "it is not the stream's own"


class ReluctantEngine(SqliteEngine):
    """Answers nothing until it is allowed to."""

    held: list[Callable[[], None]] | None = None

    def commit(self, commits: Any, done: Done) -> None:
        super().commit(commits, partial(self._answer, done))

    def _answer(self, done: Done, indexes: Iterable[int]) -> None:
        if self.held is None:
            done(indexes)
        else:
            self.held.append(partial(done, indexes))

    def answer(self) -> None:
        held, self.held = self.held or [], None
        for done in held:
            done()


async def test_before_a_commit_is_answered_nobody_sees_its_events_and_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = ReluctantEngine(tmp_path, "off")
    monkeypatch.setattr(hub_module, "open_engine", lambda *_: engine)
    start = starter("sqlite", tmp_path)
    async with start() as gateway, consumer(gateway) as reading, producer(gateway, "producer=p") as writing:
        await publish(writing, *numbered(1), upto=1)
        await reading.read_until("text_delta")
        engine.held = []
        await writing.say(*numbered(2, 3))
        while len(engine.held) < 1:
            await turn()
        await writing.say({"type": "ping", "id": "p"})
        heard = types_of(await writing.read_until("pong"))
        assert "ack" not in heard, "though everything else is answered"
        assert gateway.hub.info("demo").head == 1
        assert seqs(await read(gateway)) == [1]
        await expect_silence(reading)
        engine.answer()
        assert (await writing.read_until("ack", producer_seq=3))[-1]["seq"] == 3
        assert text_of([await reading.read(), await reading.read()]) == "2 3 "


async def expect_silence(reading: Peer) -> None:
    """A ping is answered with nothing before it."""
    await reading.say({"type": "ping", "id": "q"})
    assert (await reading.read())["type"] == "pong"


async def test_a_producer_that_never_gets_an_answer_waits_and_costs_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = ReluctantEngine(tmp_path, "off")
    monkeypatch.setattr(hub_module, "open_engine", lambda *_: engine)
    async with starter("sqlite", tmp_path)() as gateway, producer(gateway) as writing:
        engine.held = []
        flood = asyncio.create_task(writing.say(*[text_delta("x" * 50_000)] * 200))
        stream = gateway.hub.manager.get("demo")
        while stream.has_room:
            await turn()
        await turn()
        assert gateway.hub.manager.bytes < 4 * 2**20
        engine.answer()
        await flood
        await writing.read_until("ack", seq=200)
