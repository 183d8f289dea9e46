"""IPv6: addresses in brackets everywhere, and zones of link-local addresses kept."""

from __future__ import annotations

import asyncio
import socket

import pytest
from structlog.testing import capture_logs

from deltawire.gateway.client import Publisher, Subscriber
from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from deltawire.gateway.server.accepting.listening import find_addresses
from deltawire.protocol.events import TextDelta


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


@needs_ipv6
async def test_a_stream_goes_over_ipv6() -> None:
    async with Gateway(Settings(host="::1", port=0, drain_timeout=0)) as gateway:
        assert gateway.url == f"ws://[::1]:{gateway.port}"
        async with Publisher(gateway.url, "demo") as target:
            await target.send(TextDelta("a"))
        async with Subscriber(gateway.url, "demo") as events:
            assert (await anext(events)).seq == 1


@needs_ipv6
async def test_the_log_names_peers_as_urls_do() -> None:
    gateway = Gateway(Settings(host="::1", port=0, drain_timeout=0))
    with capture_logs() as lines:
        async with gateway, Publisher(gateway.url, "demo") as target:
            await target.send(TextDelta("a"))
    remotes = [str(line["remote"]) for line in lines if line["event"] == "producer.connected"]
    assert len(remotes) == 1
    assert remotes[0].startswith("[::1]:")


@needs_ipv6
@pytest.mark.parametrize("host", ["::1", "0:0:0:0:0:0:0:1"])
async def test_one_address_has_one_form(host: str) -> None:
    assert await find_addresses(Settings(host=host)) == ["::1"]


async def test_a_link_local_address_keeps_its_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def found(*_: object, **__: object) -> list[object]:
        return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 0, 0, 1))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found)
    found_address = f"fe80::1%{socket.if_indextoname(1)}"
    assert await find_addresses(Settings(host="x", insecure_no_auth=True)) == [found_address]
