"""Requests while the store is away: they are answered in time, with 503 and when to ask again."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from deltawire.gateway.config import Settings
from deltawire.gateway.engines.folder import FILE
from deltawire.gateway.server import Gateway
from tests.support.asking import http_client
from tests.support.on_redis import set_engine_timeout
from tests.support.peers import producer, publish, text_delta
from tests.support.redis_server import RedisServer, needs_redis, redis_server
from tests.support.waiting import eventually


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as server:
        yield server


def on(server: RedisServer) -> Gateway:
    return Gateway(Settings(port=0, drain_timeout=0.2, engine_url=server.url))


async def ask(gateway: Gateway, method: str, path: str = "/v1/streams/demo", body: Any = None) -> httpx.Response:
    async with http_client(base_url=gateway.url.replace("ws://", "http://")) as client:
        return await client.request(method, path, json=body)


def refusal(answer: httpx.Response) -> str:
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["status"]) == (503, 503)
    assert int(answer.headers["Retry-After"]) > 0
    return str(problem["detail"])


async def write(gateway: Gateway) -> None:
    async with producer(gateway) as writing:
        await publish(writing, {"type": "message_start", "data": {"message_id": "m"}}, text_delta("x"), upto=2)


@needs_redis
async def test_a_change_that_a_server_does_not_answer_is_refused_and_may_still_happen(server: RedisServer) -> None:
    async with on(server) as gateway:
        await write(gateway)
        server.signal(signal.SIGSTOP)
        set_engine_timeout(gateway, 0.1)
        detail = refusal(await ask(gateway, "DELETE"))
        assert "may be later" in detail
        assert "engine_timeout" in detail
        server.signal(signal.SIGCONT)
        await eventually(lambda: gateway.hub.info("demo").closed)


@needs_redis
async def test_events_that_a_server_does_not_answer_are_refused_and_may_still_be_stored(server: RedisServer) -> None:
    async with on(server) as gateway:
        await write(gateway)
        server.signal(signal.SIGSTOP)
        set_engine_timeout(gateway, 0.1)
        detail = refusal(await ask(gateway, "POST", "/v1/streams/demo/events", text_delta("y")))
        assert "may be later" in detail
        assert "engine_timeout" in detail
        server.signal(signal.SIGCONT)
        await eventually(lambda: gateway.hub.info("demo").head == 3)


@needs_redis
@pytest.mark.parametrize("path", ["/v1/streams/demo/events", "/v1/responses/demo"])
async def test_what_a_server_that_is_gone_has_can_t_be_read(server: RedisServer, path: str) -> None:
    async with on(server) as gateway:
        await write(gateway)
    async with on(server) as gateway:  # whose memory has none of the events
        server.kill()
        set_engine_timeout(gateway, 0.1)
        assert "engine_timeout" in refusal(await ask(gateway, "GET", path))


@needs_redis
async def test_a_stream_that_is_not_here_can_t_be_looked_up_on_a_server_that_stands_still(server: RedisServer) -> None:
    async with on(server) as gateway:
        server.signal(signal.SIGSTOP)
        set_engine_timeout(gateway, 0.1)
        assert "nothing can be looked up now" in refusal(await ask(gateway, "GET"))
        server.signal(signal.SIGCONT)


async def test_a_change_that_a_locked_file_does_not_take_is_refused_and_may_still_happen(tmp_path: Path) -> None:
    settings = Settings(port=0, drain_timeout=0.2, data_dir=str(tmp_path))
    async with Gateway(settings) as gateway:
        with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            detail = refusal(await ask(gateway, "PUT"))
            assert "may be later" in detail
            assert "locked" in detail
        await eventually(lambda: gateway.hub.storage_failure is None)
    async with Gateway(settings) as gateway:
        assert (await ask(gateway, "GET")).status_code == 200


async def test_it_is_logged_once_that_nothing_can_be_stored_and_once_that_it_can_be_again(tmp_path: Path) -> None:
    def told() -> list[str]:
        return [it["event"] for it in entries if it["event"] in {"storage.failed", "storage.recovered"}]

    with capture_logs() as entries:
        async with Gateway(Settings(port=0, drain_timeout=0.2, data_dir=str(tmp_path))) as gateway:
            with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                refusal(await ask(gateway, "PUT"))
                await eventually(lambda: told() == ["storage.failed"])
            await eventually(lambda: told() == ["storage.failed", "storage.recovered"])
    assert "locked" in next(it["detail"] for it in entries if it["event"] == "storage.failed")


async def test_a_lost_producer_has_its_whole_lease_after_the_store_is_back(tmp_path: Path) -> None:
    async with Gateway(Settings(port=0, drain_timeout=0.2, data_dir=str(tmp_path))) as gateway:
        hub = gateway.hub
        later = hub.clock.now() + 1000
        with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
            await write(gateway)
            other.execute("BEGIN IMMEDIATE")
            refusal(await ask(gateway, "PUT", "/v1/streams/other"))
            hub.dispatcher.expire_leases(later)
        await eventually(lambda: hub.storage_failure is None)
        hub.dispatcher.expire_leases(later + hub.settings.lease - 1)
        assert hub.info("demo").head == 2
        hub.dispatcher.expire_leases(later + hub.settings.lease)
        await eventually(lambda: hub.info("demo").head == 4)
