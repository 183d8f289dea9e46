"""Streams as server-sent events over plain HTTP: the same log, cursor, policies and limits (SPEC §9.3)."""

from __future__ import annotations

import asyncio
import itertools
import random
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from deltawire.gateway.server.connection.connection import GatewayConnection
from deltawire.gateway.server.connection.progress import Progress
from deltawire.gateway.streams.view import View
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.event_stream import EventStream
from deltawire.protocol.events import MessageStart, MessageStop, TextDelta, Usage
from tests.server.conftest import StartGateway
from tests.server.eventsource import EventSource, event_source, text_of
from tests.server.stalling import FILLER, SMALL_BUFFER, consumers_of, say
from tests.support.asking import http_client
from tests.support.certificates import make_certificates
from tests.support.minting import token, write_secret
from tests.support.peers import consumer, producer, publish, text_delta
from tests.support.rawpeer import RawPeer
from tests.support.waiting import eventually, turn


def fill(gateway: Gateway, *texts: str) -> str:
    """Append an answer of these deltas to stream `demo`; returns its epoch."""
    stream = gateway.hub.get_or_create("demo")
    stream.send_nowait(MessageStart("m1"))
    for text in texts:
        stream.send_nowait(TextDelta(text))
    stream.send_nowait(MessageStop("m1", "end_turn"))
    return stream.statistics().epoch


async def is_over(gateway: Gateway) -> None:
    """Wait until nothing is left of any connection."""
    await eventually(lambda: not gateway._accepted and not gateway._connections, "that connections are gone")
    assert gateway.hub.manager.elsewhere == 0
    if gateway.hub.count():
        stream = gateway.hub.manager.get("demo")
        assert (stream.consumers, stream._views, len(stream._subscriptions)) == (0, {}, 0)


# What readers get


async def test_a_reader_gets_what_a_websocket_gets_with_positions_as_ids(gateway: Gateway) -> None:
    epoch = fill(gateway, "The", " fox")
    async with event_source(gateway) as source, consumer(gateway) as websocket:
        events = await source.read_until("caught_up")
        live = gateway.hub.get("demo")
        live.send_nowait(Usage(1, 2, 3))
        live.close()
        events += await source.read_all()
        assert [event.message for event in events] == await websocket.read_all()
        assert [event.name for event in events] == [
            *("subscribed", "message", "message", "message", "caught_up", "message", "stream_end")
        ]
        assert [event.id for event in events] == [f"{epoch}.{seq}" for seq in (0, 1, 3, 4, 4, 5, 5)]
        assert source.is_whole


async def test_its_headers_keep_proxies_from_holding_it_back(gateway: Gateway) -> None:
    async with event_source(gateway) as source:
        assert source.status == 200
        assert source.headers["content-type"] == "text/event-stream"
        assert source.headers["x-accel-buffering"] == "no"
        assert "no-cache" in source.headers["cache-control"]
        assert source.headers["transfer-encoding"] == "chunked"
        assert "connection" not in source.headers, "undici would take a body that is cut off for whole"
        await source.read_until("caught_up")
        assert 1000 <= source.retry <= 3000


async def test_http_1_0_has_no_chunks_and_the_end_of_the_connection_ends_it(gateway: Gateway) -> None:
    fill(gateway, "The", " fox")
    gateway.hub.close("demo")
    async with event_source(gateway, version="HTTP/1.0") as source:
        assert "transfer-encoding" not in source.headers
        assert text_of(await source.read_all()) == "The fox"


async def test_httpx_reads_it_line_by_line(gateway: Gateway) -> None:
    fill(gateway, "The", " fox")
    gateway.hub.close("demo")
    async with (
        http_client(base_url=f"http://127.0.0.1:{gateway.port}") as client,
        client.stream("GET", "/v1/streams/demo/sse") as response,
    ):
        lines = [line async for line in response.aiter_lines()]
    assert lines[0].startswith("retry: ")
    assert [line for line in lines if line.startswith("event: ")][-1] == "event: stream_end"


async def test_an_answer_read_with_breaks_at_random_places_is_whole_and_once(gateway: Gateway) -> None:
    letters = "".join(random.choices("abcdefgh", k=400))
    stream = gateway.hub.create("demo")
    text, last_id, breaks = "", "", 0
    for letter in letters:
        stream.send_nowait(TextDelta(letter))
    stream.close()
    while True:
        async with event_source(gateway, "policy=block&interval=0", last_id=last_id) as source:
            if source.status == 204:
                break
            for _ in range(random.randint(1, 60)):
                event = await source.read()
                if event is None:
                    break
                last_id = event.id
                text += text_of([event])
            breaks += 1
    assert text == letters
    assert breaks > 5


