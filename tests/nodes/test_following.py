"""A node follows a stream that another one owns once, and serves its own consumers as the owner would."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, cast

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from deltawire import __version__
from deltawire.gateway.engines.redis import keeping, session
from deltawire.gateway.server import Gateway
from deltawire.gateway.server.relaying import follow, nodes
from deltawire.gateway.streams.mirror import Mirror
from tests.nodes.together import http, is_owner, node_on, nodes_on, processes_on
from tests.support.on_redis import numbered, read, write
from tests.support.peers import Peer, consumer, peer, producer, publish, ranges_of, text_delta, text_of
from tests.support.rawpeer import RawPeer
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.waiting import DEADLINE, eventually

pytestmark = needs_redis


def follows(gateway: Gateway) -> int:
    """How many streams of others a gateway follows."""
    return len(gateway._nodes.follows._follows)


def mirror_of(gateway: Gateway) -> Mirror:
    mirror = gateway._nodes.follows._follows["demo"].mirror
    assert mirror is not None
    return mirror


@asynccontextmanager
async def producer_in_time(gateway: Gateway) -> AsyncIterator[Peer]:
    """A producer that connects again as long as nobody has taken its stream over."""
    async with AsyncExitStack() as stack:
        while True:
            writing = await stack.enter_async_context(peer(gateway, "demo/publish?producer=p"))
            first = await writing.read()
            if first["type"] == "ready":
                break
            assert first["retryable"], first
        yield writing


def messages_of(body: str) -> list[dict[str, Any]]:
    """The messages of an event stream."""
    return [json.loads(line.removeprefix("data: ")) for line in body.splitlines() if line.startswith("data: ")]


async def test_fifty_readers_of_another_node_s_stream_are_one_connection_to_its_owner(server: RedisServer) -> None:
    async with nodes_on(server) as (one, two), producer(one, "producer=p") as writing, AsyncExitStack() as stack:
        await publish(writing, *numbered(1, 5), upto=5)
        readings = [await stack.enter_async_context(consumer(two)) for _ in range(50)]
        for reading in readings:
            await reading.read_until("caught_up", seq=5)
        assert len(one._connections) == 2, "the producer and the follow"
        await publish(writing, *numbered(6, 10), upto=10)
        for reading in readings:
            await reading.read_until("text_delta", seq=10)
        assert (follows(two), len(two._nodes.relays), is_owner(two)) == (1, 0, False)
        await eventually(lambda: one.hub.manager.get("demo").consumers == 50)


async def test_live_late_filtered_folded_msgpack_and_sse_readers_get_the_owner_s_text(server: RedisServer) -> None:
    asked = ("policy=disconnect", "", "types=text_delta", "policy=drop_oldest&buffer=50", "interval=20", "after=3")
    async with nodes_on(server) as (one, two), producer(one, "producer=p") as writing, AsyncExitStack() as stack:
        await publish(writing, *numbered(1, 20), upto=20)
        pairs: list[tuple[Peer, Peer]] = []
        for query in asked:
            near, far = [await stack.enter_async_context(consumer(node, query)) for node in (one, two)]
            pairs.append((near, far))
        binary = [
            await stack.enter_async_context(peer(node, "demo/subscribe", "deltawire.v1.msgpack")) for node in (one, two)
        ]
        pairs.append((binary[0], binary[1]))
        async with http(one) as near_http, http(two) as far_http:
            streaming = [asyncio.create_task(it.get("/v1/streams/demo/sse")) for it in (near_http, far_http)]
            for near, far in pairs:
                for it in (near, far):
                    await it.read_until("caught_up")
            await publish(writing, *numbered(21, 40), upto=40)
            await writing.say({"type": "close_stream"})
            for near, far in pairs:
                texts = [text_of(await it.read_all()) for it in (near, far)]
                assert texts[0] == texts[1] == "".join(f"{number} " for number in range(21, 41))
                assert (near.code, far.code) == (1000, 1000)
            texts = [text_of(messages_of((await it).text)) for it in streaming]
            assert texts[0] == texts[1] == "".join(f"{number} " for number in range(1, 41))
        await eventually(lambda: len(two._nodes.relays) == 0, "that the relay of the answer has ended")


async def test_the_same_event_has_the_same_bytes_at_every_node(server: RedisServer) -> None:
    async with nodes_on(server) as (one, two):
        await write(one, 1, 30)
        assert await read(two) == await read(one)
        assert follows(two) == 1
        frames = [stream.log.frames(0, 30) for stream in (one.hub.manager.get("demo"), mirror_of(two))]
        assert frames[0] == frames[1]


async def test_a_follow_says_what_it_is_and_is_no_reader_of_its_own(server: RedisServer) -> None:
    async with nodes_on(server) as (one, two), http(one) as at_owner, http(two) as elsewhere:
        await write(one, 1, 3)
        with capture_logs() as logs:
            async with consumer(two) as reading:
                await reading.read_until("caught_up")
                readers = []
                for client in (at_owner, elsewhere):
                    metrics = (await client.get("/metrics")).text
                    readers.append(sum(map(float, re.findall(r"\ndeltawire_consumers\S+ ([\d.]+)", metrics))))
        agents = {it["agent"] for it in logs if it["event"] == "consumer.connected"}
        assert readers == [0, 1]
        assert f"deltawire/{__version__} node" in agents


async def test_readers_stay_while_another_node_takes_over_from_a_killed_owner(server: RedisServer) -> None:
    async with processes_on(server, 1) as processes, node_on(server) as two, node_on(server) as three:
        await write(processes.served[0], 1, 5)
        async with consumer(two) as near, consumer(three) as far, producer(two, "producer=p") as writing:
            for reading in (near, far):
                await reading.read_until("caught_up", seq=5)
            await publish(writing, text_delta("6 ", producer_seq=6), upto=6)
            await processes.kill(0)
            async with producer_in_time(three) as again:
                await publish(again, *numbered(6, 20), upto=20)
                for reading in (near, far):
                    messages = await reading.read_until("text_delta", seq=20)
                    assert {it["type"] for it in messages} == {"text_delta"}, "nobody was told anything"
                    assert text_of(messages) == "".join(f"{number} " for number in range(6, 21))
                assert is_owner(two) + is_owner(three) == 1
                owner = two if is_owner(two) else three
                await eventually(lambda: owner.hub.manager.get("demo").consumers == 2)
                async with consumer(two) as late:
                    assert text_of(await late.read_until("caught_up", seq=20)).startswith("1 2 3")
                await again.say({"type": "close_stream"})
                for reading in (near, far):
                    assert (await reading.read_all())[-1]["reason"] == "closed"


async def test_readers_of_an_owner_that_leaves_stay_where_they_are(server: RedisServer) -> None:
    async with node_on(server) as two, AsyncExitStack() as stack:
        async with node_on(server, drain_timeout=5.0) as one:
            await write(one, 1, 3)
            reading = await stack.enter_async_context(consumer(two))
            await reading.read_until("caught_up", seq=3)
        await write(two, 4, 6)
        assert text_of(await reading.read_until("text_delta", seq=6)) == "4 5 6 "


async def test_a_new_epoch_is_told_by_resuming_with_the_gap_that_the_new_owner_knows(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "TTL", 4.0)  # for as long nothing is taken over from a server that lost sessions
    monkeypatch.setattr(keeping, "RENEWAL", 0.1)
    async with processes_on(server, 1) as processes, node_on(server) as two:
        await write(processes.served[0], 1, 5)
        async with consumer(two) as reading:
            epoch = (await reading.read_until("caught_up", seq=5))[0]["epoch"]
            processes.served[0].process.send_signal(signal.SIGSTOP)  # it would store its streams again
            server.command("FLUSHALL")
            await processes.kill(0)
            problem = (await reading.read_all())[-1]
            assert (problem["code"], problem["resume_after"], reading.code) == ("overloaded", 5, 4003)
        await eventually(lambda: follows(two) == 0)
        async with consumer(two, f"after=5&epoch={epoch}") as reading:
            subscribed, gap = await reading.read(), await reading.read()
            assert subscribed["epoch"] != epoch
            assert gap == {"type": "gap", "first": 1, "seq": 0, "reason": "epoch_changed"}


async def test_a_signal_in_flight_when_the_owner_dies_is_not_told_as_delivered(server: RedisServer) -> None:
    async with processes_on(server, 1) as processes, node_on(server) as two:
        await write(processes.served[0], 1, 1)
        async with consumer(two) as asking, consumer(two) as other:
            for reading in (asking, other):
                await reading.read_until("caught_up")
            processes.served[0].process.send_signal(signal.SIGSTOP)
            await asking.say({"type": "signal", "name": "cancel", "id": "s1"})
            await asking.say({"type": "ping", "id": "p"})
            await asking.read_until("pong")
            await processes.kill(0)
            problem = (await asking.read_all())[-1]
            assert (problem["code"], problem["retryable"], asking.code) == ("overloaded", True, 4003)
            await write(two, 2, 2)
            assert (await other.read_until("text_delta"))[-1]["seq"] == 2


async def test_a_signal_goes_to_the_producers_with_its_id_and_the_sum_comes_back(server: RedisServer) -> None:
    async with nodes_on(server, 3) as (one, two, three), producer(one) as first:
        await publish(first, text_delta("x"), upto=1)
        async with producer(three) as second, consumer(two) as reading:
            await reading.read_until("caught_up")
            for number in (1, 2):
                await reading.say({"type": "signal", "name": "cancel", "id": "same", "data": {"number": [number]}})
            for writing in (first, second):
                heard = [(await writing.read_until("signal"))[-1] for _ in range(2)]
                assert [(it["id"], it["data"]["number"]) for it in heard] == [("same", [1]), ("same", [2])]
            results = [(await reading.read_until("signal_result"))[-1] for _ in range(2)]
            assert [(it["id"], it["delivered"]) for it in results] == [("same", 2)] * 2
            await reading.say({"type": "signal", "name": "cancel"})
            assert "id" not in (await reading.read_until("signal_result"))[-1]


@pytest.mark.parametrize(
    ("query", "relayed"),
    [
        ("", 1),
        ("from=now", 0),
        ("after=60", 0),
        ("after=20", 1),
        ("from=now&policy=block", 1),
    ],
)
async def test_the_owner_serves_who_wants_what_a_mirror_does_not_have(
    server: RedisServer, query: str, relayed: int
) -> None:
    async with nodes_on(server, retention_bytes=4096) as (one, two):
        await write(one, 1, 60)
        floor = one.hub.manager.get("demo").floor
        assert 21 < floor < 50
        async with consumer(two, query) as far, consumer(one, query) as near:
            messages = [await it.read_until("caught_up") for it in (near, far)]
            assert messages[0] == messages[1]
            assert len(two._nodes.relays) == relayed
            await write(two, 61, 61)
            for it in (near, far):
                await it.read_until("text_delta", seq=61)


async def test_a_reader_ahead_of_the_mirror_asks_the_owner(server: RedisServer) -> None:
    async with nodes_on(server) as (one, two), consumer(two) as reading:
        await reading.read_until("caught_up")
        owner, other = (one, two) if is_owner(one) else (two, one)
        await write(owner, 1, 5)
        epoch = owner.hub.manager.get("demo").epoch
        async with consumer(other) as following:
            await following.read_until("caught_up", seq=5)
            async with consumer(other, f"after=6&epoch={epoch}") as ahead:
                assert (await ahead.read())["code"] == "position_ahead"
                assert len(other._nodes.relays) == 1


async def test_a_reader_that_falls_behind_the_mirror_resumes_at_the_owner_without_a_gap(server: RedisServer) -> None:
    word, count = "x" * 10_000, 200
    async with nodes_on(server, retention_bytes=4 * 1024 * 1024) as (one, two), producer(one) as writing:
        await publish(writing, text_delta(word), upto=1)
        slow = await RawPeer.connect(two.port, receive_buffer=4096)
        await slow.upgrade("/v1/streams/demo/subscribe?policy=disconnect&buffer=10000")
        await slow.read_until("caught_up")
        two.hub.deadlines.remove(two._housekeeping)  # which would end the reader for what it holds
        two.hub.manager.memory_limit = 0
        mirror_of(two).settings = replace(mirror_of(two).settings, buffer_bytes=20_000)
        for upto in range(2, count + 1):
            await publish(writing, text_delta(word), upto=upto)
        await eventually(lambda: mirror_of(two).log.floor > count - 10)
        two.hub.manager.memory_limit = 512 * 1024 * 1024
        messages, code = await slow.read_ending()
        problem = messages[-1]
        assert (problem["code"], problem["retryable"], code) == ("overloaded", True, 4003)
        async with consumer(two, f"policy=disconnect&after={problem['resume_after']}") as again:
            subscribed, *rest = await again.read_until("caught_up")
            assert subscribed["recovered"] is True
            assert [it["seq"] for it in rest[:-1]] == list(range(problem["resume_after"] + 1, count + 1))


async def test_live_readers_of_a_mirror_resume_at_the_owner_that_has_dropped_what_comes_next(
    server: RedisServer,
) -> None:
    async with nodes_on(server, retention_events=20) as (one, two):
        async with producer(one, "producer=p") as writing, consumer(two, "policy=disconnect") as reading:
            await publish(writing, *numbered(1, 5), upto=5)
            await reading.read_until("text_delta", seq=5)
            await publish(writing, *numbered(6, 500), upto=500)
            *events, problem = await reading.read_all()
        position = problem["resume_after"]
        assert (problem["code"], position, reading.code) == ("overloaded", 5 + len(events), 4003)
        async with consumer(two, f"policy=disconnect&after={position}") as again:
            messages = await again.read_until("caught_up", seq=500)
        assert ranges_of(messages[1:2]) == [("gap", position + 1, 480)]
        assert [it["seq"] for it in messages[2:-1]] == list(range(481, 501))


async def test_a_mirror_that_nobody_reads_ends_and_leaves_nothing(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "LINGER", 0.1)
    async with nodes_on(server) as (one, two):
        await write(one, 1, 10)
        before = two.hub.manager.bytes
        async with consumer(two) as reading:
            await reading.read_until("caught_up")
            assert two.hub.manager.bytes > before + mirror_of(two).log.bytes
        await eventually(lambda: follows(two) == 0)
        assert two.hub.manager.ledger.bytes == 0
        await eventually(lambda: two.hub.manager.bytes == before)
        await eventually(lambda: not one._connections)
        assert one.hub.manager.get("demo").consumers == 0


async def test_a_limit_of_consumers_holds_over_nodes(server: RedisServer) -> None:
    async with nodes_on(server, max_consumers=3) as (one, two), producer(one) as writing:
        await publish(writing, text_delta("x"), upto=1)
        async with consumer(one) as near, consumer(two) as far, consumer(two) as another:
            for reading in (near, far, another):
                await reading.read_until("caught_up")
            await eventually(lambda: mirror_of(two).audience == one.hub.manager.get("demo").consumers == 3)
            for node in (one, two):
                async with consumer(node) as refused:
                    assert "max_consumers" in (await refused.read())["message"]
        await writing.read_until("audience", consumers=0)


async def test_what_the_owner_drops_is_dropped_from_the_mirror(server: RedisServer) -> None:
    async with nodes_on(server, retention_age=1.0) as (one, two):
        await write(one, 1, 10)
        async with consumer(two) as reading:
            await reading.read_until("caught_up", seq=10)
            await eventually(lambda: one.hub.manager.get("demo").floor == 11)
            await eventually(lambda: mirror_of(two).log.floor == 11)
            async with consumer(two) as late:
                assert (await late.read_until("gap"))[-1]["seq"] == 10


async def test_mirrors_keep_to_the_memory_limit_and_their_readers_lose_nothing(server: RedisServer) -> None:
    streams, each = [f"s{number}" for number in range(6)], 60
    async with node_on(server) as one, node_on(server, memory_limit=2 * 2**20) as two, AsyncExitStack() as stack:
        pairs = []
        for stream in streams:
            writing = await stack.enter_async_context(producer(one, "producer=p", stream=stream))
            reading = await stack.enter_async_context(consumer(two, "policy=disconnect", stream=stream))
            await reading.read_until("caught_up")
            pairs.append((writing, reading))
        for seq in range(1, each + 1):
            for writing, reading in pairs:
                await publish(writing, text_delta("x" * 20_000, producer_seq=seq), upto=seq)
                await reading.read_until("text_delta", seq=seq)
                assert two.hub.manager.bytes <= 2 * 2**20
        assert two.hub.manager.mirrors == len(streams)
        for stream in streams:
            async with consumer(two, "policy=disconnect", stream=stream) as late:
                messages = await late.read_until("caught_up", seq=each)
                assert [it["seq"] for it in messages if it["type"] == "text_delta"] == list(range(1, each + 1))


async def test_a_stream_s_own_default_policy_holds_for_readers_of_any_node(server: RedisServer) -> None:
    async with nodes_on(server) as (one, two), http(one) as client:
        assert (await client.put("/v1/streams/demo?policy=drop_oldest&buffer=7")).status_code == 201
        async with consumer(two) as reading:
            subscribed = (await reading.read_until("caught_up"))[0]
            assert (subscribed["policy"], subscribed["buffer"]) == ("drop_oldest", 7)
        assert (await client.put("/v1/streams/other?policy=block")).status_code == 201
        async with consumer(two, stream="other") as reading:
            await reading.read_until("caught_up")
            assert len(two._nodes.relays) == 1


async def test_a_ui_message_stream_and_a_response_are_read_from_the_mirror(server: RedisServer) -> None:
    start = {"type": "message_start", "data": {"message_id": "m1"}}
    stop = {"type": "message_stop", "data": {"message_id": "m1", "stop_reason": "end_turn"}}
    async with nodes_on(server) as (one, two), producer(one) as writing, http(one) as near, http(two) as far:
        for path in ("/v1/streams/demo/ui-message-stream", "/v1/responses/demo?stream=true"):
            await publish(writing, start, text_delta("Hello"), upto=2)
            reading = [asyncio.create_task(client.get(path)) for client in (near, far)]
            await eventually(lambda: one.hub.manager.get("demo").consumers >= 2)
            assert len(two._nodes.relays) == 0
            await publish(writing, text_delta(" world"), stop, upto=4)
            bodies = [(await it).text for it in reading]
            assert bodies[0] == bodies[1]
            assert "Hello" in bodies[1]


async def test_readers_of_one_node_are_counted_again_by_the_next_owner(server: RedisServer) -> None:
    async with processes_on(server, 1) as processes, nodes_on(server) as (two, three), AsyncExitStack() as stack:
        await write(processes.served[0], 1, 1)
        for node in (two, two, two, three, three):
            reading = await stack.enter_async_context(consumer(node))
            await reading.read_until("caught_up")
        await processes.kill(0)
        async with producer_in_time(three) as writing:
            await writing.read_until("audience", consumers=5)


async def test_readers_resume_when_their_node_owns_the_stream_and_can_not_follow_itself(server: RedisServer) -> None:
    async with processes_on(server, 1) as processes, node_on(server, advertise_url="") as two:
        await write(processes.served[0], 1, 3)
        async with consumer(two) as reading:
            await reading.read_until("caught_up")
            await processes.kill(0)
            problem = (await reading.read_all())[-1]
            assert (problem["code"], problem["resume_after"], reading.code) == ("overloaded", 3, 4003)
        async with consumer(two, "after=3") as again:
            assert (await again.read())["recovered"] is True
            assert is_owner(two)


async def test_an_owner_that_does_not_know_follows_is_relayed_to(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "FOLLOWS", "Deltawire-Unknown")
    async with nodes_on(server) as (one, two):
        await write(one, 1, 3)
        async with consumer(two) as reading:
            await reading.read_until("caught_up")
            assert (len(two._nodes.relays), follows(two)) == (1, 0)


async def test_a_stream_that_has_ended_is_not_copied_for_who_reads_it_once(server: RedisServer) -> None:
    async with nodes_on(server) as (one, two):
        await write(one, 1, 10)
        one.hub.close("demo")
        async with consumer(two) as reading:
            messages = await reading.read_all()
            assert (messages[-1]["type"], reading.code) == ("stream_end", 1000)
            assert text_of(messages) == "".join(f"{number} " for number in range(1, 11))
            assert follows(two) == 0


async def test_a_closed_stream_is_read_to_its_end_by_those_who_are_slow(server: RedisServer) -> None:
    word = "x" * 20_000
    async with nodes_on(server) as (one, two), producer(one) as writing:
        await publish(writing, text_delta(word), upto=1)
        slow = await RawPeer.connect(two.port, receive_buffer=4096)
        await slow.upgrade("/v1/streams/demo/subscribe")
        await slow.read_until("caught_up")
        for upto in range(2, 101):
            await publish(writing, text_delta(word), upto=upto)
        await writing.say({"type": "close_stream"})
        await eventually(lambda: mirror_of(two).is_closed)
        async with consumer(two) as late:
            messages = await late.read_all()
            assert (messages[-1]["type"], late.code) == ("stream_end", 1000)
        messages, code = await slow.read_ending()
        assert (text_of(messages), messages[-1]["type"], code) == (word * 99, "stream_end", 1000)


class Resuming(asyncio.Protocol):
    """A reader that comes back with a position."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.received = b""
        self.has_all = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(
            f"GET {self._path} HTTP/1.1\r\nHost: node\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self.received += data
        if b'"caught_up"' in self.received:
            self.has_all.set()


def commands_of(server: RedisServer) -> int:
    """How many commands a server has run."""
    return sum(int(it) for it in re.findall(r"calls=(\d+)", server.command("INFO", "commandstats").decode()))


@pytest.mark.slow
async def test_hundreds_that_resume_at_another_node_at_once_are_caught_up_and_hardly_ask_the_server(
    server: RedisServer,
) -> None:
    limits = {"connection_rate": 10_000, "connection_burst": 10_000, "max_connections_per_address": 1_000}
    async with processes_on(server, 2, **limits) as processes:
        one, two = processes.served
        await write(one, 1, 200)
        async with consumer(one) as first:
            epoch = (await first.read())["epoch"]
        paths = [f"/v1/streams/demo/subscribe?after={number}&epoch={epoch}" for number in range(100, 199)] * 4
        before = commands_of(server)
        readers = [Resuming(path) for path in paths]
        port = int(two.url.rpartition(":")[2])
        loop = asyncio.get_running_loop()
        transports = [(await loop.create_connection(partial(_same, it), "127.0.0.1", port))[0] for it in readers]
        async with asyncio.timeout(DEADLINE):
            for it in readers:
                await it.has_all.wait()
        assert all(b'"recovered":true' in it.received and b'"gap"' not in it.received for it in readers)
        assert all(b'200 "' in it.received for it in readers)
        assert commands_of(server) - before < 100
        for transport in transports:
            transport.close()


def _same(reader: Resuming) -> Resuming:
    return reader
