"""What load balancers and monitors do to a port: nothing is logged, nothing stays counted."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from deltawire.gateway.server import Gateway
from tests.server.scraping import Scraper, series
from tests.support.rawpeer import RawPeer
from tests.support.tlspeer import make_hello
from tests.support.waiting import eventually

HELLO = b"\x16\x03\x01\x02\x00\x01\x00"
PROBES = {
    b"GET /livez HTTP/1.0\r\n\r\n": 200,
    b"HEAD /readyz HTTP/1.1\r\nHost: x\r\n\r\n": 200,
    b"HEAD /livez HTTP/1.0\r\n\r\n": 200,
    b"OPTIONS / HTTP/1.0\r\n\r\n": 204,
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n": 204,
    b"HEAD / HTTP/1.0\r\n\r\n": 200,
    b"GET /\r\n\r\n": 400,
    b"\r\n\r\n": 400,
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET /livez HTTP/1.1\r\n\r\n": 400,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": 400,
    HELLO: 400,
}


@pytest.fixture
def silence(logs: list[dict[str, Any]], caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Neither the gateway nor a library has a word for the log."""
    caplog.set_level(logging.INFO)
    yield
    assert [it for it in logs if it["event"] != "loop.blocked"] == []  # a busy machine blocks it
    assert [record for record in caplog.records if not record.name.startswith("httpx")] == []


async def wait_gone(gateway: Gateway) -> None:
    await eventually(lambda: gateway._limits.is_unused and not len(gateway._handshakes), "that nothing of it is left")


@pytest.mark.usefixtures("silence")
@pytest.mark.parametrize("is_reset", [False, True], ids=["closes", "resets"])
@pytest.mark.parametrize("said", [b"", b"G", b"GET /livez HTTP/1.1\r\n"])
async def test_a_socket_that_is_opened_and_closed_leaves_nothing(
    gateway: Gateway, said: bytes, *, is_reset: bool
) -> None:
    for _ in range(20):
        it = await RawPeer.connect(gateway.port)
        await it.send(said)
        if is_reset:
            it.reset()
        else:
            it.close()
    await wait_gone(gateway)
    counted = await series(gateway)
    assert {name for (name, _), value in counted.items() if value} & {
        "deltawire_connections_opened_total",
        "deltawire_handshakes_refused_total",
        "deltawire_faults_total",
    } == set()


@pytest.mark.usefixtures("silence")
@pytest.mark.parametrize("request_", PROBES)
async def test_a_probe_is_answered_at_once_and_counted_once(gateway: Gateway, request_: bytes) -> None:
    scraper = Scraper(gateway)
    await scraper.look()
    it = await RawPeer.connect(gateway.port)
    await it.send(request_)
    status = PROBES[request_]
    assert (await it.read_head()).startswith(b"HTTP/1.1 %d " % status)
    await it.read_rest()
    it.close()
    await wait_gone(gateway)
    refused = int(status == 400)  # what could be read was plain HTTP, and no handshake
    assert await scraper.moved("deltawire_handshakes_refused_total", status=str(status)) == refused


@pytest.mark.usefixtures("silence")
@pytest.mark.parametrize("size", [1, 100, 1000])
async def test_a_client_of_tls_is_told_at_once_that_there_is_none(gateway: Gateway, size: int) -> None:
    hello = make_hello(ssl.create_default_context())
    it = await RawPeer.connect(gateway.port)
    for at in range(0, len(hello), size):
        await it.send(hello[at : at + size])
    assert (await it.read_head()).startswith(b"HTTP/1.1 400 ")
    await it.read_rest()
    it.close()
    await wait_gone(gateway)
