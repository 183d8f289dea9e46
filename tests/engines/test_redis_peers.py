"""What gateways that share a server believe of each other when it has lost something, or their clocks differ."""

from __future__ import annotations

import time
from typing import Any

import pytest

from deltawire.gateway.engines.redis.keys import Keys
from deltawire.gateway.engines.redis.library import call
from deltawire.gateway.server import Gateway
from tests.support.on_redis import expect_all, gateway_on, read, session_over, write
from tests.support.peers import peer
from tests.support.redis_server import RedisServer, needs_redis

pytestmark = needs_redis


async def refusal(gateway: Gateway, path: str) -> dict[str, Any]:
    """What a client hears instead of the stream; it may try again."""
    async with peer(gateway, path) as refused:
        problem = await refused.read()
        assert problem.get("code") == "overloaded", problem
        assert problem["retryable"]
        return problem


def session(gateway: Gateway) -> Any:
    return gateway.hub._engine._session  # type: ignore[union-attr]


def let_a_second_pass(gateway: Gateway) -> None:
    """Since the server said last whose a stream is."""
    for owned in gateway.hub._engine._committer.owned.values():  # type: ignore[union-attr]
        owned.sure_until = 0.0


@pytest.mark.parametrize("path", ["demo/subscribe", "demo/publish"])
async def test_a_server_that_is_emptied_is_filled_by_the_owner_before_another_gateway_takes_anything(
    server: RedisServer, path: str
) -> None:
    async with gateway_on(server) as one, gateway_on(server) as two:
        await write(one, 1, 3)
        epoch = await expect_all(one, 3)
        server.command("FLUSHALL")
        await refusal(two, path)  # the stream is not there
        await write(one, 4, 4)
        await refusal(two, path)  # its owner's session is not
        await session(two).renew()
        await expect_all(one, 4, epoch)


async def test_a_gateway_that_claims_nothing_after_a_fault_still_finds_owners_that_are_there(
    server: RedisServer,
) -> None:
    async with gateway_on(server) as one, gateway_on(server) as two:
        await write(one, 1, 3)
        session(two).hold_claims()
        assert "another gateway" in (await refusal(two, "demo/publish"))["message"]
        assert "settle" in (await refusal(two, "new/publish"))["message"]


async def test_a_gateway_that_claims_nothing_after_a_fault_leaves_streams_that_were_given_up(
    server: RedisServer,
) -> None:
    async with gateway_on(server) as one, gateway_on(server) as two:
        await write(one, 1, 3)
        await one.hub.give_up()
        session(two).hold_claims()
        assert "settle" in (await refusal(two, "demo/publish"))["message"]


async def test_a_gateway_reckons_with_others_that_an_emptied_server_knows_nothing_of(server: RedisServer) -> None:
    async with gateway_on(server), gateway_on(server) as two:
        assert session(two).has_peers
        server.command("FLUSHALL")
        assert not await session(two).renew()
        assert session(two).has_peers


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
async def test_gateways_whose_clocks_differ_know_of_each_other(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    real = time.time
    async with gateway_on(server) as one:
        monkeypatch.setattr(time, "time", lambda: real() + jump)
        async with gateway_on(server) as two:
            assert session(two).has_peers
            monkeypatch.setattr(time, "time", real)
            await session(one).renew()
            assert session(one).has_peers
            assert server.command("ZCARD", "deltawire:nodes") == b":2\r\n"


async def test_a_stream_that_was_deleted_while_it_was_claimed_is_not_made_anew(server: RedisServer) -> None:
    async with gateway_on(server) as gateway:
        claim = call("claim", Keys("deltawire").of_stream("demo"), "other", "5", "epoch")
        assert server.command(*map(str, claim)) == b"$4\r\nBUSY\r\n"
        await write(gateway, 1, 3)
        await expect_all(gateway, 3)


async def test_a_reader_ahead_of_a_gateway_that_has_lost_the_stream_may_try_again(server: RedisServer) -> None:
    async with gateway_on(server) as one, gateway_on(server) as two:
        await write(one, 1, 5)
        epoch = await expect_all(one, 5)
        async with session_over(one, server):
            await write(two, 6, 10)
        let_a_second_pass(one)
        why = await refusal(one, f"demo/subscribe?after=10&epoch={epoch}")
        assert "another gateway" in why["message"]
        subscribed, *_ = await read(two, f"after=10&epoch={epoch}")
        assert subscribed["recovered"]


async def test_a_reader_that_is_ahead_of_the_stream_hears_so_once_its_owner_is_sure(server: RedisServer) -> None:
    async with gateway_on(server) as one, gateway_on(server):
        await write(one, 1, 5)
        epoch = await expect_all(one, 5)
        path = f"demo/subscribe?after=10&epoch={epoch}"
        let_a_second_pass(one)
        await refusal(one, path)
        while True:
            async with peer(one, path) as refused:
                if (problem := await refused.read())["code"] == "position_ahead":
                    break
                assert problem["code"] == "overloaded"


async def test_a_reader_of_a_stream_that_nobody_has_any_more_begins_a_new_one(server: RedisServer) -> None:
    async with gateway_on(server) as gateway:
        subscribed, gap, caught_up = await read(gateway, "after=10&epoch=gone")
        assert (subscribed["head"], subscribed["recovered"]) == (0, False)
        assert (gap["reason"], caught_up["type"]) == ("epoch_changed", "caught_up")
