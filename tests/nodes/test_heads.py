"""What of a request travels to another node, and what of its answer is taken."""

from __future__ import annotations

import asyncio
import json

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request

from deltawire.gateway.server.relaying import nodes as nodes_module
from deltawire.gateway.server.relaying.fields import RELAYED, question
from tests.nodes.together import answering, http, node_on, nodes_on
from tests.support.on_redis import expect_all, write
from tests.support.peers import text_delta
from tests.support.rawpeer import RawPeer, raw_peer
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.waiting import eventually

pytestmark = needs_redis


def test_a_node_is_asked_for_its_part_with_nothing_of_the_client_but_its_credentials() -> None:
    fields = [("Authorization", "Bearer x"), ("sec-websocket-protocol", "deltawire.bearer.y")]
    others = ("If-None-Match", "Upgrade", "Connection", "Range", "Accept-Encoding", "Expect", "Content-Length", "Host")
    asked = question(Request("/v1/streams?limit=2", Headers([*fields, *((it, "1") for it in others)]), "HEAD"))
    assert (asked.method, asked.path, list(asked.headers.raw_items())) == ("GET", "/v1/streams?limit=2", fields)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n[" + b" " * 5000 + b"]", "says more than 4096 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[{", "can't be read"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "can't be read"),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", "refuses to list"),
    ],
)
async def test_an_answer_that_is_no_page_makes_the_list_a_503(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, answer: bytes, why: str
) -> None:
    monkeypatch.setattr(nodes_module, "MAX_PAGE", 4096)
    async with (
        answering(answer) as url,
        node_on(server, advertise_url=url),
        node_on(server) as two,
        http(two) as client,
    ):
        refused = await client.get("/v1/streams")
        assert (refused.status_code, why in refused.text) == (503, True), refused.text
        assert "retry-after" in refused.headers


PIPELINED = b"DELETE /v1/streams/demo HTTP/1.1\r\nHost: gateway\r\n" + RELAYED.encode() + b": - 10.9.9.9 1 1\r\n\r\n"
"""A request that must not be taken for one, wherever it stands."""


async def ask(port: int, request: bytes) -> bytes:
    """Everything that is answered to some bytes."""
    raw = await RawPeer.connect(port)
    await raw.send(request)
    answer = await raw.read_rest()
    raw.close()
    return answer


async def test_a_request_behind_a_relayed_one_is_ignored(server: RedisServer) -> None:
    async with nodes_on(server) as (one, two):
        await write(one, 1, 2)
        body = json.dumps(text_delta("3 ", producer_seq=3)).encode()
        head = b"POST /v1/streams/demo/events?producer=p HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\n"
        for request in (
            b"GET /v1/streams/demo HTTP/1.1\r\nHost: gateway\r\n\r\n",
            head + b"Content-Length: %d\r\n\r\n" % len(body) + body,
            head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n",
        ):
            for node in (one, two):
                answer = await ask(node.port, request + PIPELINED)
                assert (answer.startswith(b"HTTP/1.1 200 "), answer.count(b"HTTP/1.1 ")) == (True, 1), answer
        await expect_all(one, 3)
        assert not one.hub.info("demo").closed


async def test_a_request_that_follows_while_a_relayed_one_waits_is_ignored(server: RedisServer) -> None:
    async with nodes_on(server) as (one, two):
        await write(one, 1, 2)
        raw = await RawPeer.connect(two.port)
        await raw.send(b"GET /v1/streams/demo/events?after=2&wait=30 HTTP/1.1\r\nHost: gateway\r\n\r\n")
        await eventually(lambda: len(two._nodes.relays) == 1)
        await raw.send(PIPELINED)
        await eventually(lambda: two.hub.tally.relayed_bytes["owner"] >= len(PIPELINED))
        await write(one, 3, 3)
        answer = await raw.read_rest()
        assert (answer.startswith(b"HTTP/1.1 200 "), answer.count(b"HTTP/1.1 ")) == (True, 1), answer
        assert not one.hub.info("demo").closed
        raw.close()


async def test_frames_before_the_answer_to_a_handshake_end_a_relayed_connection_as_they_do_any(
    server: RedisServer,
) -> None:
    async with nodes_on(server) as (one, two):
        await write(one, 1, 2)
        for node in (one, two):
            raw = await RawPeer.connect(node.port)
            handshake = (
                b"GET /v1/streams/demo/publish HTTP/1.1\r\nHost: g\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            await raw.send(handshake + b"\x81\x80\0\0\0\0" + PIPELINED)
            answer = await raw.read_rest()
            assert b"ready" not in answer, answer
            raw.close()
        await asyncio.sleep(0)
        async with raw_peer(two.port, "/v1/streams/demo/subscribe") as reading:
            await reading.read_until("caught_up")
        await expect_all(one, 2)
