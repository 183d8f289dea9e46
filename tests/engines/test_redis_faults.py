"""A gateway on a Redis server, through faults of either: nothing acked is lost, doubled or told in another order."""

from __future__ import annotations

import asyncio
import shutil
import signal
from pathlib import Path

import pytest

from deltawire.gateway.engines.redis import keeping
from deltawire.gateway.server import Gateway
from scripts.proof.children import serving
from scripts.proof.survival import survive
from tests.support.asking import http_client
from tests.support.forking import ForkedChildren
from tests.support.on_redis import expect_all, gateway_on, is_ready, numbered, read, set_engine_timeout, write
from tests.support.peers import consumer, peer, producer, publish, text_delta
from tests.support.redis_server import RedisServer, needs_redis, redis_server
from tests.support.soaking import lasting
from tests.support.waiting import eventually

pytestmark = needs_redis


@pytest.mark.soak
async def test_a_gateway_that_is_killed_again_and_again_loses_nothing_acked(server: RedisServer) -> None:
    survived = await survive({"engine_url": server.url}, kills=lasting(3, 20), seed=13)
    assert survived.acked > 0
    assert survived.faults == []


async def test_a_server_that_stands_still_holds_acks_up_and_nothing_is_lost(server: RedisServer) -> None:
    async with gateway_on(server) as gateway, producer(gateway, "producer=p") as writing:
        await publish(writing, *numbered(1, 10), upto=10)
        server.signal(signal.SIGSTOP)
        await writing.say(*numbered(11, 20))
        assert await is_ready(gateway), "engine_timeout is not over"
        server.signal(signal.SIGCONT)
        await writing.read_until("ack", producer_seq=20)
        await expect_all(gateway, 20)


async def test_a_server_that_is_away_for_long_is_told_readers_go_on_and_it_recovers(server: RedisServer) -> None:
    async with gateway_on(server) as gateway:
        await write(gateway, 1, 10)
        epoch = await expect_all(gateway, 10)
        async with producer(gateway, "producer=p") as writing:
            server.signal(signal.SIGSTOP)
            set_engine_timeout(gateway, 0.1)
            await writing.say(*numbered(11, 12))
            await eventually(lambda: gateway.hub.storage_failure)
            await writing.say(*numbered(13, 13))
            problem = (await writing.read_until("problem"))[-1]
            assert (problem["code"], problem["retryable"]) == ("overloaded", True)
            assert "engine_timeout" in problem["message"]
        assert not await is_ready(gateway)
        await expect_all(gateway, 10)
        set_engine_timeout(gateway)
        server.signal(signal.SIGCONT)
        await eventually(lambda: not gateway.hub.storage_failure)
        async with peer(gateway, "demo/publish?producer=p") as writing:
            assert (await writing.read())["producer_seq"] == 12, "what had been taken was committed"
            await publish(writing, *numbered(13, 20), upto=20)
        await expect_all(gateway, 20, epoch)


