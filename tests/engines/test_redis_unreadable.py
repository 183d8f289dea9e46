"""Streams that a Redis server has, and that can't be read: each is told, and none holds another up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.testing import capture_logs

from deltawire.gateway.config import ConfigError
from deltawire.gateway.engines.redis import claiming, keeping
from deltawire.gateway.engines.redis import engine as engine_module
from deltawire.gateway.engines.redis.engine import RedisEngine
from deltawire.gateway.hub import hub as hub_module
from deltawire.gateway.streams.pages import StoredPage, Wanted
from tests.support.on_redis import expect_all, gateway_on, numbered, read, write
from tests.support.peers import peer, producer
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.waiting import eventually

pytestmark = needs_redis


async def store(server: RedisServer, *streams: str) -> None:
    """Have a gateway store five events of each, and leave."""
    async with gateway_on(server) as gateway:
        for stream in streams:
            await write(gateway, 1, 5, stream)


def assert_told(message: str) -> None:
    """It names the stream and its keys, and says what to do."""
    assert "stream 'a' can't be served" in message
    assert "deltawire:{a}:state, deltawire:{a}:events and deltawire:streams" in message
    assert "delete or rename that one, or set another engine_prefix" in message
    assert "script" not in message
    assert "WRONGTYPE" not in message


@pytest.mark.parametrize("junk", [("SET", "x"), ("XADD", "5-5", "foreign", "x"), ("XADD", "5-5", "t", "0", "e", "x")])
async def test_events_that_are_none_are_a_gap_and_other_streams_are_read(
    server: RedisServer, junk: tuple[str, ...]
) -> None:
    await store(server, "a", "b")
    async with gateway_on(server) as gateway:
        server.command("DEL", "deltawire:{a}:events")
        server.command(junk[0], "deltawire:{a}:events", *junk[1:])
        _, gap, _ = await read(gateway, stream="a")
        assert (gap["type"], gap["first"], gap["seq"]) == ("gap", 1, 5)
        await expect_all(gateway, 5, stream="b")


async def test_a_server_that_has_lost_the_functions_gets_them_again_to_read(server: RedisServer) -> None:
    await store(server, "demo")
    async with gateway_on(server) as gateway:
        server.command("FUNCTION", "FLUSH")
        await expect_all(gateway, 5)


async def test_a_server_that_has_lost_the_functions_gets_them_again_to_take_a_stream_over(server: RedisServer) -> None:
    async with gateway_on(server) as gateway:
        await store(server, "demo")
        server.command("FUNCTION", "FLUSH")
        await expect_all(gateway, 5)


async def test_readers_wait_while_the_server_permits_no_reads_and_the_log_says_so(server: RedisServer) -> None:
    await store(server, "demo")
    async with gateway_on(server) as gateway:
        server.command("ACL", "SETUSER", "default", "-fcall_ro")
        with capture_logs() as logs:
            reading = asyncio.create_task(expect_all(gateway, 5))
            await eventually(lambda: any(it["event"] == "storage.read_refused" for it in logs))
        server.command("ACL", "SETUSER", "default", "+fcall_ro")
        await reading


class SlowEngine(RedisEngine):
    """Answers no reads of one stream until it is allowed to."""

    may_read: asyncio.Event

    def read(self, stream: str, epoch: str, wanted: Wanted, done: Callable[[StoredPage], None]) -> None:
        super().read(stream, epoch, wanted, partial(self._answer, done) if stream == "slow" else done)

    def _answer(self, done: Callable[[StoredPage], None], page: StoredPage) -> None:
        async def answer() -> None:
            await self.may_read.wait()
            done(page)

        self.answering = asyncio.create_task(answer())


async def test_a_stream_that_is_read_slowly_holds_no_other_up(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store(server, "slow", "quick")
    engine = SlowEngine(server.url)
    engine.may_read = asyncio.Event()
    monkeypatch.setattr(hub_module, "open_engine", lambda *_: engine)
    async with gateway_on(server) as gateway:
        reading = asyncio.create_task(expect_all(gateway, 5, stream="slow"))
        await eventually(lambda: hasattr(engine, "answering"))
        await expect_all(gateway, 5, stream="quick")
        assert not reading.done()
        engine.may_read.set()
        await reading


@pytest.mark.parametrize(
    "junk", [("HSET", "deltawire:{a}:state", "messages", "junk"), ("SET", "deltawire:{a}:state", "x")]
)
async def test_a_stream_that_is_none_is_named_and_the_others_are_served(
    server: RedisServer, junk: tuple[str, ...]
) -> None:
    await store(server, "a", "b", "c")
    server.command(*junk)
    with capture_logs() as logs:
        async with gateway_on(server) as gateway:
            assert [it.id for it in gateway.hub.list_info()] == ["b", "c"]
            await expect_all(gateway, 5, stream="c")
            async with peer(gateway, "a/subscribe") as reading:
                assert_told((await reading.read())["message"])
    [skipped] = [it for it in logs if it["event"] == "storage.stream_skipped"]
    assert skipped["stream"] == "a"
    assert_told(skipped["detail"])


async def test_a_stream_whose_key_another_program_has_is_told_and_begun_once_it_is_deleted(server: RedisServer) -> None:
    server.command("SET", "deltawire:{a}:state", "x")
    async with gateway_on(server) as gateway:
        with capture_logs() as logs:
            for _ in range(2):
                async with peer(gateway, "a/publish") as writing:
                    problem = await writing.read()
                    assert problem["code"] == "overloaded"
                    assert_told(problem["message"])
        [skipped] = [it for it in logs if it["event"] == "storage.stream_skipped"]
        assert_told(skipped["detail"])
        server.command("DEL", "deltawire:{a}:state")
        await write(gateway, 1, 5, "a")


@pytest.mark.parametrize(
    "junk",
    [
        ("SET", "deltawire:{a}:events", "x"),
        ("XADD", "deltawire:{a}:events", "5-5", "another", "x"),
        ("RPUSH", "deltawire:{a}:events", "x"),
        ("HSET", "deltawire:{a}:state", "another", "x"),
    ],
)
async def test_no_stream_begins_on_a_key_that_another_program_has(server: RedisServer, junk: tuple[str, ...]) -> None:
    server.command(*junk)
    before = server.command("DUMP", junk[1])
    async with gateway_on(server) as gateway:
        async with peer(gateway, "a/publish") as writing:
            problem = await writing.read()
            assert problem["code"] == "overloaded"
            assert_told(problem["message"])
        assert server.command("DUMP", junk[1]) == before
        server.command("DEL", junk[1])
        await write(gateway, 1, 5, "a")
        await expect_all(gateway, 5, stream="a")


@pytest.mark.parametrize("key", ["deltawire:nodes", "deltawire:streams"])
async def test_no_gateway_starts_where_another_program_has_a_list(server: RedisServer, key: str) -> None:
    server.command("SET", key, "x")
    with pytest.raises(ConfigError, match=r"another program has .*:nodes or .*:streams.* set another engine_prefix"):
        async with gateway_on(server):
            pass
    assert server.command("GET", key) == b"$1\r\nx\r\n"


async def test_what_a_gateway_has_left_of_a_stream_is_in_nobody_s_way(server: RedisServer) -> None:
    await store(server, "a")
    server.command("DEL", "deltawire:{a}:state")
    async with gateway_on(server) as gateway:
        await write(gateway, 1, 3, "a")
        await expect_all(gateway, 3, stream="a")


async def test_events_that_went_while_nobody_served_them_are_a_gap_and_logged(server: RedisServer) -> None:
    await store(server, "a")
    async with gateway_on(server) as gateway:
        await write(gateway, 6, 10, "a")
    server.command("XDEL", "deltawire:{a}:events", "10-5")
    with capture_logs() as logs:
        async with gateway_on(server) as gateway:
            await write(gateway, 11, 12, "a")
            _, *events, gap, eleven, twelve, _ = await read(gateway, stream="a")
            assert [it["seq"] for it in events] == [1, 2, 3, 4, 5]
            assert gap == {"type": "gap", "first": 6, "seq": 10, "reason": "evicted"}
            assert (eleven["seq"], twelve["seq"]) == (11, 12)
    [failed] = [it for it in logs if it["event"] == "storage.read_failed"]
    assert (failed["stream"], failed["detail"]) == ("a", "events 6 to 10: missing")


async def test_all_events_that_went_while_nobody_served_them_are_a_gap_and_logged(server: RedisServer) -> None:
    await store(server, "a")
    server.command("DEL", "deltawire:{a}:events")
    with capture_logs() as logs:
        async with gateway_on(server) as gateway:
            _, gap, _ = await read(gateway, stream="a")
            assert gap == {"type": "gap", "first": 1, "seq": 5, "reason": "evicted"}
    [failed] = [it for it in logs if it["event"] == "storage.read_failed"]
    assert (failed["stream"], failed["detail"]) == ("a", "events 1 to 5: missing")


async def test_a_start_that_fails_gives_back_what_it_has_claimed(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store(server, "a", "b")
    monkeypatch.setattr(claiming, "MANY", 1)
    asked = []

    async def ask_owners(*args: Any) -> Any:
        asked.append(args)
        if len(asked) == 2:
            raise RedisConnectionError("gone")
        return await real(*args)

    real = claiming._ask_owners
    monkeypatch.setattr(claiming, "_ask_owners", ask_owners)
    with pytest.raises(ConfigError, match="gone"):
        async with gateway_on(server):
            pass
    async with gateway_on(server) as gateway:
        await expect_all(gateway, 5, stream="a")
        await expect_all(gateway, 5, stream="b")


async def test_streams_are_taken_over_though_one_before_them_is_none(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "RENEWAL", 0.02)
    monkeypatch.setattr(engine_module, "TTL", 0.05)
    async with gateway_on(server) as one, gateway_on(server) as two:
        async with gateway_on(server) as leaving:
            await write(leaving, 1, 5, "a")
            await write(leaving, 1, 5, "b")
            server.command("HSET", "deltawire:{a}:state", "messages", "junk")
        await eventually(lambda: one.hub.manager.has("b") or two.hub.manager.has("b"))


@pytest.mark.parametrize(
    "junk", [("SET", "deltawire:{a}:state", "x"), ("XADD", "deltawire:{a}:events", "*", "foreign", "x")]
)
async def test_a_stream_that_is_none_any_more_is_told_and_others_are_stored(
    server: RedisServer, junk: tuple[str, ...]
) -> None:
    async with gateway_on(server) as gateway:
        for stream in ("a", "b"):
            await write(gateway, 1, 5, stream)
        server.command(*junk)
        async with producer(gateway, "producer=p", stream="a") as writing:
            await writing.say(*numbered(6, 6))
            problem = (await writing.read_until("problem"))[-1]
            assert problem["code"] == "overloaded"
            assert_told(problem["message"])
        await write(gateway, 6, 10, "b")
        await expect_all(gateway, 10, stream="b")
