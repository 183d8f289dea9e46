"""HTTP on the gateway's port: every route, and what is refused before an upgrade (SPEC §2.3, §9)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from deltawire import protocol
from deltawire.gateway.server import Gateway
from deltawire.protocol.asyncapi import asyncapi
from deltawire.protocol.codes import CloseCode, ProblemCode
from deltawire.protocol.errors import StreamError
from deltawire.protocol.events import TextDelta
from tests.server.conftest import StartGateway
from tests.support.asking import http_client
from tests.support.peers import consumer, producer, publish, text_delta
from tests.support.rawpeer import HANDSHAKE, TEXT, RawPeer, frame
from tests.support.waiting import eventually


async def ask(gateway: Gateway, method: str, path: str) -> httpx.Response:
    """One plain request; the answer."""
    async with http_client(base_url=f"http://127.0.0.1:{gateway.port}") as client:
        return await client.request(method, path)


async def ask_raw(gateway: Gateway, request: bytes) -> tuple[int, dict[str, Any]]:
    """Bytes sent as a request; the status of the answer and its body, a problem document."""
    it = await RawPeer.connect(gateway.port)
    await it.send(request)
    head = await it.read_head()
    body = await it.read_rest()
    it.close()
    assert b"Content-Type: application/problem+json" in head, (head, body)
    return int(head.split(b" ")[1]), json.loads(body)


def assert_problem(response: httpx.Response, status: int) -> None:
    """The answer is a problem document of this status."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert (body["status"], body["title"]) == (status, response.reason_phrase)
    assert isinstance(body["detail"], str)


async def test_the_answer_for_a_stream_that_is_not_there_is_the_example_of_the_specification(gateway: Gateway) -> None:
    document = (Path(protocol.__file__).parent / "SPEC.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```json http\n(.*)\n```$", document, re.MULTILINE)
    assert (await ask(gateway, "GET", "/v1/streams/demo")).json() in [json.loads(it) for it in examples]


async def test_a_stream_is_created_described_listed_and_closed(gateway: Gateway) -> None:
    assert (await ask(gateway, "PUT", "/v1/streams/demo")).status_code == 201
    assert_problem(await ask(gateway, "PUT", "/v1/streams/demo"), 409)
    async with consumer(gateway) as reading, producer(gateway) as writing:
        await reading.read_until("caught_up")
        await publish(writing, text_delta("a"), upto=1)
        info = (await ask(gateway, "GET", "/v1/streams/demo")).json()
        assert info | {"consumers": 1, "producers": 1, "head": 1, "events": 1, "floor": 1, "closed": False} == info
        assert [it["id"] for it in (await ask(gateway, "GET", "/v1/streams")).json()] == ["demo"]
        closed = await ask(gateway, "DELETE", "/v1/streams/demo")
        assert (closed.status_code, closed.json()["closed"]) == (200, True)
        assert (await reading.read_all())[-1] == {"type": "stream_end", "seq": 1, "reason": "closed"}
    assert (await ask(gateway, "DELETE", "/v1/streams/demo")).status_code == 200
    assert (await ask(gateway, "GET", "/v1/streams/demo")).json()["closed"] is True


