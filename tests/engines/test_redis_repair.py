"""What a server has lost is appended again, wherever that is cut: nothing acked is lost or doubled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from deltawire.gateway.engines.redis import refilling
from deltawire.protocol.events import TextDelta
from tests.support.on_redis import expect_all, gateway_on, set_engine_timeout, write
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.serving import connected, listening
from tests.support.waiting import eventually

pytestmark = needs_redis


class Cutter:
    """Passes a server's connections on, and keeps one reply of the first repair back, or of another function.

    Args:
        port: of the server.
        reply: of the repair, counted from 0; the server has done by then what it answers. None keeps none back.
        is_silent: nothing comes any more on that connection, instead of its end.
        delay: seconds by which each reply of a repair is late.
        function: of the server.
    """

    def __init__(self, port: int, reply: int | None, *, is_silent: bool, delay: float, function: str) -> None:
        self._server = port
        self._function = f"_{function}\r\n".encode()
        self._reply = reply
        self._is_silent = is_silent
        self._delay = delay
        self._asked = -1  # replies of the repair that were asked for
        self.has_cut = False
        self.port = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connect a client to the server."""
        is_cut = False

        async def ask() -> None:
            nonlocal is_cut
            while data := await reader.read(2**20):
                if self._function in data or self._asked >= 0:
                    self._asked += 1
                    if self._asked == self._reply:
                        is_cut = self.has_cut = True
                far_writer.write(data)
            far_writer.close()

        async def answer() -> None:
            while data := await far_reader.read(2**20):
                if is_cut and self._is_silent:
                    continue
                if is_cut:
                    break
                if self._asked >= 0:
                    await asyncio.sleep(self._delay)
                writer.write(data)
            writer.close()

        async with connected(self._server) as (far_reader, far_writer):
            await asyncio.gather(ask(), answer())


@asynccontextmanager
async def cutting(
    server: RedisServer,
    reply: int | None,
    *,
    is_silent: bool = False,
    delay: float = 0.0,
    function: str = "repair",
) -> AsyncIterator[Cutter]:
    cutter = Cutter(server.port, reply, is_silent=is_silent, delay=delay, function=function)
    async with listening(cutter.accept) as cutter.port:
        yield cutter


@pytest.mark.parametrize("is_silent", [False, True])
@pytest.mark.parametrize("reply", range(5))
async def test_a_repair_is_cut_at_each_of_its_replies_and_begins_again(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, reply: int, *, is_silent: bool
) -> None:
    monkeypatch.setattr(refilling, "PIECE", 1)  # so that there are replies to repair, three appends and confirm
    async with cutting(server, reply, is_silent=is_silent) as cutter:
        url = f"redis://127.0.0.1:{cutter.port}"
        async with gateway_on(server, engine_url=url) as gateway:
            await write(gateway, 1, 3)
            epoch = await expect_all(gateway, 3)
            set_engine_timeout(gateway, 0.3, tells=False)
            server.command("FLUSHALL")
            await write(gateway, 4, 5)
            assert cutter.has_cut
            await expect_all(gateway, 5, epoch)
    async with gateway_on(server) as gateway:
        await expect_all(gateway, 5, epoch)


async def test_a_repair_may_take_longer_than_engine_timeout_while_the_server_answers(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refilling, "PIECE", 1)
    async with (
        cutting(server, None, delay=0.1) as cutter,
        gateway_on(server, engine_url=f"redis://127.0.0.1:{cutter.port}") as gateway,
    ):
        await write(gateway, 1, 20)
        set_engine_timeout(gateway, 1.9, tells=False)  # less than twenty replies take, and far more than one does
        server.command("FLUSHALL")
        await write(gateway, 21, 21)
        assert gateway.hub.storage_metrics().failures == 0, "it did not begin again"
        await expect_all(gateway, 21)


async def test_what_was_committed_beside_a_repair_that_is_cut_is_delivered_once(server: RedisServer) -> None:
    async with (
        cutting(server, 0) as cutter,
        gateway_on(server, engine_url=f"redis://127.0.0.1:{cutter.port}") as gateway,
    ):
        for stream in ("lost", "kept"):
            await write(gateway, 1, 3, stream)
        server.command("DEL", "deltawire:{lost}:state", "deltawire:{lost}:events")
        for stream in ("lost", "kept"):  # in one turn, so that one group has both
            gateway.hub.get(stream).send_nowait(TextDelta("4 "))
        await eventually(lambda: cutter.has_cut and gateway.hub.info("lost").head == 4)
        for stream in ("lost", "kept"):
            await expect_all(gateway, 4, stream=stream)
    async with gateway_on(server) as gateway:
        for stream in ("lost", "kept"):
            await expect_all(gateway, 4, stream=stream)


async def test_a_server_that_has_more_than_was_answered_is_known_to_have_all(server: RedisServer) -> None:
    async with (
        cutting(server, 0, function="append") as cutter,
        gateway_on(server, engine_url=f"redis://127.0.0.1:{cutter.port}") as gateway,
    ):
        gateway.hub.create("demo")
        await eventually(lambda: b"owner" in server.command("HGETALL", "deltawire:{demo}:state"))
        server.command("HSET", "deltawire:{demo}:state", "incarnation", "older")  # as after a restart of the server
        await write(gateway, 1, 3)
        assert cutter.has_cut
        assert b"older" not in server.command("HGET", "deltawire:{demo}:state", "incarnation")
        await expect_all(gateway, 3)


FIELDS = ("head", "epoch", "term", "owner", "settings", "floor", "clean")


@pytest.mark.parametrize("field", FIELDS)
async def test_a_stream_without_one_of_its_fields_is_stored_anew_by_its_owner(server: RedisServer, field: str) -> None:
    async with gateway_on(server) as gateway:
        await write(gateway, 1, 5)
        epoch = await expect_all(gateway, 5)
        server.command("HDEL", "deltawire:{demo}:state", field)
        server.command("CLIENT", "KILL", "TYPE", "normal")  # as after a restart of the server
        await write(gateway, 6, 8)
        await expect_all(gateway, 8, epoch)
    async with gateway_on(server) as gateway:
        await expect_all(gateway, 8, epoch)


async def test_the_owner_of_a_stream_without_its_head_finds_out_as_it_appends(server: RedisServer) -> None:
    async with gateway_on(server) as gateway:
        await write(gateway, 1, 5)
        server.command("HDEL", "deltawire:{demo}:state", "head")
        await write(gateway, 6, 8)
        await expect_all(gateway, 8)


@pytest.mark.parametrize("field", FIELDS)
async def test_a_stream_without_one_of_its_fields_that_nobody_serves_is_none(server: RedisServer, field: str) -> None:
    async with gateway_on(server) as running:
        async with gateway_on(server) as gateway:
            for stream in ("asked", "left"):
                await write(gateway, 1, 5, stream)
            epoch = await expect_all(gateway, 5, stream="asked")
        for stream in ("asked", "left"):
            server.command("HDEL", f"deltawire:{{{stream}}}:state", field)
        with capture_logs() as logs:
            await write(running, 1, 3, "asked")
            assert await expect_all(running, 3, stream="asked") != epoch
            async with gateway_on(server) as started:
                assert started.hub.count() == 0
                assert b"left" not in server.command("ZRANGE", "deltawire:streams", "0", "-1")
                await write(started, 1, 3, "left")
        assert [it for it in logs if it["log_level"] in {"warning", "error"}] == []
    async with gateway_on(server) as gateway:
        for stream in ("asked", "left"):
            await expect_all(gateway, 3, stream=stream)
