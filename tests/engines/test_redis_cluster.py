"""Gateways on a Redis Cluster: streams on all its servers, whose slots move, and whose replicas take over."""

from __future__ import annotations

import asyncio
import math
import random
import re
import signal
from collections.abc import AsyncIterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest

from deltawire.gateway.config import ConfigError, Settings
from deltawire.gateway.engines.redis import keeping
from deltawire.gateway.engines.redis import session as session_module
from deltawire.gateway.engines.redis.committer import Committer
from deltawire.gateway.engines.redis.library import LIBRARY
from deltawire.gateway.engines.redis.link import Command, Link, LinkError
from deltawire.gateway.engines.redis.work import Work
from deltawire.gateway.server import Gateway
from scripts.proof.children import serving
from tests.support.asking import http_client
from tests.support.forking import ForkedChildren
from tests.support.on_redis import expect_all, gateway_on, numbered, read, set_engine_timeout, write
from tests.support.peers import producer, publish
from tests.support.processes import ROOT
from tests.support.redis_cluster import PAUSE, RedisCluster, is_linked, redis_cluster
from tests.support.redis_server import needs_redis
from tests.support.waiting import eventually

pytestmark = needs_redis

SHIPPED = (ROOT / "scripts" / "deploy" / "redis.conf").read_text(encoding="utf-8").replace(">PASSWORD", ">s3cret")
[RIGHTS] = re.findall(r"^user deltawire (.*)$", SHIPPED, re.MULTILINE)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[RedisCluster]:
    """Masters alone."""
    async with redis_cluster(tmp_path) as cluster:
        yield cluster


@pytest.fixture
async def replicated(tmp_path: Path) -> AsyncIterator[RedisCluster]:
    """A replica for each."""
    async with redis_cluster(tmp_path, has_replicas=True) as cluster:
        yield cluster


def streams_on(cluster: RedisCluster, master: int, many: int) -> list[str]:
    """Ids of streams that one of the masters has."""
    names = (f"s{number}" for number in count())
    return list(islice((it for it in names if cluster.server_of(it) is cluster.masters[master]), many))


async def test_streams_are_on_all_servers_and_there_after_a_restart(cluster: RedisCluster) -> None:
    streams = [stream for master in range(3) for stream in streams_on(cluster, master, 3)]
    async with gateway_on(cluster) as gateway:
        for stream in streams:
            await write(gateway, 1, 10, stream=stream)
        epochs = [await expect_all(gateway, 10, stream=stream) for stream in streams]
    assert all(b"keys=" in it.command("INFO", "keyspace") for it in cluster.masters)
    async with gateway_on(cluster) as gateway:
        assert sorted(it.id for it in gateway.hub.list_info()) == sorted(streams)
        for stream, epoch in zip(streams, epochs, strict=True):
            await expect_all(gateway, 10, epoch, stream)
            await write(gateway, 11, 12, stream=stream)


async def test_gateways_find_each_other_and_take_streams_over(cluster: RedisCluster) -> None:
    async with gateway_on(cluster, closed_retention=0) as two:
        async with gateway_on(cluster, advertise_url="ws://one.example") as one:
            await write(one, 1, 5)
            epoch = await expect_all(one, 5)
            async with http_client(base_url=two.url.replace("ws://", "http://")) as client:
                answer = await client.get("/v1/streams/demo")
                assert (answer.status_code, "ws://one.example" in answer.text) == (503, True)
        await expect_all(two, 5, epoch)
        await write(two, 6, 10)
        await expect_all(two, 10, epoch)
        two.hub.close("demo")
        await eventually(lambda: not two.hub.manager.has("demo"))
        await write(two, 1, 3)
        await expect_all(two, 3)


async def test_streams_on_all_servers_are_given_up_by_a_gateway_that_stays(cluster: RedisCluster) -> None:
    streams = [stream for master in range(3) for stream in streams_on(cluster, master, 2)]
    async with gateway_on(cluster) as one, gateway_on(cluster) as two:
        for stream in streams:
            await write(one, 1, 5, stream=stream)
        epochs = [await expect_all(one, 5, stream=stream) for stream in streams]
        await one.hub.give_up()
        for stream, epoch in zip(streams, epochs, strict=True):
            await expect_all(two, 5, epoch, stream)
            await write(two, 6, 7, stream=stream)
        assert (one.hub.count(), two.hub.count()) == (0, 6)