async def test_folded_events_are_resumed_after_their_last(gateway: Gateway) -> None:
    epoch = fill(gateway, *"abc")
    async with event_source(gateway) as source:
        events = await source.read_until("caught_up")
    assert (events[2].message["first"], events[2].id) == (2, f"{epoch}.4")
    async with event_source(gateway, last_id=events[2].id) as source:
        events = await source.read_until("caught_up")
        assert [event.message["type"] for event in events] == ["subscribed", "message_stop", "caught_up"]
        assert events[0].message["recovered"]


async def test_the_id_overrides_the_position_in_the_url_which_never_changes(gateway: Gateway) -> None:
    epoch = fill(gateway, *"abc")
    async with event_source(gateway, "after=1", last_id=f"{epoch}.4") as source:
        assert (await source.read_until("subscribed"))[0].message["after"] == 4


async def test_what_is_missing_is_an_event_of_its_own_kind(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(retention_events=2)
    epoch = fill(gateway, *"abc")
    async with event_source(gateway, "policy=block", last_id=f"{epoch}.1") as source:
        events = await source.read_until("caught_up")
    assert (events[1].name, events[1].id) == ("gap", f"{epoch}.3")
    assert events[1].message == {"type": "gap", "first": 2, "seq": 3, "reason": "evicted"}


async def test_an_id_of_another_epoch_starts_over_and_says_so(gateway: Gateway) -> None:
    epoch = fill(gateway, "a")
    async with event_source(gateway, last_id="gone.17") as source:
        events = await source.read_until("caught_up")
    assert events[1].name == "gap"
    assert events[1].message["reason"] == "epoch_changed"
    assert [event.id for event in events] == [f"{epoch}.{seq}" for seq in (0, 0, 1, 2, 3, 3)]


async def test_a_reader_from_now_on_that_is_lost_before_any_event_resumes_where_it_began(gateway: Gateway) -> None:
    fill(gateway, "a")
    async with event_source(gateway, "from=now") as source:
        await source.read_until("subscribed")
    gateway.hub.get("demo").send_nowait(Usage(1, 2, 3))
    async with event_source(gateway, "from=now", last_id=source.last_id) as source:
        assert [it.message["type"] for it in await source.read_until("caught_up")] == [
            "subscribed",
            "usage",
            "caught_up",
        ]


async def test_204_stops_a_reader_that_has_everything_of_a_stream_that_has_ended(gateway: Gateway) -> None:
    epoch = fill(gateway, "a")
    gateway.hub.close("demo")
    async with event_source(gateway, "types=usage") as source:
        await source.read_all()
    assert source.last_id == f"{epoch}.3"
    for last_id, status in ((source.last_id, 204), (f"{epoch}.2", 200), ("elsewhere.3", 200)):
        async with event_source(gateway, last_id=last_id) as again:
            assert again.status == status, last_id


async def test_heartbeats_and_filters_are_those_of_a_websocket(gateway: Gateway) -> None:
    fill(gateway, "a")
    async with event_source(gateway, "types=usage&heartbeat=1") as source:
        assert [event.name for event in await source.read_until("heartbeat")] == [
            "subscribed",
            "caught_up",
            "heartbeat",
        ]


async def test_a_reader_resumes_after_a_restart_as_if_nothing_had_been(tmp_path: Path) -> None:
    settings = Settings(port=0, drain_timeout=0.2, data_dir=str(tmp_path), retention_events=100)
    async with Gateway(settings) as gateway, producer(gateway) as writing, event_source(gateway) as source:
        await source.read_until("caught_up")
        await publish(writing, *(text_delta(letter) for letter in "abc"), upto=3)
        while not source.last_id.endswith(".3"):
            await source.read()
        ended = asyncio.create_task(gateway.drain())
        assert (await source.read_all())[-1].message["code"] == "shutting_down"
        await ended
    async with Gateway(settings) as gateway:
        async with event_source(gateway, last_id=source.last_id) as again, producer(gateway) as writing:
            assert (await again.read_until("caught_up"))[0].message["recovered"]
            await publish(writing, text_delta("d"), upto=4)
            assert text_of(await again.read_until("message")) == "d"
        async with event_source(gateway, "policy=block") as source:
            assert text_of(await source.read_until("caught_up")) == "abcd"


# What is refused


@pytest.mark.parametrize(
    ("query", "last_id", "status", "word"),
    [
        ("policy=fast", "", 400, "policy"),
        ("colour=red", "", 400, "colour"),
        ("", "x", 400, "Last-Event-ID"),
        ("", "e.9007199254740993", 400, "Last-Event-ID"),
        ("after=9", "", 400, "beyond the head"),
        ("create=false", "", 404, "not found"),
    ],
)
async def test_what_is_wrong_is_told_before_the_first_byte(
    gateway: Gateway, query: str, last_id: str, status: int, word: str
) -> None:
    async with event_source(gateway, query, last_id=last_id) as source:
        assert source.status == status
        assert source.headers["content-type"] == "application/problem+json"
        assert word in (await source.peer.read_rest()).decode()
    assert gateway.hub.count() == 0, "nothing was created"


async def test_two_ids_are_refused(gateway: Gateway) -> None:
    async with event_source(gateway, headers="Last-Event-ID: a.1\r\nLast-Event-ID: a.2\r\n") as source:
        assert source.status == 400


async def ask(gateway: Gateway, method: str, path: str = "/v1/streams/demo/sse", **headers: str) -> httpx.Response:
    async with http_client(base_url=f"http://127.0.0.1:{gateway.port}") as client:
        return await client.request(method, path, headers=headers)


async def test_head_gets_the_headers_and_subscribes_nobody(gateway: Gateway) -> None:
    response = await ask(gateway, "HEAD")
    assert (response.status_code, response.headers["content-type"]) == (200, "text/event-stream")
    assert gateway.hub.count() == 0
    assert (await ask(gateway, "HEAD", "/v1/streams/demo/sse?create=false")).status_code == 404
    assert (await ask(gateway, "HEAD", "/v1/streams/demo/sse?colour=red")).status_code == 400


@pytest.mark.parametrize(("method", "status"), [("POST", 405), ("PUT", 405), ("DELETE", 405), ("OPTIONS", 204)])
async def test_other_methods_are_told_which_there_are(gateway: Gateway, method: str, status: int) -> None:
    response = await ask(gateway, method)
    assert (response.status_code, response.headers["allow"]) == (status, "GET, HEAD, OPTIONS")


async def test_a_stream_with_too_many_consumers_is_503(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(max_consumers=1)
    async with event_source(gateway) as first:
        await first.read_until("caught_up")
        async with event_source(gateway) as second:
            assert second.status == 503
            assert "retry-after" in second.headers
            assert b"max_consumers" in await second.peer.read_rest()


async def test_a_gateway_that_drains_takes_no_new_readers(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway._admission, "is_draining", True)
    async with event_source(gateway) as source:
        assert (source.status, "retry-after" in source.headers) == (503, True)
    monkeypatch.undo()


async def test_a_token_must_allow_to_subscribe(start_gateway: StartGateway, tmp_path: Path) -> None:
    gateway = await start_gateway(auth_key=write_secret(tmp_path))
    for query, allowed, status in (
        ("", token(subscribe=["demo"]), 200),
        ("", token(publish=["demo"]), 403),
        ("policy=block", token(subscribe=["demo"], policies=["coalesce"]), 403),
    ):
        header = f"Authorization: Bearer {allowed}\r\n"
        async with event_source(gateway, query, headers=header) as source:
            assert source.status == status
    async with event_source(gateway) as source:
        assert source.status == 401


async def test_a_token_in_the_query_is_accepted_where_it_is_for_a_websocket(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    key = write_secret(tmp_path)
    query = f"access_token={token(subscribe=['demo'])}"
    for is_on, status in ((False, 401), (True, 200)):
        async with event_source(await start_gateway(auth_key=key, auth_query_token=is_on), query) as source:
            assert source.status == status


async def test_a_page_of_an_allowed_origin_may_read_it(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(allowed_origins="https://app.example.org")
    async with event_source(gateway, headers="Origin: https://app.example.org\r\n") as source:
        assert source.headers["access-control-allow-origin"] == "https://app.example.org"
    async with event_source(gateway, headers="Origin: https://evil.com\r\n") as source:
        assert source.status == 403
    preflight = {"Origin": "https://app.example.org", "Access-Control-Request-Method": "GET"}
    response = await ask(gateway, "OPTIONS", **preflight)
    assert response.status_code == 204
    assert "Last-Event-ID" in response.headers["access-control-allow-headers"]


# How it ends


async def test_a_reader_that_hangs_up_is_noticed_at_once(gateway: Gateway) -> None:
    async with producer(gateway) as writing:
        async with event_source(gateway) as source:
            await source.read_until("caught_up")
            assert (await writing.read_until("audience"))[-1]["consumers"] == 1
        assert (await writing.read_until("audience"))[-1]["consumers"] == 0
    await is_over(gateway)
    assert gateway.hub.tally.closes["1006", "peer"] == 1


async def test_one_that_only_finishes_sending_has_left_too(gateway: Gateway) -> None:
    fill(gateway, "a")
    async with event_source(gateway) as source:
        await source.read_until("caught_up")
        source.peer.finish_sending()
        assert await source.read() is None
        assert not source.is_whole, "nobody can take this for the end of the stream"
    await is_over(gateway)


async def test_one_that_has_left_before_its_answer_leaves_nothing_behind(gateway: Gateway) -> None:
    peer = await RawPeer.connect(gateway.port)
    await peer.send(b"GET /v1/streams/demo/sse HTTP/1.1\r\n\r\n")
    peer.finish_sending()
    await peer.read_rest()
    peer.close()
    await is_over(gateway)
    for _ in range(20):
        peer = await RawPeer.connect(gateway.port)
        await peer.send(b"GET /v1/streams/demo/sse HTTP/1.1\r\n\r\n")
        peer.reset()
    await is_over(gateway)


async def test_what_a_reader_sends_after_its_request_is_not_read(gateway: Gateway) -> None:
    async with event_source(gateway) as source:
        await source.read_until("caught_up")
        await source.peer.send(b"GET /livez HTTP/1.1\r\n\r\n" + b"\x81\x80" + b"x" * 100_000)
        await eventually(lambda: gateway.hub.tally.received_bytes > 100_000)
        gateway.hub.get("demo").send_nowait(TextDelta("still there"))
        assert text_of(await source.read_until("message")) == "still there"


@pytest.mark.hears(ProblemCode.SHUTTING_DOWN)
async def test_a_drain_sends_the_rest_and_says_where_to_resume(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(drain_timeout=5.0)
    fill(gateway, "a")
    async with event_source(gateway) as source:
        await source.read_until("caught_up")
        gateway.hub.get("demo").send_nowait(TextDelta("last"))
        draining = asyncio.create_task(gateway.drain())
        events = await source.read_all()
        assert text_of(events) == "last"
        assert events[-1].name == "problem"
        assert (events[-1].message["code"], events[-1].message["resume_after"]) == ("shutting_down", 4)
        assert source.is_whole
    await draining
    assert gateway.hub.tally.closes["1001", "gateway"] == 1


@pytest.mark.hears(ProblemCode.TOKEN_EXPIRED)
async def test_a_token_that_expires_ends_it(start_gateway: StartGateway, tmp_path: Path) -> None:
    gateway = await start_gateway(auth_key=write_secret(tmp_path))
    header = f"Authorization: Bearer {token(lifetime=2, subscribe=['demo'])}\r\n"
    async with event_source(gateway, headers=header) as source:
        assert (await source.read_all())[-1].message["code"] == "token_expired"


async def test_a_fault_of_the_gateway_ends_the_readers_of_its_stream_and_no_others(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        event_source(gateway) as source,
        consumer(gateway) as beside,
        consumer(gateway, stream="other") as elsewhere,
    ):
        await source.read_until("caught_up")
        await beside.read_until("caught_up")
        await elsewhere.read_until("caught_up")
        raw = View.raw

        def fail_for_sse(view: View, *args: int) -> object:
            if "EventStream" in repr(view.codec):
                raise RuntimeError("a fault")
            return raw(view, *args)

        monkeypatch.setattr(View, "raw", fail_for_sse)
        gateway.hub.get("demo").send_nowait(TextDelta("x"))
        gateway.hub.get("other").send_nowait(TextDelta("y"))
        assert "gateway_fault" in str(await source.read_all())
        assert (await beside.read())["code"] == "gateway_fault"
        assert (await elsewhere.read_until("text_delta"))[-1]["data"] == {"text": "y"}
    await is_over(gateway)


# Slow readers


async def stall(gateway: Gateway, source: EventSource) -> int:
    """Send until the socket of the only consumer is full; returns the seq that was written last."""
    await source.read_until("caught_up")
    [seen] = consumers_of(gateway)
    local = gateway.hub.get("demo")
    while not seen._is_stalled:
        local.send_nowait(TextDelta("#" * FILLER))
        gateway.hub.flush()
        await turn(3)
    return seen.subscription.cursor


async def test_a_slow_reader_gets_its_backlog_folded(gateway: Gateway) -> None:
    async with event_source(gateway, receive_buffer=SMALL_BUFFER) as source:
        cursor = await stall(gateway, source)
        last = say(gateway.hub.get("demo"), 500)
        gateway.hub.close("demo")
        events = await source.read_all()
    folded = [event.message for event in events if "first" in event.message]
    assert any(cursor < message["first"] < last == message["seq"] for message in folded)
    seqs = [(message.get("first", message["seq"]), message["seq"]) for message in (it.message for it in events[:-1])]
    assert all(after[0] == before[1] + 1 for before, after in itertools.pairwise(seqs)), "without a hole"


async def test_a_slow_reader_that_drops_gets_a_gap_and_is_not_disconnected(gateway: Gateway) -> None:
    async with event_source(gateway, "policy=drop_oldest&buffer=10", receive_buffer=SMALL_BUFFER) as source:
        await stall(gateway, source)
        say(gateway.hub.get("demo"), 500)
        gateway.hub.close("demo")
        names = [event.name for event in await source.read_all()]
    assert ("gap" in names, names[-1]) == (True, "stream_end")


@pytest.mark.hears(ProblemCode.SLOW_CONSUMER)
async def test_a_slow_reader_that_wants_it_is_disconnected_and_resumes(gateway: Gateway) -> None:
    async with event_source(gateway, "policy=disconnect&buffer=10", receive_buffer=SMALL_BUFFER) as source:
        await stall(gateway, source)
        say(gateway.hub.get("demo"), 11)
        events = await source.read_all()
    assert events[-1].name == "problem"
    assert source.last_id.endswith(f".{events[-1].message['resume_after']}")
    async with event_source(gateway, last_id=source.last_id) as source:
        assert (await source.read_until("subscribed"))[0].message["recovered"]


@pytest.mark.hears(ProblemCode.SLOW_CONSUMER)
async def test_a_reader_that_stops_holds_producers_up_for_block_timeout_at_most(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(block_timeout=0.2)
    async with event_source(gateway, "policy=block&buffer=1", receive_buffer=SMALL_BUFFER) as source:
        await stall(gateway, source)
        stream = gateway.hub.manager.get("demo")
        assert stream.has_room
        say(gateway.hub.get("demo"), 1)
        assert not stream.has_room
        await eventually(lambda: stream.has_room)
        assert (await source.read_all())[-1].message["code"] == "slow_consumer"


async def test_a_reader_that_takes_nothing_for_send_timeout_is_aborted_and_its_memory_is_back(
    start_gateway: StartGateway,
) -> None:
    gateway = await start_gateway(send_timeout=0.3)
    async with event_source(gateway, receive_buffer=SMALL_BUFFER) as source:
        await stall(gateway, source)
        await is_over(gateway)
    assert gateway.hub.tally.closes["1006", "gateway"] == 1


async def test_many_that_come_read_a_little_and_break_leave_nothing_behind(gateway: Gateway) -> None:
    fill(gateway, *("#" * 1000 for _ in range(300)))

    async def visit(number: int) -> None:
        async with event_source(gateway, "policy=block", receive_buffer=SMALL_BUFFER) as source:
            for _ in range(random.randint(0, 20)):
                await source.read()
            if number % 2:
                source.peer.reset()

    await asyncio.gather(*(visit(number) for number in range(60)))
    await is_over(gateway)


async def test_a_connection_that_holds_too_much_is_shed(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(memory_limit=1024 * 1024)
    async with event_source(gateway) as source:
        await source.read_until("caught_up")
        [connection] = gateway._connections
        connection.shed("it holds too much")
        assert (await source.read_all())[-1].message["code"] == "overloaded"
    await is_over(gateway)


@pytest.mark.hears(ProblemCode.IDLE)
async def test_an_unused_one_ends_after_idle_timeout(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(idle_timeout=0.3)
    async with event_source(gateway) as source:
        assert (await source.read_all())[-1].message["code"] == "idle"


# Signs of life


async def test_a_silent_stream_has_comments_for_proxies(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(ping_interval=0.05)
    async with event_source(gateway) as source:
        await source.read_until("caught_up")
        await eventually(lambda: gateway._connections)
        [connection] = gateway._connections
        for turns in range(1, 4):
            connection.keep_alive(gateway.hub.now() + turns * 100, 50.0, 1e9)
            connection.keep_alive(gateway.hub.now() + turns * 100 + 1, 50.0, 1e9)
        gateway.hub.close("demo")
        await source.read_all()
        assert source.comments >= 3


async def test_one_that_vanished_is_found_by_what_it_does_not_receive(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with event_source(gateway) as source:
        await source.read_until("caught_up")
        [connection] = gateway._connections
        now, taken = gateway.hub.now() + 1000, 7
        monkeypatch.setattr(
            "deltawire.gateway.server.connection.streaming.look", lambda _: Progress(taken, is_behind=True)
        )
        assert connection.keep_alive(now, 20.0, 20.0)
        taken = 8
        assert connection.keep_alive(now + 21, 20.0, 20.0), "slow is not gone"
        assert connection.keep_alive(now + 40, 20.0, 20.0)
        assert not connection.keep_alive(now + 42, 20.0, 20.0)
        await is_over(gateway)


async def test_the_system_is_asked_about_a_reader_only_when_a_comment_is_due(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def look(transport: asyncio.Transport) -> Progress:
        asked.append(transport)
        return Progress(0, is_behind=False)

    async with event_source(gateway) as source:
        await source.read_until("caught_up")
        [connection] = gateway._connections
        monkeypatch.setattr("deltawire.gateway.server.connection.streaming.look", look)
        heard = connection.last_heard
        for seconds in range(20):
            connection.keep_alive(heard + seconds, 20.0, 20.0)
        assert asked == []
        connection.keep_alive(heard + 20, 20.0, 20.0)
        assert asked == [connection.transport]


# Everything beside


async def test_readers_count_as_consumers_wherever_consumers_are_counted(gateway: Gateway) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await (await stack.enter_async_context(event_source(gateway))).read_until("caught_up")
        assert gateway.hub.info("demo").consumers == 3
        metrics = (await ask(gateway, "GET", "/metrics")).text
        assert 'deltawire_connections{role="consumer"} 3.0' in metrics
        assert 'deltawire_consumers{state="live"} 3.0' in metrics
        say(gateway.hub.get("demo"), 5)
        gateway.hub.flush()
        assert "deltawire_deliveries_total 15.0" in (await ask(gateway, "GET", "/metrics")).text


async def test_readers_at_the_head_share_what_is_encoded(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    async with AsyncExitStack() as stack:
        sources = [await stack.enter_async_context(event_source(gateway)) for _ in range(5)]
        for source in sources:
            await source.read_until("caught_up")
        encoded = []
        relay = EventStream.relay

        def count(encoding: EventStream, payload: bytes, seq: int) -> bytes:
            encoded.append(seq)
            return relay(encoding, payload, seq)

        monkeypatch.setattr(EventStream, "relay", count)
        gateway.hub.get("demo").send_nowait(TextDelta("x"))
        assert len({(await source.read_until("message"))[0] for source in sources}) == 1
    assert encoded == [1]


async def test_it_is_served_over_tls(start_gateway: StartGateway, tmp_path: Path) -> None:
    files = make_certificates(tmp_path)
    gateway = await start_gateway(**files.settings)
    fill(gateway, "The", " fox")
    async with httpx.AsyncClient(verify=files.context(), trust_env=False) as client:
        url = f"{gateway.url.replace('wss:', 'https:')}/v1/streams/demo/sse"
        async with client.stream("GET", url) as response:
            lines = response.aiter_lines()
            async for line in lines:
                if line == "event: caught_up":
                    break
        await is_over(gateway)
        async with client.stream("GET", url) as response:
            gateway.hub.close("demo")
            assert "event: stream_end" in [line async for line in response.aiter_lines()]
    await is_over(gateway)


async def test_a_connection_says_what_it_is(gateway: Gateway) -> None:
    async with event_source(gateway) as source:
        await source.read_until("caught_up")
        [connection] = gateway._connections
        assert isinstance(connection, GatewayConnection)
        assert connection.record.role == "consumer"
        assert connection.may_be_shed