async def test_streams_come_in_pages_in_the_order_of_their_ids(gateway: Gateway) -> None:
    for name in ("c", "a", "e", "b:1", "d"):
        gateway.hub.create(name)
    listed = []
    after = ""
    while page := (await ask(gateway, "GET", f"/v1/streams?limit=2{after}")).json():
        assert len(page) <= 2
        listed += [info["id"] for info in page]
        gateway.hub.close(listed[-1])
        after = f"&after={listed[-1]}"
    assert listed == ["a", "b:1", "c", "d", "e"]
    assert [info["id"] for info in (await ask(gateway, "GET", "/v1/streams?after=bb")).json()] == ["c", "d", "e"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/streams?foo=1", 400),
        ("GET", "/v1/streams?limit=0", 400),
        ("GET", "/v1/streams?after=a%20b", 400),
        ("GET", "/v1/streams/demo?foo=1", 400),
        ("DELETE", "/v1/streams/demo?foo=1", 400),
        ("PUT", "/v1/streams/new?foo=1", 400),
        ("GET", "/v1/streams/demo/events?foo=1", 400),
        ("GET", "/livez?foo=1", 200),
        ("GET", "/readyz?foo=1", 200),
        ("GET", "/metrics?foo=1", 200),
        ("GET", "/v1/schema.json?foo=1", 200),
        ("GET", "/v1/asyncapi.json?foo=1", 200),
    ],
)
async def test_an_unknown_parameter_is_refused_where_streams_are(
    gateway: Gateway, method: str, path: str, status: int
) -> None:
    stream = gateway.hub.create("demo")
    response = await ask(gateway, method, path)
    assert response.status_code == status
    if status != 200:
        assert_problem(response, status)
    assert not stream.is_closed


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz", "/v1/streams", "/v1/schema.json"])
async def test_a_route_answers_json_and_hangs_up(gateway: Gateway, path: str) -> None:
    response = await ask(gateway, "GET", path)
    assert response.status_code == 200
    assert "json" in response.headers["content-type"]
    assert response.headers["connection"] == "close"
    assert response.json() is not None


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/console/", 404),
        ("POST", "/", 405),
        ("GET", "/v1/streams/", 404),
        ("GET", "/v1/streams/unknown", 404),
        ("DELETE", "/v1/streams/unknown", 404),
        ("GET", "/v1/streams/unknown/events", 404),
        ("GET", "/v1/streams/demo/other", 404),
        ("GET", "/v1/streams/demo/subscribe/more", 404),
        ("GET", "/v1/streams//subscribe", 404),
        ("GET", "//host/v1/streams", 404),
        ("GET", "//[", 404),
        ("GET", "*", 404),
        ("POST", "/v1/streams", 405),
        ("POST", "/v1/streams/demo", 405),
        ("PUT", "/v1/streams/demo/events", 405),
        ("PUT", "/v1/streams/demo/subscribe", 405),
        ("POST", "/v1/streams/demo/sse", 405),
        ("POST", "/v1/responses/demo", 405),
        ("POST", "/v1/responses/demo?stream=true", 405),
        ("GET", "/v1/responses/demo/cancel", 405),
        ("GET", "/v1/responses", 404),
        ("GET", "/v1/responses/", 404),
        ("GET", "/v1/responses/unknown", 404),
        ("GET", "/v1/responses/unknown?stream=true", 404),
        ("GET", "/v1/responses/demo?stream=true&starting_after=x", 400),
        ("GET", "/v1/responses/demo?stream=maybe", 400),
        ("POST", "/v1/responses/demo/cancel?x=1", 400),
        ("GET", "/v1/responses/a%20b", 400),
        ("GET", "/v1/streams/demo/v1", 404),
        ("POST", "/v1/streams/demo/ui-message-stream", 405),
        ("GET", "/v1/streams/a%20b/sse", 400),
        ("GET", "/v1/streams//sse", 404),
        ("DELETE", "/livez", 405),
        ("GET", "/v1/streams/demo/subscribe", 426),
        ("GET", "/v1/streams/demo/publish", 426),
        ("PUT", "/v1/streams/a%20b", 400),
        ("PUT", "/v1/streams/%ff", 400),
        ("PUT", "/v1/streams/" + "x" * 129, 400),
        ("PUT", "/v1/streams/..%2f", 400),
        ("GET", "/v1/streams/demo/events?after=x", 400),
        ("GET", "/v1/streams/demo/events?limit=0", 400),
        ("GET", "/v1/streams/demo/events?limit=10001", 400),
        ("GET", "/v1/streams/demo/events?colour=red", 400),
    ],
)
async def test_a_refusal_is_a_problem_document(gateway: Gateway, method: str, path: str, status: int) -> None:
    gateway.hub.create("demo")
    got, body = await ask_raw(gateway, f"{method} {path} HTTP/1.1\r\nHost: gateway\r\n\r\n".encode())
    assert (got, body["status"]) == (status, status)


async def test_a_405_names_the_methods_there_are(gateway: Gateway) -> None:
    response = await ask(gateway, "POST", "/v1/streams/demo")
    assert_problem(response, 405)
    assert response.headers["allow"] == "GET, HEAD, PUT, DELETE, OPTIONS"


UPGRADE = "Upgrade: websocket\r\nConnection: Upgrade\r\n"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param(UPGRADE, 400, id="no key"),
        pytest.param(UPGRADE + "Sec-WebSocket-Key: short\r\nSec-WebSocket-Version: 13\r\n", 400, id="a bad key"),
        pytest.param("Upgrade: websocket\r\n" + UPGRADE, 426, id="two upgrades"),
        pytest.param("Upgrade: websocket\r\n", 426, id="no connection header"),
        pytest.param("Upgrade: h2c\r\nConnection: Upgrade\r\n", 426, id="another upgrade"),
    ],
)
async def test_a_malformed_handshake_is_a_problem_document(gateway: Gateway, headers: str, status: int) -> None:
    request = f"GET /v1/streams/demo/subscribe HTTP/1.1\r\nHost: gateway\r\n{headers}\r\n".encode()
    got, body = await ask_raw(gateway, request)
    assert (got, body["status"]) == (status, status)


