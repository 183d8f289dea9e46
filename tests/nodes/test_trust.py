"""What one node believes of another, and that nobody else is believed; a request is relayed once."""

from __future__ import annotations

import json
import time
from pathlib import Path

import httpx
import pytest

from deltawire.gateway.server import Gateway
from deltawire.gateway.server.accepting.routing import Remote
from deltawire.gateway.server.relaying.fields import FOLLOWS, RELAYED, read_relayed
from tests.nodes.together import http, is_owner, node_on, nodes_on
from tests.support.minting import bearer, everything, token, write_secret
from tests.support.on_redis import expect_all, write
from tests.support.peers import consumer
from tests.support.rawpeer import RawPeer
from tests.support.redis_server import RedisServer, needs_redis

KEY = "0123456789abcdef"


@pytest.mark.parametrize(
    ("value", "client"),
    [
        (f"{KEY} 10.0.0.9 123 0", Remote("10.0.0.9", 123, has_tls=True)),
        (f"{KEY} 2001:db8::1 1 1", Remote("2001:db8::1", 1, has_tls=True, has_certificate=True)),
        (f"{KEY} - 0 0", Remote("", 0, has_tls=True)),
        (f"{KEY[:-1]} 10.0.0.9 123 0", None),
        (f"{KEY}é 10.0.0.9 123 0", None),
        (f"{KEY} name 123 0", None),
        (f"{KEY} 10.0.0.9 x 0", None),
        (f"{KEY} 10.0.0.9 123", None),
        ("", None),
    ],
)
def test_a_node_is_believed_who_its_client_is_by_the_key_alone(value: str, client: Remote | None) -> None:
    assert read_relayed([value], KEY, Remote("127.0.0.1", 9, has_tls=True)) == client
    assert read_relayed([value], "", Remote("127.0.0.1", 9)) is None
    assert read_relayed([value, value], KEY, Remote("127.0.0.1", 9)) is None


def key_of(gateway: Gateway) -> str:
    return gateway.hub.node_key


@needs_redis
@pytest.mark.parametrize("kind", ["forged", "of another node", "twice", "empty"])
async def test_a_field_that_is_forged_is_refused_wherever_it_comes(server: RedisServer, kind: str) -> None:
    async with nodes_on(server) as (one, two):
        await write(one, 1, 2)
        for node, other in ((one, two), (two, one)):
            real = f"{key_of(node)} 10.0.0.9 1 1"
            value = {"forged": f"{'0' * 32} 10.0.0.9 1 1", "of another node": f"{key_of(other)} 10.0.0.9 1 1"}
            fields = [(RELAYED, value.get(kind, ""))] if kind != "twice" else [(RELAYED, real), (RELAYED, real)]
            async with http(node) as client:
                answer = await client.get("/v1/streams/demo", headers=httpx.Headers(fields))
            assert answer.status_code == 503
            assert "retry-after" in answer.headers
            assert "another gateway than it was meant for" in answer.json()["detail"]


@needs_redis
async def test_nobody_follows_a_stream_without_the_owner_s_key_or_a_token(server: RedisServer, tmp_path: Path) -> None:
    async with nodes_on(server, auth_key=write_secret(tmp_path)) as (one, two), http(one) as near:
        assert (await near.put("/v1/streams/demo", headers=bearer(everything()))).status_code == 201
        for key in ("", "0" * 32, key_of(two), f"{key_of(one)} x"):
            raw = await RawPeer.connect(one.port)
            assert b" 503 " in await raw.upgrade("/v1/streams/demo/subscribe", f"{FOLLOWS}: {key}\r\n")
            raw.close()
        raw = await RawPeer.connect(two.port)
        assert b" 401 " in await raw.upgrade("/v1/streams/demo/subscribe")
        raw.close()
        async with consumer(two, token=token(subscribe=["demo"])) as reading:
            await reading.read_until("caught_up")
            await reading.say({"type": "signal", "name": "cancel"})
            assert (await reading.read_until("problem"))[-1]["code"] == "not_permitted"
            assert len(one._connections) == 1
        raw = await RawPeer.connect(two.port)
        other = bearer(token(subscribe=["other"]))["Authorization"]
        assert b" 403 " in await raw.upgrade("/v1/streams/demo/subscribe", f"Authorization: {other}\r\n")
        raw.close()


@needs_redis
async def test_a_client_s_own_field_does_not_travel_with_its_request(server: RedisServer) -> None:
    async with nodes_on(server) as (one, two):
        await write(one, 1, 2)
        await expect_all(two, 2)
        raw = await RawPeer.connect(two.port)
        field = f"{RELAYED.lower()}: {key_of(one)} 10.9.9.9 1 1\r\n"
        assert b" 503 " in await raw.upgrade("/v1/streams/demo/subscribe", field)
        raw.close()