async def test_a_slot_that_is_moved_while_events_are_appended_costs_none_of_them(cluster: RedisCluster) -> None:
    moving, staying = streams_on(cluster, 0, 1)[0], streams_on(cluster, 1, 1)[0]
    target = cluster.masters[2]
    target.command("FUNCTION", "FLUSH")  # a server that was added later
    async with gateway_on(cluster, engine_timeout=30.0) as gateway:
        async with asyncio.TaskGroup() as group:
            started = asyncio.Event()

            async def flood(stream: str) -> None:
                async with producer(gateway, "producer=p", stream=stream) as writing:
                    for number in range(1, 400):
                        await publish(writing, *numbered(number, number), upto=number)
                        if number == 20:
                            started.set()

            for stream in (moving, staying):
                group.create_task(flood(stream))
            await started.wait()
            move = cluster.move(moving, target)
            move.begin()
            await asyncio.to_thread(move.carry_one_by_one)
            await asyncio.to_thread(move.end)
        for stream in (moving, staying):
            await expect_all(gateway, 399, stream=stream)
        assert not gateway.hub.storage_failure
    async with gateway_on(cluster) as gateway:
        for stream in (moving, staying):
            await expect_all(gateway, 399, stream=stream)
            await write(gateway, 400, 401, stream=stream)


@pytest.mark.slow
async def test_slots_that_move_again_and_again_cost_nothing_and_double_nothing(cluster: RedisCluster) -> None:
    chance = random.Random(14)
    streams = [stream for master in range(3) for stream in streams_on(cluster, master, 3)]
    async with gateway_on(cluster, engine_timeout=30.0) as gateway, asyncio.TaskGroup() as group:
        is_over = asyncio.Event()
        written = dict.fromkeys(streams, 0)

        async def flood(stream: str) -> None:
            async with producer(gateway, "producer=p", stream=stream) as writing:
                while not is_over.is_set():
                    last = written[stream] + chance.randint(1, 20)
                    try:
                        await publish(writing, *numbered(written[stream] + 1, last), upto=last)
                    except TimeoutError as error:  # once in a hundred runs, and nobody knew why
                        engine: Any = gateway.hub._engine
                        error.add_note(f"{stream}: {engine._committer.failure(math.inf)}")
                        for it in cluster.masters:
                            error.add_note(it.command("CLUSTER", "NODES").decode())
                        raise
                    written[stream] = last

        for stream in streams:
            group.create_task(flood(stream))
        await eventually(lambda: all(written.values()))
        for _ in range(15):
            await eventually(cluster.is_settled, pause=PAUSE)
            stream = chance.choice(streams)
            others = [it for it in cluster.masters if it is not cluster.server_of(stream)]
            move = cluster.move(stream, chance.choice(others))
            move.begin()
            await asyncio.to_thread(move.carry_one_by_one)
            await asyncio.to_thread(move.end)
        is_over.set()
    async with gateway_on(cluster) as gateway:
        for stream in streams:
            await expect_all(gateway, written[stream], stream=stream)