async def test_a_websocket_in_http_1_0_is_a_505_and_everything_else_is_answered(gateway: Gateway) -> None:
    headers = UPGRADE + "Sec-WebSocket-Key: ZGVsdGF3aXJlIGJlbmNoIQ==\r\nSec-WebSocket-Version: 13\r\n"
    got, body = await ask_raw(gateway, f"GET /v1/streams/demo/subscribe HTTP/1.0\r\nHost: x\r\n{headers}\r\n".encode())
    assert (got, body["status"]) == (505, 505)
    assert (await ask_raw(gateway, b"GET /nowhere HTTP/1.0\r\n\r\n"))[0] == 404


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(b"hello\r\n\r\n", 400, id="no request line"),
        pytest.param(b"hello\n", 400, id="a line without CR"),
        pytest.param(b"GET /livez HTTP/9.9\r\n\r\n", 400, id="another version"),
        pytest.param("GET /v1/streams/é HTTP/1.1\r\n\r\n".encode(), 400, id="a target outside of ASCII"),
        pytest.param(b"PUT /v1/streams/x HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", 400, id="a body"),
        pytest.param(b"PUT /v1/streams/x HTTP/1.1\r\nContent-Length: 2\r\n\r\n", 400, id="a body yet to come"),
        pytest.param(
            b"PUT /v1/streams/x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 400, id="chunks"
        ),
        pytest.param(b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\n\r\n", 414, id="a long target"),
        pytest.param(b"GET /livez HTTP/1.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", 431, id="a long header"),
        pytest.param(b"GET /livez HTTP/1.1\r\n" + b"X: y\r\n" * 1000 + b"\r\n", 431, id="many headers"),
    ],
)
async def test_a_request_that_cannot_be_parsed_is_a_problem_document(
    gateway: Gateway, request_: bytes, status: int
) -> None:
    got, body = await ask_raw(gateway, request_)
    assert (got, body["status"]) == (status, status)
    assert body["detail"]
    assert (await ask(gateway, "GET", "/v1/streams")).json() == []


async def test_a_body_is_refused_with_the_reason(gateway: Gateway) -> None:
    _, body = await ask_raw(gateway, b"PUT /v1/streams/x HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
    assert "body" in body["detail"]


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param(b"GET /readyz HTTP/1.1\r\n\r\n", id="another request"),
        pytest.param(b"\xff" * 100_000, id="a lot of bytes"),
        pytest.param(frame(TEXT, b"{}"), id="a frame"),
    ],
)
@pytest.mark.parametrize("is_later", [False, True], ids=["at once", "later"])
async def test_what_follows_a_plain_request_is_not_read(
    gateway: Gateway, rest: bytes, *, is_later: bool, caplog: pytest.LogCaptureFixture
) -> None:
    it = await RawPeer.connect(gateway.port)
    request = b"GET /livez HTTP/1.1\r\n\r\n"
    await it.send(request if is_later else request + rest)
    head = await it.read_head()
    if is_later:
        await it.send(rest)
    assert head.startswith(b"HTTP/1.1 200 ")
    assert await it.read_rest() == b'{"status":"ok"}\n'
    it.close()
    assert not caplog.records


async def test_a_request_may_come_byte_by_byte(gateway: Gateway) -> None:
    it = await RawPeer.connect(gateway.port)
    for byte in b"GET /livez HTTP/1.1\r\nHost: gateway\r\n\r\n":
        await it.send(bytes((byte,)))
    assert (await it.read_head()).startswith(b"HTTP/1.1 200 ")
    it.close()


async def test_unknown_subprotocols_alone_are_refused_before_the_upgrade(gateway: Gateway) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"{gateway.url}/v1/streams/demo/subscribe", subprotocols=[Subprotocol("mqtt")], proxy=None)
    response = refused.value.response
    assert response.status_code == 400
    assert response.headers["Content-Type"] == "application/problem+json"
    assert "deltawire.v1.json" in json.loads(response.body)["detail"]


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (None, None),
        (["deltawire.v1.json"], "deltawire.v1.json"),
        (["mqtt", "deltawire.v1.msgpack", "deltawire.v1.json"], "deltawire.v1.msgpack"),
        (["deltawire.v1.json", "deltawire.v1.msgpack"], "deltawire.v1.json"),
    ],
)
async def test_the_first_known_subprotocol_offered_is_chosen(
    gateway: Gateway, offered: list[str] | None, chosen: str | None
) -> None:
    offers = None if offered is None else [Subprotocol(name) for name in offered]
    async with connect(f"{gateway.url}/v1/streams/demo/subscribe", subprotocols=offers, proxy=None) as it:
        assert it.subprotocol == chosen
        assert isinstance(await it.recv(), bytes if chosen == "deltawire.v1.msgpack" else str)


async def test_compression_is_not_negotiated(gateway: Gateway) -> None:
    it = await RawPeer.connect(gateway.port)
    head = await it.upgrade("/v1/streams/demo/subscribe", "Sec-WebSocket-Extensions: permessage-deflate\r\n")
    it.close()
    assert b" 101 " in head
    assert b"Sec-WebSocket-Extensions" not in head