@needs_redis
async def test_what_was_relayed_is_not_relayed_again(server: RedisServer) -> None:
    async with nodes_on(server) as (one, two):
        await write(one, 1, 2)
        field = {RELAYED: f"{key_of(two)} 10.0.0.9 1 0"}
        async with http(two) as client:
            answer = await client.get("/v1/streams/demo", headers=field)
        assert (answer.status_code, "another gateway serves" in answer.text) == (503, True)
        raw = await RawPeer.connect(two.port)
        assert b" 101 " in await raw.upgrade("/v1/streams/demo/subscribe", f"{RELAYED}: {field[RELAYED]}\r\n")
        messages, code = await raw.read_ending()
        assert (messages[0]["code"], messages[0]["retryable"], code) == ("overloaded", True, 4003)
        assert not is_owner(two)


@needs_redis
async def test_an_address_that_leads_back_is_no_loop(server: RedisServer) -> None:
    async with node_on(server) as two, node_on(server, advertise_url=two.url) as one:
        await write(one, 1, 2)
        async with http(two) as client:
            answer = await client.get("/v1/streams/demo")
        assert answer.status_code == 503
        assert "another gateway than it was meant for" in answer.json()["detail"]
        assert "advertise_url" in answer.json()["detail"]
        await expect_all(one, 2)


@needs_redis
async def test_clients_are_counted_by_their_own_address_at_the_owner(server: RedisServer) -> None:
    async with (
        node_on(server, max_connections_per_address=2, connection_rate=0.001, connection_burst=4) as one,
        node_on(server, trusted_proxies="127.0.0.1") as two,
    ):
        await write(one, 1, 1)
        raws = []
        for source, status in (("7", 101), ("7", 101), ("7", 429), ("8", 101), ("8", 101), ("8", 429), ("9", 101)):
            raw = await RawPeer.connect(two.port)
            raws.append(raw)
            head = await raw.upgrade("/v1/streams/demo/publish", f"X-Forwarded-For: 10.0.0.{source}\r\n")
            assert int(head.split()[1]) == status, (source, head)
        hosts = sorted(it.remote.host for it in one._connections)
        assert hosts == ["10.0.0.7", "10.0.0.7", "10.0.0.8", "10.0.0.8", "10.0.0.9"]
        for raw in raws:
            raw.close()


@needs_redis
async def test_tokens_and_permissions_are_judged_at_every_node(server: RedisServer, tmp_path: Path) -> None:
    async with nodes_on(server, auth_key=write_secret(tmp_path)) as (one, two), http(one) as near, http(two) as far:
        assert (await near.put("/v1/streams/demo", headers=bearer(everything()))).status_code == 201
        reader = bearer(token(subscribe=["demo"]))
        for path, headers, status in (
            ("demo", {}, 401),
            ("demo", bearer("nonsense"), 401),
            ("demo", reader, 200),
            ("demo/events", reader, 200),
            ("demo/events", bearer(token(subscribe=["other"])), 403),
            ("other", bearer(everything()), 404),
        ):
            for client in (near, far):
                assert (await client.get(f"/v1/streams/{path}", headers=headers)).status_code == status, path
        line = json.dumps({"type": "text_delta", "data": {"text": "x"}})
        assert (await far.post("/v1/streams/demo/events", content=line, headers=reader)).status_code == 403
        assert (await far.delete("/v1/streams/demo", headers=reader)).status_code == 403
        async with consumer(two, token=token(subscribe=["demo"])) as reading:
            await reading.read_until("caught_up")


@needs_redis
async def test_a_token_is_renewed_over_a_relay_and_the_relay_does_not_end_it(
    server: RedisServer, tmp_path: Path
) -> None:
    passed = 0.0
    async with nodes_on(server, auth_key=write_secret(tmp_path), clock=lambda: time.time() + passed) as (one, two):
        async with http(one) as near:
            await near.put("/v1/streams/demo", headers=bearer(everything()))
        async with consumer(two, token=everything()) as renewed, consumer(two, token=everything()) as expiring:
            for reading in (renewed, expiring):
                await reading.read_until("caught_up")
            await renewed.say({"type": "token", "token": everything(lifetime=6000)})
            await renewed.read_until("token_accepted")
            passed = 1000.0
            await expiring.read_all()
            assert expiring.code == 4001
            await renewed.say({"type": "signal", "name": "cancel", "id": "s"})
            await renewed.read_until("signal_result")


@needs_redis
async def test_a_page_of_a_node_reads_what_another_one_owns(server: RedisServer) -> None:
    async with nodes_on(server) as (one, two), http(two) as client:
        await write(one, 1, 1)
        own, other = f"http://127.0.0.1:{two.port}", "http://evil.example"
        assert (await client.get("/v1/streams/demo", headers={"Origin": own})).status_code == 200
        assert (await client.get("/v1/streams/demo", headers={"Origin": other})).status_code == 403
