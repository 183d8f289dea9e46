"""Signals over plain HTTP: `POST /v1/streams/{id}/signal` (SPEC §9.7)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from deltawire.gateway.server import Gateway
from tests.server.conftest import StartGateway
from tests.support.asking import http_client
from tests.support.minting import bearer, token, write_secret
from tests.support.peers import producer
from tests.support.rawpeer import RawPeer
from tests.support.waiting import eventually

CANCEL = {"type": "signal", "name": "cancel"}


async def signal(
    gateway: Gateway, body: Any = CANCEL, path: str = "demo/signal", kind: str = "application/json", **headers: str
) -> httpx.Response:
    """Send a body: a value as JSON, bytes as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with http_client(base_url=f"http://127.0.0.1:{gateway.port}") as client:
        return await client.post(f"/v1/streams/{path}", content=content, headers={"Content-Type": kind} | headers)


async def begun(gateway: Gateway, already: bytes = b"") -> RawPeer:
    """A request whose body of 100 bytes has not come to its end."""
    before = len(gateway._connections)
    it = await RawPeer.connect(gateway.port)
    head = "POST /v1/streams/demo/signal HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    await it.send(head.encode() + already)
    await eventually(lambda: len(gateway._connections) > before, "the request")
    return it


async def test_a_signal_reaches_every_producer_as_it_is_and_the_answer_counts_them(gateway: Gateway) -> None:
    message = CANCEL | {"id": "s1", "data": {"message_id": "m1"}}
    async with producer(gateway) as one, producer(gateway) as other:
        response = await signal(gateway, message)
        assert (response.status_code, response.json()) == (
            200,
            {"type": "signal_result", "delivered": 2, "id": "s1"},
        )
        for writing in (one, other):
            assert (await writing.read_until("signal"))[-1] == message


async def test_messagepack_is_taken_too(gateway: Gateway) -> None:
    async with producer(gateway) as writing:
        response = await signal(gateway, msgspec.msgpack.encode(CANCEL), kind="application/msgpack")
        assert response.json() == {"type": "signal_result", "delivered": 1}
        assert (await writing.read_until("signal"))[-1] == CANCEL


async def test_what_nobody_gets_is_409_and_says_so(gateway: Gateway) -> None:
    gateway.hub.create("demo")
    response = await signal(gateway)
    assert (response.status_code, response.json()["delivered"]) == (409, 0)
    assert response.headers["content-type"] == "application/problem+json"
    assert "no producer" in response.json()["detail"]


async def test_a_stream_that_does_not_exist_is_404_and_is_not_created(gateway: Gateway) -> None:
    response = await signal(gateway)
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert gateway.hub.count() == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"\xff",
        [],
        [CANCEL],
        {"type": "signal"},
        {"type": "signal", "name": ""},
        CANCEL | {"reason": "late"},
        CANCEL | {"data": json.loads("[" * 65 + "]" * 65)},
        {"type": "ping"},
        {"type": "token", "token": "t"},
        {"type": "text_delta", "data": {"text": "Hi"}},
    ],
)
async def test_what_is_no_signal_is_400_and_reaches_nobody(gateway: Gateway, body: Any) -> None:
    async with producer(gateway) as writing:
        response = await signal(gateway, body)
        told = response.json()
        assert (response.status_code, told["code"]) == (400, "unknown_message")
        assert told["detail"]
        assert "seq" not in told
        assert (await signal(gateway, CANCEL | {"id": "last"})).status_code == 200
        assert (await writing.read_until("signal"))[-1]["id"] == "last"


@pytest.mark.parametrize(
    ("path", "kind", "status"),
    [
        ("demo/signal?name=cancel", "application/json", 400),
        ("a%20b/signal", "application/json", 400),
        ("demo/signal", "application/x-ndjson", 415),
        ("demo/signal", "application/x-www-form-urlencoded", 415),
    ],
)
async def test_a_request_that_can_not_be_read_is_refused(gateway: Gateway, path: str, kind: str, status: int) -> None:
    gateway.hub.create("demo")
    response = await signal(gateway, path=path, kind=kind)
    assert (response.status_code, response.json()["status"]) == (status, status)


async def test_one_that_is_too_long_is_413(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(max_message=1000)
    gateway.hub.create("demo")
    response = await signal(gateway, CANCEL | {"data": "x" * 1000})
    assert response.status_code == 413
    assert "max_message (1000 bytes)" in response.json()["detail"]


async def test_it_needs_to_signal_and_to_subscribe(start_gateway: StartGateway, tmp_path: Path) -> None:
    gateway = await start_gateway(auth_key=write_secret(tmp_path))
    async with producer(gateway, token=token(publish=["demo"])) as writing:
        for lacking in (token(signal=["demo"]), token(subscribe=["demo"], publish=["*"], admin=["*"])):
            response = await signal(gateway, **bearer(lacking))
            assert response.status_code == 403
            assert "it needs `" in response.json()["detail"]
        assert (await signal(gateway)).status_code == 401
        assert (await signal(gateway, **bearer(token(signal=["demo"], subscribe=["demo"])))).status_code == 200
        await writing.read_until("signal")


async def test_more_signals_to_a_stream_than_the_rate_are_429_and_other_streams_are_spared(
    start_gateway: StartGateway,
) -> None:
    gateway = await start_gateway(signal_rate=0.01)  # one at once, and no other for 100 s
    gateway.hub.create("demo")
    gateway.hub.create("other")
    assert (await signal(gateway)).status_code == 409
    response = await signal(gateway)
    assert (response.status_code, response.json()["code"]) == (429, "rate_limited")
    assert "signal_rate" in response.json()["detail"]
    assert int(response.headers["retry-after"]) > 0
    assert (await signal(gateway, path="other/signal")).status_code == 409


async def test_it_counts_as_no_reader_and_leaves_nothing(gateway: Gateway) -> None:
    async with producer(gateway):
        it = await begun(gateway, b'{"type"')
        assert gateway.hub.info("demo").consumers == 0
        it.reset()
        await eventually(lambda: len(gateway._connections) == 1)
    await eventually(lambda: gateway.connections == 0)
    assert gateway.hub.manager.elsewhere == 0


async def test_a_body_that_does_not_go_on_is_408(gateway: Gateway) -> None:
    gateway.hub.create("demo")
    it = await begun(gateway, b'{"type"')
    [connection] = gateway._connections
    connection.keep_alive(connection.last_heard + 40, 20, 20)
    assert b" 408 " in await it.read_head()
    it.close()


async def test_a_gateway_that_shuts_down_says_so(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(drain_timeout=5)
    gateway.hub.create("demo")
    it = await begun(gateway)
    async with asyncio.TaskGroup() as group:
        group.create_task(gateway.drain())
        assert b" 503 " in await it.read_head()
        it.close()


async def test_the_producer_that_stops_is_seen_by_a_reader_over_http(gateway: Gateway) -> None:
    async with (
        producer(gateway) as writing,
        http_client(base_url=f"http://127.0.0.1:{gateway.port}") as client,
        client.stream("GET", "/v1/streams/demo/sse") as reading,
    ):
        assert (await signal(gateway)).json()["delivered"] == 1
        await writing.read_until("signal")
        await writing.say({"type": "close_stream"})
        text = "".join([piece async for piece in reading.aiter_text()])
    assert "event: stream_end" in text


async def test_signals_leave_no_line_each_in_the_log(gateway: Gateway, logs: Any) -> None:
    gateway.hub.create("demo")
    await signal(gateway)
    await eventually(lambda: gateway.connections == 0)
    assert [entry["event"] for entry in logs if entry["log_level"] != "debug"] == []
