"""nginx in front of a gateway, as many run it: streams, pages, reloads, addresses, and the mistakes of its default."""

from __future__ import annotations

import asyncio
import shutil
import socket
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from deltawire.gateway.client import Publisher, Refused, Subscriber
from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from deltawire.protocol.events import Event, TextDelta
from tests.support.asking import http_client
from tests.support.fakes import AT_ONCE
from tests.support.waiting import eventually

NGINX = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")

CONFIGURATION = """
daemon off; worker_processes 1; worker_shutdown_timeout 1ms; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 200; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
    server {{
        listen 127.0.0.1:{good};
        location / {{
            proxy_pass http://127.0.0.1:{gateway};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_buffering off;
            proxy_read_timeout 1h;
        }}
    }}
    server {{ listen 127.0.0.1:{bare}; location / {{ proxy_pass http://127.0.0.1:{gateway}; }} }}
    server {{
        listen 127.0.0.1:{old};
        location / {{
            proxy_pass http://127.0.0.1:{gateway};
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
        }}
    }}
}}
"""


class Front(NamedTuple):
    """A gateway with nginx in front of it: as it should be, as nginx is by itself, and in HTTP/1.0 with an upgrade."""

    gateway: Gateway
    pid: int
    good: int
    bare: int
    old: int

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.good}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as it:
        return int(it.getsockname()[1])


def answers(port: int) -> bool:
    with socket.socket() as it:
        return it.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Front]:
    assert NGINX is not None
    settings = Settings(port=0, drain_timeout=0, trusted_proxies="127.0.0.1", max_connections_per_address=4)
    async with Gateway(settings) as gateway:
        ports = {"good": free_port(), "bare": free_port(), "old": free_port()}
        file = tmp_path / "nginx.conf"
        file.write_text(CONFIGURATION.format(folder=tmp_path, gateway=gateway.port, **ports))
        process = await asyncio.create_subprocess_exec(
            NGINX, "-c", file, "-p", tmp_path, stdout=DEVNULL, stderr=DEVNULL
        )
        await eventually(lambda: answers(ports["good"]), "that nginx listens")
        yield Front(gateway, process.pid, **ports)
        process.terminate()
        await process.wait()


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
            for port in (front.gateway.port, front.good, front.bare)
        ]
    assert len(pages[0].content) > 128 * 1024
    assert pages[0].content == pages[1].content == pages[2].content


async def test_what_nginx_gets_wrong_by_itself_is_told(front: Front) -> None:
    for port, status in ((front.bare, 426), (front.old, 505)):
        with pytest.raises(Refused, match=str(status)):
            async with Subscriber(f"ws://127.0.0.1:{port}", "demo"):
                pass


async def test_limits_count_the_address_behind_nginx(front: Front) -> None:
    held = [await connect(front, "127.0.0.7") for _ in range(4)]
    assert [status for status, _ in held] == [101] * 4
    spoofed = await connect(front, "127.0.0.7", "X-Forwarded-For: 192.0.2.1\r\n")
    other = await connect(front, "127.0.0.8")
    assert (spoofed[0], other[0]) == (429, 101)
    for _, it in (*held, spoofed, other):
        it.close()


async def connect(front: Front, source: str, headers: str = "") -> tuple[int, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", front.good, local_addr=(source, 0))
    request = (
        f"GET /v1/streams/demo/subscribe HTTP/1.1\r\nHost: gateway\r\n{headers}Upgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ZGVsdGF3aXJlIGJlbmNoIQ==\r\n\r\n"
    )
    writer.write(request.encode())
    return int((await reader.readuntil(b"\r\n\r\n")).split()[1]), writer
