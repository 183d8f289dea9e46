"""nginx in front of a gateway, as many run it: streams, pages, reloads, addresses, and the mistakes of its default."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from deltawire.gateway.client import Publisher, Refused, Subscriber
from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from deltawire.protocol.events import Event, TextDelta
from tests.support.asking import http_client
from tests.support.certificates import make_certificates
from tests.support.fakes import AT_ONCE
from tests.support.peers import consumer
from tests.support.ports import free_port
from tests.support.proxies import NGINX, RECIPES, Running, needs_nginx, proxy
from tests.support.redis_server import needs_redis, redis_server
from tests.support.waiting import eventually

pytestmark = needs_nginx

MISTAKES = """
    server {{ listen 127.0.0.1:{bare}; location / {{ proxy_pass http://127.0.0.1:{gateway}; }} }}
    server {{
        listen 127.0.0.1:{old};
        location / {{
            proxy_pass http://127.0.0.1:{gateway};
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
        }}
    }}
"""


class Front(NamedTuple):
    """A gateway with nginx in front of it: as it is shipped, as nginx is by itself, and in HTTP/1.0 with an upgrade."""

    gateway: Gateway
    nginx: Running
    bare: int
    old: int

    @property
    def url(self) -> str:
        return self.nginx.url


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Front]:
    settings = Settings(port=0, drain_timeout=0, trusted_proxies="127.0.0.1")
    async with Gateway(settings) as gateway:
        bare, old = free_port(), free_port()
        servers = MISTAKES.format(gateway=gateway.port, bare=bare, old=old)
        soon = [("worker_shutdown_timeout 60s", "worker_shutdown_timeout 1ms")]
        async with proxy("nginx", tmp_path, [gateway.port] * 2, more=servers, changes=soon) as running:
            yield Front(gateway, running, bare, old)


def has(losses: list[str], count: int) -> bool:
    return len(losses) >= count


async def test_reloads_in_the_middle_of_an_answer_cost_nobody_an_event(front: Front, tmp_path: Path) -> None:
    losses: list[str] = []

    async def follow() -> list[str]:
        async with Subscriber(front.url, "demo", backoff=AT_ONCE, on_reconnect=lambda why, _: losses.append(why)) as it:
            return [item.data.text async for item in it if isinstance(item, Event) and isinstance(item.data, TextDelta)]

    async with asyncio.TaskGroup() as tasks:
        readers = [tasks.create_task(follow()) for _ in range(2)]
        async with Publisher(front.url, "demo", backoff=AT_ONCE) as target:
            for number in range(300):
                await target.send(TextDelta(f"{number},"))
                if number in (100, 200):
                    await target.flush()
                    seen = len(losses)
                    assert NGINX is not None
                    reload = await asyncio.create_subprocess_exec(
                        NGINX, "-c", tmp_path / "nginx.conf", "-p", tmp_path, "-s", "reload", stderr=DEVNULL
                    )
                    assert await reload.wait() == 0
                    await eventually(partial(has, losses, seen + 2), "that both lost their connection")
            await target.close_stream()
            assert target.lost == 0
    answer = "".join(f"{number}," for number in range(300))
    assert ["".join(reader.result()) for reader in readers] == [answer] * 2


async def test_a_long_page_is_the_same_through_http_1_0(front: Front) -> None:
    async with Publisher(front.gateway.url, "demo") as target:
        for number in range(500):
            await target.send(TextDelta(f"{number}" * 100))
    async with http_client() as client:
        pages = [
            await client.get(f"http://127.0.0.1:{port}/v1/streams/demo/events")
            for port in (front.gateway.port, front.nginx.port, front.bare)
        ]
    assert len(pages[0].content) > 128 * 1024
    assert pages[0].content == pages[1].content == pages[2].content


async def test_what_nginx_gets_wrong_by_itself_is_told(front: Front) -> None:
    for port, status in ((front.bare, 426), (front.old, 505)):
        with pytest.raises(Refused, match=str(status)):
            async with Subscriber(f"ws://127.0.0.1:{port}", "demo"):
                pass


def test_silence_ends_no_connection() -> None:
    for name in ("proxy_read_timeout", "proxy_send_timeout"):
        assert f"{name} 1h;" in RECIPES["nginx"].text, "the default is 60 s"


async def test_a_token_in_a_query_is_not_logged(front: Front) -> None:
    async with http_client(base_url=f"http://127.0.0.1:{front.nginx.port}") as client:
        assert (await client.get("/v1/streams?access_token=s3cret")).status_code == 200
    log = front.nginx.folder / "access.log"
    await eventually(lambda: "/v1/streams" in log.read_text(), "that it is logged")
    assert '"GET /v1/streams" 200' in log.read_text()
    assert "s3cret" not in log.read_text()


async def test_an_optional_line_turns_tls_on(front: Front, tmp_path: Path) -> None:
    files, port = make_certificates(tmp_path / "tls"), free_port()
    lines = ["listen 8443 ssl", "ssl_certificate ", "ssl_certificate_key "]
    changes = [(f"#{line}", line) for line in lines] + [
        ("8443", f"127.0.0.1:{port}"),
        ("/etc/nginx/tls/tls.crt", files.cert),
        ("/etc/nginx/tls/tls.key", files.key),
    ]
    (tmp_path / "other").mkdir()
    async with proxy("nginx", tmp_path / "other", [front.gateway.port] * 2, changes=changes):
        target = Publisher(f"wss://127.0.0.1:{port}", "demo", tls=files.context())
        async with target:
            await target.send(TextDelta("one"))


@needs_redis
async def test_two_nodes_divide_streams_and_one_takes_over_from_the_other(tmp_path: Path) -> None:
    names = [f"chat-{number}" for number in range(8)]

    async def follow(url: str, stream: str) -> list[str]:
        async with Subscriber(url, stream, backoff=AT_ONCE) as it:
            return [item.data.text async for item in it if isinstance(item, Event) and isinstance(item.data, TextDelta)]

    async with AsyncExitStack() as stack:
        server = stack.enter_context(redis_server(tmp_path / "redis"))
        settings = Settings(port=0, engine_url=server.url, drain_timeout=0.3)
        stays = await stack.enter_async_context(Gateway(settings))
        leaves = await stack.enter_async_context(AsyncExitStack())
        leaving = await leaves.enter_async_context(Gateway(settings))
        front = await stack.enter_async_context(proxy("nginx", tmp_path, [stays.port, leaving.port]))
        publishers = [await stack.enter_async_context(Publisher(front.url, name, backoff=AT_ONCE)) for name in names]
        readers = [asyncio.create_task(follow(front.url, name)) for name in names]
        for it in publishers:
            await it.send(TextDelta("one "))
            await it.flush()
        assert 0 < stays.hub.count() < len(names), "each has some of the streams"
        await leaves.aclose()
        for it in publishers:
            await it.send(TextDelta("two "))
            await it.close_stream()
        assert ["".join(texts) for texts in await asyncio.gather(*readers)] == ["one two "] * len(names)
        assert [it.lost for it in publishers] == [0] * len(names)


async def test_a_node_that_was_away_is_used_again_as_soon_as_it_is_back(tmp_path: Path) -> None:
    away = free_port()
    async with AsyncExitStack() as stack:
        stays = await stack.enter_async_context(Gateway(Settings(port=0, drain_timeout=0)))
        front = await stack.enter_async_context(proxy("nginx", tmp_path, [stays.port, away]))

        async def connect(count: int) -> None:
            for number in range(count):  # which all stay open
                await stack.enter_async_context(consumer(front, stream=f"chat-{number}"))

        await connect(32)
        assert stays.hub.count() == 32, "the other one refused its part"
        back = await stack.enter_async_context(Gateway(Settings(port=away, drain_timeout=0)))
        await connect(32)
        assert back.hub.count() > 1