async def read_page(gateway: Gateway, query: str = "") -> list[dict[str, Any]]:
    response = await ask(gateway, "GET", f"/v1/streams/demo/events{query}")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


async def test_events_come_in_pages(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(retention_events=10)
    stream = gateway.hub.create("demo")
    assert await read_page(gateway) == []
    for number in range(15):
        stream.send_nowait(TextDelta(str(number)))
    assert [event["seq"] for event in await read_page(gateway)] == list(range(6, 16))
    assert [event["seq"] for event in await read_page(gateway, "?after=8&limit=3")] == [9, 10, 11]
    assert await read_page(gateway, "?after=15") == []
    assert await read_page(gateway, "?after=9007199254740991") == []


async def test_pages_of_large_events_followed_to_the_end_hold_everything(gateway: Gateway) -> None:
    stream = gateway.hub.create("demo")
    for _ in range(60):
        stream.send_nowait(TextDelta("é" * 30_000))
    seen: list[int] = []
    while page := await read_page(gateway, f"?after={seen[-1] if seen else 0}"):
        seen += [event["seq"] for event in page]
    assert seen == list(range(1, 61))


@pytest.mark.parametrize(
    ("path", "status"),
    [("/readyz", 503), ("/healthz", 503), ("/v1/streams/demo/subscribe", 503), ("/livez", 200)],
)
async def test_a_gateway_that_drains_says_503_to_new_work(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, path: str, status: int
) -> None:
    it = await RawPeer.connect(gateway.port)
    monkeypatch.setattr(gateway._admission, "is_draining", True)
    await it.send(HANDSHAKE.format(path=path, headers="").encode())
    head = await it.read_head()
    it.close()
    monkeypatch.undo()
    assert int(head.split(b" ")[1]) == status
    assert (b"application/problem+json" in head) is (status == 503)


async def test_a_gateway_whose_memory_is_used_up_is_not_ready_until_there_is_room(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(memory_limit=1024 * 1024)
    stream = gateway.hub.create("demo")
    async with producer(gateway):  # a stream in use is not evicted
        assert (await ask(gateway, "GET", "/readyz")).status_code == 200
        while gateway.hub.manager.bytes <= gateway.settings.memory_limit:
            stream.send_nowait(TextDelta("x" * 50_000))
        with pytest.raises(StreamError, match="memory_limit"):
            stream.send_nowait(TextDelta("x"))
        response = await ask(gateway, "GET", "/readyz")
        assert_problem(response, 503)
        assert "memory_limit" in response.json()["detail"]
        assert (await ask(gateway, "GET", "/livez")).status_code == 200
    await eventually(lambda: not gateway._connections)
    assert (await ask(gateway, "GET", "/readyz")).status_code == 200


async def test_a_stream_created_with_a_policy_gives_it_to_consumers_that_name_none(gateway: Gateway) -> None:
    assert (await ask(gateway, "PUT", "/v1/streams/demo?policy=drop_oldest&buffer=7")).status_code == 201
    async with consumer(gateway) as reading, consumer(gateway, "policy=block&buffer=9") as choosing:
        subscribed = await reading.read()
        assert (subscribed["policy"], subscribed["buffer"]) == ("drop_oldest", 7)
        subscribed = await choosing.read()
        assert (subscribed["policy"], subscribed["buffer"]) == ("block", 9)


@pytest.mark.hears(ProblemCode.FORBIDDEN, CloseCode.FORBIDDEN)
async def test_block_can_be_forbidden(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(allow_block=False)
    assert_problem(await ask(gateway, "PUT", "/v1/streams/demo?policy=block"), 403)
    async with consumer(gateway, "policy=block") as reading:
        messages = await reading.read_all()
        assert [message["code"] for message in messages] == ["forbidden"]
        assert "allow_block" in messages[0]["message"]
        assert reading.code == 4503
    async with consumer(gateway) as reading:
        assert (await reading.read())["policy"] == "coalesce"


@pytest.mark.parametrize("query", ["policy=fold", "buffer=0", "colour=red"])
async def test_a_bad_parameter_creates_nothing(gateway: Gateway, query: str) -> None:
    assert_problem(await ask(gateway, "PUT", f"/v1/streams/demo?{query}"), 400)
    assert_problem(await ask(gateway, "GET", "/v1/streams/demo"), 404)


async def test_the_asyncapi_document_is_served_as_it_is_made(gateway: Gateway) -> None:
    response = await ask(gateway, "GET", "/v1/asyncapi.json")
    assert response.json() == asyncapi()
    assert response.headers["content-type"] == "application/vnd.aai.asyncapi+json;version=3.0.0"
