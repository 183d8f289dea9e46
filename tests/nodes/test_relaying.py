"""Any node takes any producer and consumer: what another node owns is relayed there, with everything a stream has."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from deltawire.gateway.server import Gateway
from tests.nodes.together import http, is_owner, node_on, nodes_on
from tests.support.asking import http_client
from tests.support.certificates import make_certificates
from tests.support.on_redis import expect_all, write
from tests.support.peers import Message, consumer, peer, producer, publish, ranges_of, text_delta, text_of
from tests.support.rawpeer import RawPeer, raw_peer
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.waiting import eventually, turn

pytestmark = needs_redis

JSON_LINES = {"Content-Type": "application/x-ndjson"}
WORD = "x" * 20_000
MANY = 150
"""Events of that length are more than all buffers on the way hold."""


async def test_a_stream_is_written_and_read_through_any_node(server: RedisServer) -> None:
    async with nodes_on(server, 3) as (one, two, three):
        await write(one, 1, 5)
        await write(two, 6, 10)
        await write(three, 11, 15)
        for node in (one, two, three):
            await expect_all(node, 15)
        assert [is_owner(node) for node in (one, two, three)] == [True, False, False]


async def test_live_events_of_both_encodings_come_through(server: RedisServer) -> None:
    async with (
        nodes_on(server) as (one, two),
        producer(one) as writing,
        consumer(two) as in_json,
        peer(two, "demo/subscribe", "deltawire.v1.msgpack") as in_msgpack,
    ):
        for reading in (in_json, in_msgpack):
            await reading.read_until("caught_up")
        await publish(writing, *(text_delta(f"{number} ") for number in range(100)), upto=100)
        await writing.say({"type": "close_stream"})
        for reading in (in_json, in_msgpack):
            messages = await reading.read_all()
            assert text_of(messages) == "".join(f"{number} " for number in range(100))
            assert (messages[-1]["type"], reading.code) == ("stream_end", 1000)


async def test_a_reader_that_comes_first_makes_its_node_the_owner(server: RedisServer) -> None:
    async with nodes_on(server) as (one, two), consumer(two) as reading:
        await reading.read_until("caught_up")
        async with producer(one) as writing:
            await publish(writing, text_delta("x"), upto=1)
        assert (await reading.read_until("text_delta"))[-1]["seq"] == 1
        assert [is_owner(one), is_owner(two)] == [False, True]


async def test_requests_are_answered_by_any_node_as_by_the_owner(server: RedisServer) -> None:
    async with nodes_on(server) as (one, two), http(one) as near, http(two) as far:
        assert (await near.put("/v1/streams/demo")).status_code == 201
        line = json.dumps(text_delta("hello"))
        posted = await far.post("/v1/streams/demo/events", content=line, headers={"Content-Type": "application/json"})
        assert (posted.status_code, posted.json()["seq"]) == (200, 1)
        for tail in ("", "/events", "/nothing", "/publish", "/subscribe"):
            answers = [await client.get(f"/v1/streams/demo{tail}") for client in (near, far)]
            assert answers[0].status_code == answers[1].status_code
            if tail:
                assert answers[0].content == answers[1].content
        assert (await far.put("/v1/streams/demo")).status_code == 409
        assert (await far.post("/v1/streams/demo/signal", json={"type": "signal", "name": "cancel"})).status_code == 409
        assert (await far.head("/v1/streams/demo/events")).status_code == 200
        assert (await far.delete("/v1/streams/demo")).json()["closed"] is True
        for tail in ("sse", "ui-message-stream"):
            texts = [(await client.get(f"/v1/streams/demo/{tail}")).text for client in (near, far)]
            assert texts[0].splitlines()[1:] == texts[1].splitlines()[1:], "the first is a random wait"
            assert "hello" in texts[1]


async def test_a_long_body_and_a_long_page_come_through_whole(server: RedisServer) -> None:
    async with nodes_on(server) as (one, two), http(one) as near, http(two) as far:
        await near.put("/v1/streams/demo")
        lines = "\n".join(json.dumps(text_delta(WORD)) for _ in range(50))
        posted = await far.post("/v1/streams/demo/events", content=lines, headers=JSON_LINES)
        assert posted.json()["seq"] == 50
        page = await far.get("/v1/streams/demo/events")
        assert len(page.text.splitlines()) == 50


async def test_a_signal_is_confirmed_by_the_producer_s_node(server: RedisServer) -> None:
    async with (
        nodes_on(server, 3) as (one, two, three),
        consumer(one),
        producer(two) as writing,
        consumer(three) as reading,
    ):
        await reading.read_until("caught_up")
        await reading.say({"type": "signal", "name": "cancel", "id": "s1", "data": {"why": "enough"}})
        signal = (await writing.read_until("signal"))[-1]
        assert (signal["name"], signal["data"]) == ("cancel", {"why": "enough"})
        result = (await reading.read_until("signal_result"))[-1]
        assert (result["id"], result["delivered"]) == ("s1", 1)


async def test_the_audience_is_that_of_all_nodes(server: RedisServer) -> None:
    async with nodes_on(server, 3) as (one, two, three), producer(two) as writing:
        async with consumer(one), consumer(two), consumer(three):
            await writing.read_until("audience", consumers=3)
        await writing.read_until("audience", consumers=0)


async def test_dedupe_and_generations_hold_over_nodes(server: RedisServer) -> None:
    async with nodes_on(server) as (one, two), peer(one, "demo/publish?producer=p&generation=1") as older:
        await older.read()
        await publish(older, text_delta("a", producer_seq=1), text_delta("b", producer_seq=2), upto=2)
        async with peer(two, "demo/publish?producer=p&generation=1") as again:
            assert (await again.read())["producer_seq"] == 2
            await again.say(text_delta("b", producer_seq=2))
            assert (await again.read_until("ack"))[-1] | {"producer_seq": 2, "seq": 2} == {
                "type": "ack",
                "producer_seq": 2,
                "seq": 2,
            }
        async with peer(two, "demo/publish?producer=p&generation=2") as newer:
            assert (await newer.read())["producer_seq"] == 0
            await older.read_all()
            assert older.code == 4500
            async with peer(one, "demo/publish?producer=p&generation=1") as late:
                await late.read_all()
                assert late.code == 4500
        async with consumer(two, "policy=disconnect") as reading:
            assert [it["seq"] for it in (await reading.read_until("caught_up"))[1:-1]] == [1, 2]


async def stall(two: Gateway, policy: str) -> RawPeer:
    reading = await RawPeer.connect(two.port, receive_buffer=4096)
    await reading.upgrade(f"/v1/streams/demo/subscribe?policy={policy}&buffer=10")
    await reading.read_until("caught_up")
    return reading


def is_contiguous(messages: list[Message]) -> bool:
    ranges = ranges_of(messages)
    return ranges[0][1] == 1 and all(after[1] == before[2] + 1 for before, after in pairwise(ranges))


@pytest.mark.parametrize("policy", ["coalesce", "drop_newest", "drop_oldest", "disconnect"])
async def test_a_policy_acts_on_a_slow_reader_of_another_node(server: RedisServer, policy: str) -> None:
    async with nodes_on(server) as (one, two), producer(one) as writing:
        slow = await stall(two, policy)
        for upto in range(1, MANY + 1):
            await publish(writing, text_delta(WORD), upto=upto)
        assert two.hub.manager.elsewhere < 600_000, "it holds no more than its buffers do"
        await writing.say({"type": "close_stream"})
        messages, code = await slow.read_ending()
        if policy == "disconnect":
            assert (messages[-1]["type"], messages[-1]["code"], code) == ("problem", "slow_consumer", 4000)
            return
        assert (messages[-1]["type"], code) == ("stream_end", 1000)
        events = [it for it in messages if it["type"] in ("text_delta", "gap")]
        assert is_contiguous(events)
        assert ranges_of(events)[-1][2] == MANY
        if policy == "coalesce":
            assert text_of(events) == WORD * MANY
        else:
            assert [it["reason"] for it in events if it["type"] == "gap"] == ["dropped"]


async def test_block_makes_producers_on_any_node_wait_for_a_reader_on_another(server: RedisServer) -> None:
    async with nodes_on(server, 3) as (_, two, three), producer(three) as writing:
        slow = await stall(two, "block")
        await writing.say(*(text_delta(WORD) for _ in range(MANY)))
        stream = three.hub.manager.get("demo")
        await eventually(lambda: stream.head > 15)
        head = -1
        while head != stream.head:  # all nodes are on this loop, so that what was on its way comes in a few turns
            head = stream.head
            await eventually(lambda: stream.is_settled and three.hub.dispatcher.channel(stream)._waiting)
            await turn(200)
        assert head < MANY
        messages = await slow.read_until("text_delta", seq=MANY)
        assert text_of(messages) == WORD * MANY
        await writing.read_until("ack", seq=MANY)
        slow.close()


async def metrics(node: Gateway) -> dict[str, float]:
    async with http(node) as client:
        text = (await client.get("/metrics")).text
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in text.splitlines() if line[0] != "#")
    }


async def test_bytes_and_connections_that_are_relayed_are_counted(server: RedisServer) -> None:
    async with nodes_on(server) as (one, two), producer(one) as writing, consumer(two, "policy=block") as reading:
        await publish(writing, text_delta(WORD), upto=1)
        await reading.read_until("text_delta")
        await reading.say({"type": "signal", "name": "cancel", "id": "s"})
        await reading.read_until("signal_result")
        found, owner = [await metrics(node) for node in (two, one)]
        assert found['deltawire_connections{role="relay"}'] == 1
        assert found['deltawire_connections_opened_total{role="relay"}'] == 1
        assert found['deltawire_relayed_bytes_total{to="client"}'] > len(WORD)
        assert found['deltawire_relayed_bytes_total{to="owner"}'] > 0
        assert found['deltawire_connections{role="consumer"}'] == 0
        assert owner['deltawire_connections{role="consumer"}'] == 1
    await eventually(lambda: two.hub.manager.elsewhere == 0, "that nothing is counted for who has gone")
    assert len(two._nodes.relays) == 0


async def test_nodes_relay_over_tls_to_whom_the_system_trusts(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = make_certificates(tmp_path / "certificates")
    tls: dict[str, Any] = {**files.settings}
    async with (
        node_on(server, **tls, tls_client_ca=files.ca) as one,
        node_on(server) as two,
        http_client(base_url=one.url.replace("wss", "https"), verify=files.context(with_certificate=True)) as near,
        http(two) as far,
    ):
        assert (await near.put("/v1/streams/demo")).status_code == 201
        assert (await far.get("/v1/streams/demo")).status_code == 503, "its authority is not trusted"
        monkeypatch.setenv("SSL_CERT_FILE", files.ca)
        two._nodes._reach.__dict__.pop("_tls", None)
        assert (await far.get("/v1/streams/demo")).status_code == 403, "the client has shown no certificate"


async def test_a_stream_over_tls_is_written_read_and_ended(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = make_certificates(tmp_path / "certificates")
    tls: dict[str, Any] = {**files.settings}
    monkeypatch.setenv("SSL_CERT_FILE", files.ca)
    async with node_on(server, **tls) as one, node_on(server) as two, http(two) as far:
        one.hub.create("demo")
        await eventually(lambda: b":1" in server.command("EXISTS", "deltawire:{demo}:state"))
        async with raw_peer(two.port, "/v1/streams/demo/subscribe") as reading:
            await reading.read_until("caught_up")
            for upto in range(1, 31):
                posted = await far.post(
                    "/v1/streams/demo/events", content=json.dumps(text_delta(WORD)), headers=JSON_LINES
                )
                assert posted.json()["seq"] == upto
            await reading.read_until("text_delta", seq=30)
            await far.delete("/v1/streams/demo")
            messages, code = await reading.read_ending()
            assert (messages[-1]["type"], code) == ("stream_end", 1000)