async def test_a_server_that_is_killed_and_keeps_a_file_loses_nothing(tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis", options={"appendonly": "yes", "appendfsync": "always"}) as server:
        async with gateway_on(server) as gateway:
            await write(gateway, 1, 10)
            epoch = await expect_all(gateway, 10)
            server.restart()
            await write(gateway, 11, 20)
        async with gateway_on(server) as gateway:
            await expect_all(gateway, 20, epoch)
            await write(gateway, 21, 30)


async def test_a_server_that_is_emptied_gets_everything_again(server: RedisServer) -> None:
    async with gateway_on(server) as gateway:
        await write(gateway, 1, 10)
        epoch = await expect_all(gateway, 10)
        server.command("FLUSHALL")
        await write(gateway, 11, 20)
        await expect_all(gateway, 20, epoch)
    async with gateway_on(server) as gateway:
        await expect_all(gateway, 20, epoch)
        await write(gateway, 21, 21)


async def test_a_server_that_is_emptied_gets_everything_again_though_nobody_writes(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "RENEWAL", 0.02)
    async with gateway_on(server) as gateway:
        await write(gateway, 1, 10)
        epoch = await expect_all(gateway, 10)
        server.command("FLUSHALL")
        await eventually(lambda: b"$2\r\n10" in server.command("HGET", "deltawire:{demo}:state", "head"))
    async with gateway_on(server) as gateway:
        await expect_all(gateway, 10, epoch)


async def put_back(tmp_path: Path, server: RedisServer, upto: int, then: int) -> str:
    """Write events, snapshot, write more, kill the gateway and put the snapshot back; returns the epoch."""
    async with ForkedChildren() as children, serving(children, engine_url=server.url) as served:
        await write(served, 1, upto)
        server.command("SAVE")
        shutil.copy(tmp_path / "redis" / "dump.rdb", tmp_path / "older.rdb")
        await write(served, upto + 1, then)
        epoch = await expect_all(served, then)
        served.process.kill()
        await served.process.wait()
    server.kill()
    shutil.copy(tmp_path / "older.rdb", tmp_path / "redis" / "dump.rdb")
    server.start()
    return epoch


async def test_an_older_state_without_its_gateway_is_a_new_epoch_with_an_exact_gap(
    tmp_path: Path, server: RedisServer
) -> None:
    epoch = await put_back(tmp_path, server, 95, 100)
    async with gateway_on(server) as gateway:
        subscribed, *events, _ = await read(gateway, f"after=90&epoch={epoch}")
        assert subscribed["epoch"] != epoch
        assert (subscribed["recovered"], subscribed["after"]) == (True, 90)
        assert [it["seq"] for it in events] == list(range(91, 96))
        await write(gateway, 96, 97)
        subscribed, gap, *events, _ = await read(gateway, f"after=100&epoch={epoch}")
        assert (subscribed["recovered"], subscribed["after"]) == (False, 95)
        assert gap == {"type": "gap", "first": 96, "seq": 100, "reason": "epoch_changed"}
        assert [it["seq"] for it in events] == [96, 97]
        await expect_all(gateway, 97, subscribed["epoch"])


async def test_a_producer_is_told_which_epochs_its_stream_continues(tmp_path: Path, server: RedisServer) -> None:
    epoch = await put_back(tmp_path, server, 95, 100)
    async with gateway_on(server) as gateway:
        for stream, continued in (("demo", [epoch]), ("another", None)):
            async with peer(gateway, f"{stream}/publish?producer=p") as writing:
                [ready] = await writing.read_until("ready")
            assert ready.get("continues") == continued
            assert ready["producer_seq"] == (95 if continued else 0)


async def test_an_older_state_with_its_gateway_is_filled_up(server: RedisServer) -> None:
    async with gateway_on(server) as gateway:
        await write(gateway, 1, 95)
        epoch = await expect_all(gateway, 95)
        server.command("SAVE")
        await write(gateway, 96, 100)
        server.restart()
        await eventually(lambda: b"$3\r\n100" in server.command("HGET", "deltawire:{demo}:state", "head"))
        await write(gateway, 101, 110)
    async with gateway_on(server) as gateway:
        await expect_all(gateway, 110, epoch)


async def test_a_stream_of_another_gateway_is_refused_with_its_address(server: RedisServer) -> None:
    async with gateway_on(server, advertise_url="ws://one.example") as one, gateway_on(server) as two:
        await write(one, 1, 5)
        for path in ("demo/publish", "demo/subscribe"):
            async with peer(two, path) as refused:
                problem = await refused.read()
                assert (problem["code"], problem["retryable"]) == ("overloaded", True)
                assert "ws://one.example" in problem["message"]
                await refused.read_all()
                assert refused.code == 4003
        async with http_client(base_url=two.url.replace("ws://", "http://")) as client:
            answer = await client.get("/v1/streams/demo")
            assert (answer.status_code, "ws://one.example" in answer.text) == (503, True)
        async with producer(two, stream="other") as writing:
            await publish(writing, text_delta("x"), upto=1)
        async with peer(one, "other/subscribe") as refused:
            assert (await refused.read())["code"] == "overloaded"


async def test_a_gateway_takes_over_when_the_other_has_gone(server: RedisServer) -> None:
    async with gateway_on(server) as two:
        async with gateway_on(server) as one:
            await write(one, 1, 5)
            epoch = await expect_all(one, 5)
        await expect_all(two, 5, epoch)
        await write(two, 6, 10)
        await expect_all(two, 10, epoch)


async def test_a_paused_owner_that_wakes_after_another_has_claimed_never_appends(server: RedisServer) -> None:
    async with ForkedChildren() as children, serving(children, engine_url=server.url) as one, gateway_on(server) as two:
        await write(one, 1, 5)
        node = server.command("HGET", "deltawire:{demo}:state", "owner").split(b"\r\n")[1].decode()
        async with producer(one, "producer=q") as paused, consumer(one) as reading:
            await reading.read_until("caught_up")
            one.process.send_signal(signal.SIGSTOP)
            server.command("DEL", f"deltawire:node:{node}")  # as when its time is over
            await paused.say(text_delta("too late"))
            await write(two, 6, 10)
            one.process.send_signal(signal.SIGCONT)
            heard = await paused.read_all()
            assert [it["type"] for it in heard] == ["audience", "problem"] or heard[-1]["code"] == "overloaded"
            assert "ack" not in [it["type"] for it in heard]
            assert (await reading.read_all())[-1]["code"] == "overloaded"
        await expect_all(two, 10)
        await eventually(lambda: b"$2\r\n10" in server.command("HGET", "deltawire:{demo}:state", "head"))


async def test_replicas_that_are_missing_hold_acks_up_and_let_no_stream_begin(server: RedisServer) -> None:
    async with gateway_on(server) as gateway:
        await write(gateway, 1, 1)
    async with gateway_on(server, engine_replicas=1) as gateway:
        set_engine_timeout(gateway, 0.2, tells=False)  # half of which the server waits for replicas
        async with producer(gateway) as writing:
            await writing.say(text_delta("x"))
            await eventually(lambda: "0 of 1 replicas" in (gateway.hub.storage_failure or ""))
        assert gateway.hub.info("demo").head == 1
        set_engine_timeout(gateway, 0.2)  # to end
    async with gateway_on(server, engine_replicas=1) as gateway:
        set_engine_timeout(gateway, 0.2, tells=False)
        async with peer(gateway, "new/publish") as refused:
            problem = await refused.read()
            assert (problem["code"], problem["retryable"]) == ("overloaded", True)
            assert "0 of 1 replicas" in problem["message"]
        set_engine_timeout(gateway, 0.2)


async def test_a_creation_whose_answer_is_lost_is_repeated_without_harm(server: RedisServer) -> None:
    async with gateway_on(server) as gateway:
        server.signal(signal.SIGSTOP)
        set_engine_timeout(gateway, 0.1)
        gateway.hub.create("demo")
        await eventually(lambda: gateway.hub.storage_metrics().failures >= 1)
        set_engine_timeout(gateway)
        server.signal(signal.SIGCONT)
        await eventually(lambda: not gateway.hub.storage_failure)
        await write(gateway, 1, 5)
        await expect_all(gateway, 5)


async def test_a_paused_owner_does_not_bring_back_what_another_has_deleted(server: RedisServer) -> None:
    async with ForkedChildren() as children, serving(children, engine_url=server.url) as one:
        await write(one, 1, 5)
        node = server.command("HGET", "deltawire:{demo}:state", "owner").split(b"\r\n")[1].decode()
        async with producer(one, "producer=q") as paused, gateway_on(server, closed_retention=0) as two:
            one.process.send_signal(signal.SIGSTOP)
            server.command("DEL", f"deltawire:node:{node}")
            await paused.say(text_delta("too late"))
            await write(two, 6, 6)
            two.hub.close("demo")
            await eventually(lambda: not two.hub.manager.has("demo"))
            await eventually(lambda: b":0" in server.command("EXISTS", "deltawire:{demo}:events"))
            one.process.send_signal(signal.SIGCONT)
            assert (await paused.read_all())[-1]["code"] == "overloaded"
        assert b":0" in server.command("EXISTS", "deltawire:{demo}:events")


async def test_a_stream_that_is_deleted_can_be_created_again(server: RedisServer) -> None:
    async with gateway_on(server, closed_retention=0) as gateway:
        await write(gateway, 1, 3)
        gateway.hub.close("demo")
        await eventually(lambda: not gateway.hub.manager.has("demo"))
        await write(gateway, 1, 5)
        await expect_all(gateway, 5)
    assert server.command("KEYS", "*node*") == b"*0\r\n"


async def test_many_commits_at_once_are_kept_in_order(server: RedisServer) -> None:
    async with gateway_on(server) as gateway:
        async with asyncio.TaskGroup() as group:
            for stream in range(20):
                group.create_task(_flood(gateway, f"s{stream}"))
        for stream in range(20):
            async with consumer(gateway, "policy=disconnect", stream=f"s{stream}") as reading:
                events = [it for it in await reading.read_until("caught_up") if it["type"] == "text_delta"]
                assert [it["data"]["text"] for it in events] == [f"{n} " for n in range(1, 301)]


async def _flood(gateway: Gateway, stream: str) -> None:
    async with producer(gateway, "producer=p", stream=stream) as writing:
        await publish(writing, *numbered(1, 300), upto=300)