async def test_a_commit_whose_reply_was_lost_may_be_found_at_another_server_that_is_busy(
    cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    [moving], [staying] = streams_on(cluster, 0, 1), streams_on(cluster, 1, 1)
    move = cluster.move(moving, cluster.masters[1])
    send, take = Link.call, Committer.take
    is_taken = asyncio.Event()
    is_busy = asyncio.Event()

    def about(stream: str, commands: Sequence[Command]) -> bool:
        return any(f"{LIBRARY}_append" in command and f":{stream}:state" in str(command) for command in commands)

    async def send_and_move(link: Link, commands: Sequence[Command], within: float) -> list[Any]:
        replies = await send(link, commands, within)
        if about(moving, commands) and not is_taken.is_set():
            move.begin()
            move.carry()
            move.end()
            await link.close()
            raise LinkError("the reply is lost")
        if about(staying, commands):
            is_busy.set()
            await is_taken.wait()
        return replies

    def take_and_tell(committer: Committer, works: Sequence[Work], unverified: Sequence[tuple[str, str]] = ()) -> None:
        take(committer, works, unverified)
        if works:
            is_taken.set()

    async with gateway_on(cluster, engine_timeout=30.0) as gateway:
        await write(gateway, 1, 5, stream=moving)
        await write(gateway, 1, 5, stream=staying)
        monkeypatch.setattr(Link, "call", send_and_move)
        monkeypatch.setattr(Committer, "take", take_and_tell)
        async with (
            producer(gateway, "producer=p", stream=moving) as one,
            producer(gateway, "producer=p", stream=staying) as other,
        ):
            await other.say(*numbered(6, 6))
            await is_busy.wait()
            await publish(one, *numbered(6, 10), upto=10)
        await expect_all(gateway, 10, stream=moving)


async def test_a_stream_is_taken_over_from_a_server_that_has_no_functions_yet(cluster: RedisCluster) -> None:
    async with gateway_on(cluster) as two:
        async with gateway_on(cluster) as one:
            await write(one, 1, 5)
        for it in cluster.masters:
            it.command("FUNCTION", "FLUSH")
        await expect_all(two, 5)


async def test_the_user_that_is_shipped_needs_one_permission_more(cluster: RedisCluster) -> None:
    for it in cluster.masters:
        it.command("ACL", "SETUSER", "deltawire", *RIGHTS.split())
    url = cluster.url.replace("//", "//deltawire:s3cret@")
    with pytest.raises(ConfigError, match=r"does not permit this user CLUSTER SLOTS \(ACL\)"):
        async with gateway_on(cluster, engine_url=url):
            pass
    for it in cluster.masters:
        it.command("ACL", "SETUSER", "deltawire", "+cluster|slots")
    async with gateway_on(cluster, engine_url=url) as gateway:
        for stream in streams_on(cluster, 0, 1) + streams_on(cluster, 1, 1):
            await write(gateway, 1, 10, stream=stream)
    cluster.masters[2].command("ACL", "SETUSER", "deltawire", "-xadd")
    with pytest.raises(ConfigError, match="does not permit this user XADD in functions"):
        async with gateway_on(cluster, engine_url=url):
            pass


async def test_a_cluster_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigError, match=r"127.0.0.1:1,127.0.0.1:2 can't be reached: Connection refused"):
        async with Gateway(Settings(port=0, engine_url="redis+cluster://127.0.0.1:1,127.0.0.1:2")):
            pass


async def test_streams_of_a_slot_on_its_way_wait_and_no_other_does(cluster: RedisCluster) -> None:
    moving, staying = streams_on(cluster, 0, 2)
    move = cluster.move(moving, cluster.masters[1])
    async with gateway_on(cluster, engine_timeout=30.0) as gateway:
        await write(gateway, 1, 5, stream=moving)
        move.begin()
        assert move.carry(1) == 1
        async with producer(gateway, "producer=p", stream=moving) as waiting:
            await waiting.say(*numbered(6, 10))
            await write(gateway, 1, 50, stream=staying)
            assert gateway.hub.info(moving).head == 5
            await waiting.say(*numbered(11, 15))
            move.carry()
            move.end()
            await waiting.read_until("ack", producer_seq=15)
        await expect_all(gateway, 15, stream=moving)


async def test_a_move_that_is_never_finished_is_told_and_it_recovers(cluster: RedisCluster) -> None:
    [moving] = streams_on(cluster, 0, 1)
    move = cluster.move(moving, cluster.masters[1])
    async with gateway_on(cluster) as gateway:
        await write(gateway, 1, 5, stream=moving)
        move.begin()
        move.carry(1)
        async with producer(gateway, "producer=p", stream=moving) as waiting:
            set_engine_timeout(gateway, 0.1)
            await waiting.say(*numbered(6, 6))
            await eventually(lambda: "TRYAGAIN" in (gateway.hub.storage_failure or ""))
            move.carry()
            move.end()
            await waiting.read_until("ack", producer_seq=6)
        await eventually(lambda: not gateway.hub.storage_failure)


