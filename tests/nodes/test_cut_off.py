"""A node that can't reach the server for longer than its session lasts: others may have taken its streams over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from deltawire.gateway.engines.redis import engine as engine_module
from deltawire.gateway.engines.redis import keeping
from deltawire.gateway.engines.redis import session as session_module
from deltawire.gateway.server import Gateway, housekeeping
from scripts.proof.proxy import Door, open_door
from tests.nodes.together import http, is_owner, node_on
from tests.support.on_redis import expect_all, numbered, read, session_over, set_engine_timeout, write
from tests.support.peers import consumer, peer, producer, publish, text_delta, text_of
from tests.support.rawpeer import RawPeer
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.waiting import eventually

pytestmark = needs_redis

TTL = 4.0
"""Seconds that a session lasts: a busy machine must not end one that is not cut off."""

LEFT = 1.0
"""Seconds that are left of it to a node that is cut off, as if it had not reached the server for all but that."""


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (engine_module, session_module):
        monkeypatch.setattr(module, "TTL", TTL)
    monkeypatch.setattr(keeping, "RENEWAL", 0.1)


class Cuttable:
    """A node, its server, and the way from one to the other."""

    def __init__(self, gateway: Gateway, server: RedisServer, door: Door) -> None:
        self.gateway = gateway
        self._server = server
        self._door = door

    def cut_off(self, *, passed: float = TTL - LEFT) -> None:
        """Let nothing pass.

        Args:
            passed: seconds since the last thing did.
        """
        self._door.is_shut = True
        for link in tuple(self._door.links):
            link.cut()
        session = self._session
        session.lasts_until -= passed
        left = int((session.lasts_until - time.monotonic()) * 1000)
        assert self._server.command("PEXPIRE", f"deltawire:node:{session.node}", str(left)) == b":1\r\n"

    async def wait_over(self) -> None:
        """Wait until its session is over for the server too: until then others send its clients to it."""
        key = f"deltawire:node:{self._session.node}"
        await eventually(lambda: self._server.command("EXISTS", key) == b":0\r\n", "that its session is over")

    def mend(self) -> None:
        """Let everything pass again."""
        self._door.is_shut = False

    @property
    def _session(self) -> Any:
        engine: Any = self.gateway.hub._engine
        return engine._session


@asynccontextmanager
async def cuttable_on(server: RedisServer) -> AsyncIterator[Cuttable]:
    async with (
        open_door(server.url) as door,
        node_on(server, engine_url=door.url.replace("ws:", "redis:")) as gateway,
    ):
        yield Cuttable(gateway, server, door)
        set_engine_timeout(gateway, 1.0)  # to end, though it may be cut off


async def test_clients_of_an_owner_that_is_cut_off_are_sent_elsewhere_and_told_nothing_that_is_not_stored(
    server: RedisServer,
) -> None:
    async with node_on(server) as two, cuttable_on(server) as cuttable:
        one = cuttable.gateway
        await write(one, 1, 3)
        async with consumer(one) as reading, producer(one, "producer=q") as writing:
            await reading.read_until("caught_up")
            cuttable.cut_off()
            await writing.say(text_delta("too late"))
            heard = await writing.read_all()
            assert ("ack" in [it["type"] for it in heard], heard[-1]["code"], writing.code) == (
                False,
                "shutting_down",
                1001,
            )
            [problem] = await reading.read_all()
            assert (problem["code"], problem["retryable"], problem["resume_after"], reading.code) == (
                "shutting_down",
                True,
                3,
                1001,
            )
        await cuttable.wait_over()
        await write(two, 4, 5)
        await expect_all(two, 5)
        cuttable.mend()
        await eventually(lambda: not is_owner(one), "that it learns of it")
        await expect_all(one, 5)


async def test_requests_about_a_stream_of_an_owner_that_is_cut_off_are_refused_for_later(server: RedisServer) -> None:
    async with cuttable_on(server) as cuttable:
        one = cuttable.gateway
        await write(one, 1, 3)
        cuttable.cut_off()
        await eventually(lambda: one.hub.doubt)
        async with http(one) as client:
            for path in ("", "/events", "/events?after=3&wait=30", "/sse", "/ui-message-stream"):
                answer = await client.get(f"/v1/streams/demo{path}")
                assert (answer.status_code, "Retry-After" in answer.headers) == (503, True), path
            assert (await client.post("/v1/streams/demo/events", json=text_delta("x"))).status_code == 503
            assert (await client.get("/readyz")).status_code == 503
        for path in ("subscribe", "publish", "subscribe?policy=block"):
            raw = await RawPeer.connect(one.port)
            head = await raw.upgrade(f"/v1/streams/demo/{path}")
            assert (b" 503 " in head, b"Retry-After" in head) == (True, True)
            raw.close()


async def test_an_owner_that_nobody_has_replaced_serves_as_before_once_it_reaches_the_server_again(
    server: RedisServer,
) -> None:
    async with cuttable_on(server) as cuttable:
        one = cuttable.gateway
        await write(one, 1, 3)
        epoch = await expect_all(one, 3)
        async with producer(one, "producer=p") as writing:
            cuttable.cut_off()
            await writing.say(*numbered(4, 5))
            await writing.read_all()
            cuttable.mend()
        await eventually(lambda: one.hub.doubt is None)
        async with peer(one, "demo/publish?producer=p") as again:
            assert (await again.read())["producer_seq"] == 5, "what had been taken was stored"
            await publish(again, *numbered(6, 6), upto=6)
        await expect_all(one, 6, epoch)


async def test_a_cut_within_the_life_of_a_session_disturbs_no_reader(server: RedisServer) -> None:
    async with cuttable_on(server) as cuttable, consumer(cuttable.gateway) as reading:
        await reading.read_until("caught_up")
        cuttable.cut_off(passed=0.0)
        set_engine_timeout(cuttable.gateway, 0.1)
        await eventually(lambda: cuttable.gateway.hub.storage_failure)
        set_engine_timeout(cuttable.gateway)
        cuttable.mend()
        await eventually(lambda: not cuttable.gateway.hub.storage_failure)
        await write(cuttable.gateway, 1, 3)
        assert text_of(await reading.read_until("text_delta", seq=3)) == "1 2 3 "


async def test_readers_of_a_copy_stay_where_they_are_when_their_own_node_is_cut_off(server: RedisServer) -> None:
    async with node_on(server) as one, cuttable_on(server) as cuttable:
        two = cuttable.gateway
        await write(one, 1, 3)
        async with consumer(two) as reading:
            await reading.read_until("caught_up")
            cuttable.cut_off()
            await eventually(lambda: two.hub.doubt)
            async with consumer(two) as late:
                await late.read_until("caught_up", seq=3)
            await write(one, 4, 5)
            assert text_of(await reading.read_until("text_delta", seq=5)) == "4 5 "


async def test_readers_of_a_copy_go_on_with_the_next_owner_when_theirs_is_cut_off(server: RedisServer) -> None:
    async with node_on(server) as two, cuttable_on(server) as cuttable:
        await write(cuttable.gateway, 1, 3)
        async with consumer(two) as reading:
            await reading.read_until("caught_up")
            cuttable.cut_off()
            await eventually(lambda: is_owner(two), "that it takes the stream over")
            await write(two, 4, 5)
            assert text_of(await reading.read_until("text_delta", seq=5)) == "4 5 "


async def test_whoever_waits_for_a_page_of_an_owner_that_is_cut_off_waits_no_longer(server: RedisServer) -> None:
    async with cuttable_on(server) as cuttable, http(cuttable.gateway) as client:
        await write(cuttable.gateway, 1, 3)
        waiting = asyncio.create_task(client.get("/v1/streams/demo/events?after=3&wait=60"))
        await eventually(lambda: cuttable.gateway.hub.manager.get("demo").consumers)
        cuttable.cut_off()
        assert (await waiting).text == ""


async def test_clients_of_an_owner_that_is_cut_off_are_not_all_sent_away_at_once(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "CLOSES_A_SECOND", 2)  # one in a round
    async with cuttable_on(server) as cuttable, consumer(cuttable.gateway) as one, consumer(cuttable.gateway) as two:
        for it in (one, two):
            await it.read_until("caught_up")
        cuttable.cut_off()
        await eventually(lambda: one.code or two.code)
        assert {one.code, two.code} == {None, 1001}
        await eventually(lambda: one.code and two.code)


async def test_who_waits_for_a_page_of_a_stream_that_another_node_takes_over_is_told_to_try_again(
    server: RedisServer,
) -> None:
    async with node_on(server) as one, node_on(server) as two, http(one) as client:
        await write(one, 1, 3)
        waiting = asyncio.create_task(client.get("/v1/streams/demo/events?after=3&wait=60"))
        await eventually(lambda: one.hub.manager.get("demo").consumers)
        async with session_over(one, server):
            await read(two)
        answer = await waiting
        assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
        assert one.hub.storage_failure is None
        await expect_all(one, 3)