@pytest.mark.slow
async def test_a_master_that_stands_still_and_wakes_as_a_replica_loses_nothing_acked(replicated: RedisCluster) -> None:
    [stream] = streams_on(replicated, 0, 1)
    async with (
        gateway_on(replicated) as gateway,
        producer(gateway, "producer=p", stream=stream) as it,
    ):
        await publish(it, *numbered(1, 10), upto=10)
        replicated.masters[0].signal(signal.SIGSTOP)
        set_engine_timeout(gateway, 1.0, tells=False)
        await it.say(*numbered(11, 20))
        await it.read_until("ack", producer_seq=20)
        replicated.masters[0].signal(signal.SIGCONT)
        await eventually(lambda: is_linked(replicated.masters[0]), pause=PAUSE)
        await eventually(lambda: not gateway.hub.storage_failure)
        await publish(it, *numbered(21, 30), upto=30)
        await expect_all(gateway, 30, stream=stream)
    async with gateway_on(replicated) as gateway:
        await expect_all(gateway, 30, stream=stream)


async def test_streams_without_their_gateway_have_a_new_epoch_after_a_failover(replicated: RedisCluster) -> None:
    [failed], [other] = streams_on(replicated, 1, 1), streams_on(replicated, 2, 1)
    async with ForkedChildren() as children, serving(children, engine_url=replicated.url) as served:
        epochs = []
        for stream in (failed, other):
            await write(served, 1, 10, stream=stream)
            epochs.append(await expect_all(served, 10, stream=stream))
        served.process.kill()
        await served.process.wait()
    replicated.masters[1].kill()
    await replicated.wait_promoted(1)
    async with gateway_on(replicated, engine_timeout=30.0) as gateway:
        subscribed, *events, _ = await read(gateway, f"after=5&epoch={epochs[0]}", stream=failed)
        assert subscribed["epoch"] != epochs[0]
        assert (subscribed["recovered"], [it["seq"] for it in events]) == (True, [6, 7, 8, 9, 10])
        await expect_all(gateway, 10, epochs[1], stream=other)


@pytest.mark.parametrize("is_behind", [False, True])
async def test_a_master_that_is_killed_loses_nothing_acked(
    replicated: RedisCluster,
    is_behind: bool,  # noqa: FBT001 - a parameter
) -> None:
    victim = 1
    streams = [stream for master in range(3) for stream in streams_on(replicated, master, 2)]
    async with gateway_on(replicated, engine_timeout=30.0) as gateway:
        for stream in streams:
            await write(gateway, 1, 10, stream=stream)
        epochs = [await expect_all(gateway, 10, stream=stream) for stream in streams]
        if is_behind:
            replicated.cut_off(victim)
            await eventually(lambda: not is_linked(replicated.replicas[victim]), pause=PAUSE)
        for stream in streams:
            await write(gateway, 11, 15, stream=stream)
        replicated.masters[victim].kill()
        for stream in streams:
            await write(gateway, 16, 20, stream=stream)
        for stream, epoch in zip(streams, epochs, strict=True):
            await expect_all(gateway, 20, epoch, stream)
        await eventually(lambda: not gateway.hub.storage_failure)
    async with gateway_on(replicated, engine_timeout=30.0) as gateway:
        for stream, epoch in zip(streams, epochs, strict=True):
            await expect_all(gateway, 20, epoch, stream)


async def test_a_server_that_stands_still_ends_no_session_that_another_one_has(
    cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name, seconds in ((session_module, "TTL", 3.0), (keeping, "RENEWAL", 0.1), (keeping, "ANSWER", 0.3)):
        monkeypatch.setattr(module, name, seconds)
    async with gateway_on(cluster) as gateway:
        engine = gateway.hub._engine
        assert engine is not None
        session = engine._session  # type: ignore[attr-defined]
        key = session._keys.of_node(session.node)
        still = next(it for it in cluster.masters if it.command("EXISTS", key) != b":1\r\n")
        for server in cluster.masters:  # which would else give up on it, and all of them on the cluster
            assert server.command("CONFIG", "SET", "cluster-node-timeout", "60000") == b"+OK\r\n"
        still.signal(signal.SIGSTOP)
        over = session.lasts_until

        def is_kept() -> bool:
            assert gateway.hub.doubt is None
            return bool(session.lasts_until > over + 3.5)

        await eventually(is_kept)
        still.signal(signal.SIGCONT)
