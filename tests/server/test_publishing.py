"""Producers over plain HTTP: `POST /v1/streams/{id}/events` (SPEC §9.6)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from deltawire.gateway.config import Settings
from deltawire.gateway.engines.sqlite import SqliteEngine
from deltawire.gateway.hub import Hub, fair_queue
from deltawire.gateway.hub.fair_queue import FairQueue
from deltawire.gateway.hub.presence import NORMAL
from deltawire.gateway.middleware import make_middleware, split_thinking
from deltawire.gateway.server import Gateway
from deltawire.gateway.server.admission.auth import end_expired
from deltawire.gateway.server.connection.memory import CONNECTION_COST
from deltawire.gateway.server.connection.upload import Upload
from deltawire.gateway.streams import staging
from deltawire.gateway.streams.view import View
from deltawire.protocol.codec import JSON
from deltawire.protocol.framing import payloads
from deltawire.protocol.priority import RANKS, StreamClass
from tests.server.conftest import StartGateway
from tests.support.asking import http_client
from tests.support.minting import bearer, everything, token, write_secret
from tests.support.peers import consumer, producer, publish, text_delta, text_of, types_of
from tests.support.rawpeer import RawPeer
from tests.support.waiting import eventually

NDJSON = "application/x-ndjson"
START = {"type": "message_start", "data": {"message_id": "m"}}
STOP = {"type": "message_stop", "data": {"message_id": "m", "stop_reason": "end_turn"}}


def lines(events: Iterable[Any]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


async def post(
    gateway: Gateway, body: Any, query: str = "", kind: str = "application/json", **headers: str
) -> httpx.Response:
    """Publish a body: a value as JSON, bytes as they are, in chunks where they come from an iterator."""
    content = body if isinstance(body, bytes) or hasattr(body, "__aiter__") else json.dumps(body).encode()
    async with http_client(base_url=f"http://127.0.0.1:{gateway.port}") as client:
        return await client.post(
            f"/v1/streams/demo/events?{query}", content=content, headers={"Content-Type": kind} | headers
        )


def texts(gateway: Gateway) -> list[str]:
    """The texts in stream `demo`."""
    log = gateway.hub.manager.get("demo").log
    frames = View(log, JSON, None).raw(log.floor - 1, log.head, 1 << 20).data
    events = [json.loads(it) for it in payloads(frames)]
    return [event["data"]["text"] for event in events if event["type"] == "text_delta"]


@asynccontextmanager
async def posting(gateway: Gateway, query: str = "", headers: str = "") -> AsyncIterator[RawPeer]:
    """A request whose body is sent by hand, in chunks; its producer is there."""
    it = await RawPeer.connect(gateway.port)
    try:
        await it.send(
            f"POST /v1/streams/demo/events?{query} HTTP/1.1\r\nHost: g\r\nContent-Type: {NDJSON}\r\n"
            f"Transfer-Encoding: chunked\r\n{headers}\r\n".encode()
        )
        yield it
    finally:
        it.close()


async def wait_for_one(gateway: Gateway) -> None:
    """Wait until stream `demo` has an event."""
    manager = gateway.hub.manager
    await eventually(lambda: manager.has("demo") and manager.get("demo").log.head, "an event")


async def send_chunk(it: RawPeer, data: bytes) -> None:
    await it.send(b"%x\r\n%b\r\n" % (len(data), data))


async def read_answer(it: RawPeer) -> tuple[int, dict[str, Any]]:
    """Status and body of an answer."""
    head = await it.read_head()
    body = json.loads(await it.read_rest())
    assert isinstance(body, dict)
    return int(head.split(b" ")[1]), body


async def test_an_event_an_array_and_lines_are_published_in_order(gateway: Gateway) -> None:
    assert (await post(gateway, text_delta("a"))).json()["seq"] == 1
    assert (await post(gateway, [text_delta("b"), text_delta("c")])).json()["seq"] == 3
    response = await post(gateway, lines([text_delta("d"), [text_delta("e")]]) + b"\r\n \n", kind=NDJSON)
    assert response.status_code == 200
    assert response.json() == {"stream": "demo", "epoch": gateway.hub.manager.get("demo").epoch, "seq": 5}
    assert texts(gateway) == ["a", "b", "c", "d", "e"]


async def test_messagepack_is_taken_whole(gateway: Gateway) -> None:
    body = msgspec.msgpack.encode([text_delta("a"), text_delta("b")])
    assert (await post(gateway, body, kind="application/msgpack")).json()["seq"] == 2
    assert texts(gateway) == ["a", "b"]


async def test_lines_are_published_as_they_come(gateway: Gateway) -> None:
    async with consumer(gateway) as reading, posting(gateway) as it:
        await send_chunk(it, lines([text_delta("a")]) + b'{"type":"text_')
        assert text_of(await reading.read_until("text_delta")) == "a"
        await send_chunk(it, b'delta","data":{"text":"b"}}\n')
        assert text_of(await reading.read_until("text_delta")) == "b"
        await it.send(b"0\r\n\r\n")
        assert await read_answer(it) == (
            200,
            {"stream": "demo", "epoch": gateway.hub.manager.get("demo").epoch, "seq": 2},
        )


async def test_a_repeat_is_answered_again_and_not_appended_again(gateway: Gateway) -> None:
    numbered = [text_delta(text, producer_seq=number) for number, text in enumerate("abc", 1)]
    first = await post(gateway, numbered[:2], "producer=p")
    again = await post(gateway, numbered, "producer=p")
    assert (first.json()["producer_seq"], again.json()["producer_seq"], again.json()["seq"]) == (2, 3, 3)
    assert texts(gateway) == ["a", "b", "c"]


async def test_a_hole_is_409_and_says_what_is_expected(gateway: Gateway) -> None:
    response = await post(gateway, text_delta("c", producer_seq=3), "producer=p")
    body = response.json()
    assert (response.status_code, body["code"], body["problems"][0]["expected"]) == (409, "sequence_gap", 1)
    assert response.headers["content-type"] == "application/problem+json"


async def test_an_older_generation_is_409_and_so_is_one_that_is_fenced_while_it_sends(gateway: Gateway) -> None:
    async with posting(gateway, "producer=p&generation=1") as it:
        await send_chunk(it, lines([text_delta("a", producer_seq=1)]))
        await wait_for_one(gateway)
        assert (await post(gateway, [], "producer=p&generation=2")).status_code == 200
        status, body = await read_answer(it)
        assert (status, body["code"], body["producer_seq"]) == (409, "fenced", 1)
    response = await post(gateway, [], "producer=p&generation=1")
    assert (response.status_code, response.json()["code"]) == (409, "fenced")


async def test_each_event_is_judged_by_itself_and_a_problem_names_its_line(gateway: Gateway) -> None:
    body = lines([text_delta("a"), {"type": "text_delta"}, text_delta("b")]) + b"\n{\n" + lines([text_delta("c")])
    response = await post(gateway, body, kind=NDJSON)
    told = response.json()
    assert (response.status_code, told["seq"], told["code"]) == (400, 3, "invalid_event")
    assert [problem["line"] for problem in told["problems"]] == [2, 5]
    assert told["detail"] == told["problems"][0]["message"]
    assert texts(gateway) == ["a", "b", "c"]


async def test_of_many_problems_some_are_told_and_the_rest_counted(gateway: Gateway) -> None:
    told = (await post(gateway, lines([{"type": "x"}] * 100), kind=NDJSON)).json()
    assert (len(told["problems"]), told["untold"]) == (64, 36)


async def test_a_stream_is_closed_by_a_line_and_takes_no_more(gateway: Gateway) -> None:
    async with consumer(gateway) as reading:
        response = await post(gateway, lines([text_delta("a"), {"type": "close_stream"}]), kind=NDJSON)
        assert (response.status_code, response.json()["seq"]) == (200, 1)
        assert types_of(await reading.read_all())[-2:] == ["text_delta", "stream_end"]
    response = await post(gateway, text_delta("b"))
    assert (response.status_code, response.json()["code"]) == (409, "stream_closed")


async def test_what_follows_the_end_of_the_stream_in_a_body_is_refused_with_its_line(gateway: Gateway) -> None:
    body = lines([text_delta("a"), {"type": "close_stream"}, text_delta("b")])
    response = await post(gateway, body, kind=NDJSON)
    told = response.json()
    assert (response.status_code, told["code"], told["seq"]) == (409, "stream_closed", 1)
    assert told["problems"][0]["line"] == 3
    assert texts(gateway) == ["a"]


async def test_a_message_goes_on_over_requests_and_a_producer_that_does_not_return_is_told_of(
    start_gateway: StartGateway,
) -> None:
    gateway = await start_gateway()
    async with consumer(gateway) as reading:
        for event in (START, text_delta("a"), STOP, {**START, "data": {"message_id": "n"}}):
            assert (await post(gateway, event)).status_code == 200
        stream = gateway.hub.manager.get("demo")
        assert stream.leases.is_running
        gateway.hub.dispatcher.expire_leases(gateway.hub.now() + 60)
        messages = await reading.read_until("error")
        messages += await reading.read_until("message_stop")
    assert types_of(messages)[2:] == [
        "message_start",
        "text_delta",
        "message_stop",
        "message_start",
        "error",
        "message_stop",
    ]


async def test_a_producer_has_left_when_its_answer_is_there(gateway: Gateway) -> None:
    for number in range(1, 20):
        await post(gateway, text_delta("a", producer_seq=number), "producer=p")
        assert gateway.hub.info("demo").producers == 0


async def test_a_signal_is_not_passed_on_to_whoever_can_not_read_it(gateway: Gateway) -> None:
    async with consumer(gateway) as reading, posting(gateway) as it:
        await send_chunk(it, lines([text_delta("a")]))
        await reading.read_until("text_delta")
        await reading.say({"type": "signal", "name": "cancel", "id": "s"})
        assert (await reading.read_until("signal_result"))[-1]["delivered"] == 0


@pytest.mark.parametrize(
    ("query", "status"),
    [("producer=", 400), ("generation=1", 400), ("nonsense=1", 400), ("on_full=reject", 200)],
)
async def test_parameters_are_those_of_publish(gateway: Gateway, query: str, status: int) -> None:
    assert (await post(gateway, text_delta("a"), query)).status_code == status


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("Content-Type: application/json", 411),
        ("Content-Type: application/json\r\nContent-Length: 5\r\nContent-Length: 5", 400),
        ("Content-Type: application/json\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", 400),
        ("Content-Type: application/json\r\nContent-Length: 0\r\nContent-Length: 5", 400),
        ("Content-Type: application/json\r\nContent-Length: 5\r\nContent-Length: 0", 400),
        ("Content-Type: application/json\r\nContent-Length: -1", 400),
        ("Content-Type: text/plain\r\nContent-Length: 5", 415),
        ("Content-Length: 5", 415),
        ("Content-Type: application/json\r\nTransfer-Encoding: gzip", 501),
        ("Content-Type: application/json\r\nContent-Length: 0", 400),
    ],
)
async def test_a_body_that_can_not_be_read_is_refused(gateway: Gateway, head: str, status: int) -> None:
    it = await RawPeer.connect(gateway.port)
    await it.send(f"POST /v1/streams/demo/events HTTP/1.1\r\nHost: g\r\n{head}\r\n\r\nhello".encode())
    answered, body = await read_answer(it)
    assert (answered, body["status"]) == (status, status)
    it.close()


async def test_chunks_that_are_none_end_the_request_and_what_came_before_is_told(gateway: Gateway) -> None:
    async with posting(gateway, "producer=p") as it:
        await send_chunk(it, lines([text_delta("a", producer_seq=1)]))
        await wait_for_one(gateway)
        await it.send(b"nonsense\r\n")
        status, body = await read_answer(it)
    assert (status, body["producer_seq"], texts(gateway)) == (400, 1, ["a"])
    assert "hexadecimal" in body["detail"]


async def test_a_body_that_is_cut_short_is_told_and_its_last_line_is_not_taken(gateway: Gateway) -> None:
    async with posting(gateway) as it:
        await send_chunk(it, lines([text_delta("a")]) + json.dumps(text_delta("b")).encode())
        it.finish_sending()
        status, body = await read_answer(it)
    assert (status, body["seq"], texts(gateway)) == (400, 1, ["a"])
    assert "ends before" in body["detail"]


async def test_who_hangs_up_its_side_behind_the_body_is_answered(gateway: Gateway) -> None:
    it = await RawPeer.connect(gateway.port)
    body = json.dumps(text_delta("a")).encode()
    head = f"POST /v1/streams/demo/events HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    await it.send(head.encode() + b"\r\n\r\n" + body)
    it.finish_sending()
    assert (await read_answer(it))[0] == 200
    it.close()


async def test_a_message_that_is_too_long_is_413(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(max_message=1000)
    response = await post(gateway, text_delta("x" * 1000))
    assert (response.status_code, response.json()["code"]) == (413, "message_too_big")
    assert "max_message (1000 bytes)" in response.json()["detail"]
    response = await post(gateway, lines([text_delta("a"), text_delta("x" * 1000)]), kind=NDJSON)
    assert response.status_code == 413
    assert "line 2" in response.json()["detail"]
    assert gateway.hub.info("demo").head == 1, "line 1 had no problem"


async def test_the_first_problem_decides_the_status_whatever_follows(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(max_message=1000)
    async with posting(gateway) as it:
        await send_chunk(it, lines([{"type": "x"}, text_delta("a")]))
        await wait_for_one(gateway)
        await send_chunk(it, lines([text_delta("x" * 1000)]))
        status, told = await read_answer(it)
    assert (status, told["code"]) == (400, "invalid_event")
    assert [problem["code"] for problem in told["problems"]] == ["invalid_event", "message_too_big"]


async def test_a_long_body_of_lines_is_taken_whatever_its_length_and_little_of_it_is_held(gateway: Gateway) -> None:
    held: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        for number in range(200):
            yield lines([text_delta("x" * 990)] * 50)
            if number:
                [connection] = gateway._connections
                held.append(connection.held_bytes - CONNECTION_COST)

    response = await post(gateway, body(), kind=NDJSON)
    assert (response.status_code, response.json()["seq"]) == (200, 10_000)
    assert max(held) < 1024 * 1024


async def test_events_that_come_too_fast_are_429(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(message_rate=10)
    response = await post(gateway, lines([text_delta("x")] * 6000), kind=NDJSON)
    assert (response.status_code, response.json()["code"]) == (429, "rate_limited")
    assert "message_rate" in response.json()["detail"]
    assert int(response.headers["retry-after"]) > 0


async def test_a_body_that_does_not_go_on_is_408_and_a_line_keeps_it_alive(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    async with posting(gateway) as it:
        await send_chunk(it, lines([text_delta("a")]))
        await wait_for_one(gateway)
        [connection] = gateway._connections
        heard = connection.last_heard
        await send_chunk(it, b"\n")
        await eventually(lambda: connection.last_heard > heard)
        assert connection.keep_alive(connection.last_heard + 39, 20, 20)
        assert not connection.is_finished
        connection.keep_alive(connection.last_heard + 40, 20, 20)
        status, body = await read_answer(it)
    assert (status, body["code"], body["seq"]) == (408, "idle", 1)
    assert "ping_interval" in body["detail"]


async def test_a_client_that_asks_whether_to_send_is_told_to(gateway: Gateway) -> None:
    async with posting(gateway, headers="Expect: 100-continue\r\n") as it:
        assert await it.read_head() == b"HTTP/1.1 100 Continue"
        await send_chunk(it, lines([text_delta("a")]))
        await it.send(b"0\r\n\r\n")
        assert (await read_answer(it))[0] == 200


async def test_one_that_is_refused_is_not_told_to(start_gateway: StartGateway, tmp_path: Path) -> None:
    gateway = await start_gateway(auth_key=write_secret(tmp_path))
    async with posting(gateway, headers="Expect: 100-continue\r\n") as it:
        assert (await read_answer(it))[0] == 401
    assert not gateway.hub.count()


async def test_it_takes_the_right_to_publish(start_gateway: StartGateway, tmp_path: Path) -> None:
    gateway = await start_gateway(auth_key=write_secret(tmp_path))
    assert (await post(gateway, text_delta("a"), **bearer(token(publish=["demo"])))).status_code == 200
    others = token(publish=["other"], subscribe=["*"], signal=["*"], admin=["*"])
    assert (await post(gateway, text_delta("b"), **bearer(others))).status_code == 403
    assert (await post(gateway, text_delta("b"))).status_code == 401
    assert texts(gateway) == ["a"]


async def test_a_body_outlives_no_token(start_gateway: StartGateway, tmp_path: Path) -> None:
    gateway = await start_gateway(auth_key=write_secret(tmp_path))
    async with posting(gateway, headers=f"Authorization: Bearer {everything()}\r\n") as it:
        await send_chunk(it, lines([text_delta("a")]))
        await wait_for_one(gateway)
        [connection] = gateway._connections
        end_expired(connection)
        head = await it.read_head()
        assert head.startswith(b"HTTP/1.1 401 ")
        assert b"WWW-Authenticate: Bearer" in head


async def test_a_gateway_that_shuts_down_says_what_it_took(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(drain_timeout=5)
    async with posting(gateway, "producer=p") as it:
        await send_chunk(it, lines([text_delta("a", producer_seq=1)]))
        await wait_for_one(gateway)
        async with asyncio.TaskGroup() as group:
            group.create_task(gateway.drain())
            status, body = await read_answer(it)
            it.close()
    assert (status, body["code"], body["producer_seq"]) == (503, "shutting_down", 1)


async def test_a_block_consumer_that_is_full_holds_the_body_up(gateway: Gateway) -> None:
    async with consumer(gateway, "policy=block&buffer=1") as reading:
        await reading.read_until("caught_up")
        response = await post(gateway, lines(text_delta(str(number)) for number in range(500)), kind=NDJSON)
        assert response.json()["seq"] == 500
        messages = await reading.read_until("text_delta", seq=500)
    assert text_of(messages) == "".join(map(str, range(500)))


async def test_nothing_is_left_of_requests_that_are_broken_off(gateway: Gateway) -> None:
    for _ in range(20):
        async with posting(gateway) as it:
            await send_chunk(it, lines([text_delta("a")]) + b"{")
            await eventually(lambda: gateway._connections)
            it.reset()
        await eventually(lambda: not gateway._connections)
    await eventually(lambda: gateway.hub.info("demo").producers == 0)
    await eventually(lambda: gateway.connections == 0)
    assert gateway.hub.manager.elsewhere == 0


async def test_without_memory_it_is_503(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(memory_limit=1024 * 1024)
    gateway.hub.deadlines.remove(gateway._housekeeping)
    gateway.hub.manager.elsewhere += 1024 * 1024
    response = await post(gateway, text_delta("a"))
    assert response.status_code == 503
    assert "memory_limit" in response.json()["detail"]
    gateway.hub.manager.elsewhere -= 1024 * 1024


async def test_bodies_that_hold_much_are_ended_and_counted(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(memory_limit=1024 * 1024, max_message=1024 * 1024)
    async with posting(gateway) as it:
        await send_chunk(it, b"x" * (1024 * 1024 - 100))
        status, body = await read_answer(it)
    assert (status, body["code"]) == (503, "overloaded")
    await eventually(lambda: gateway.hub.manager.elsewhere == 0)


async def test_bodies_wait_in_the_line_of_their_streams_class(
    start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await start_gateway(stream_classes="demo=low")
    entered: list[int] = []
    enter = FairQueue.enter

    def note(queue: FairQueue, step: Callable[[], None], rank: int = NORMAL) -> None:
        if isinstance(getattr(step, "__self__", None), Upload):
            entered.append(rank)
        enter(queue, step, rank)

    monkeypatch.setattr(FairQueue, "enter", note)
    monkeypatch.setattr(fair_queue, "STEP_SLICE", 0.0)
    assert (await post(gateway, text_delta("a"))).status_code == 200
    assert set(entered) == {RANKS[StreamClass.LOW]}


async def test_chunks_of_a_byte_hold_nobody_up(gateway: Gateway) -> None:
    body = lines([text_delta("x" * 50_000)])
    async with posting(gateway) as it, asyncio.TaskGroup() as group:
        sending = group.create_task(it.send(b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"))
        turns = 0
        while not (gateway.hub.manager.has("demo") and gateway.hub.manager.get("demo").log.head):
            await asyncio.sleep(0)
            turns += 1
        await sending
        assert (await read_answer(it))[0] == 200
    assert turns > 10


async def test_a_page_of_an_allowed_origin_may_post_and_read_the_answer(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(allowed_origins="https://a.example")
    response = await post(gateway, text_delta("a"), Origin="https://a.example")
    assert (response.status_code, response.headers["access-control-allow-origin"]) == (200, "https://a.example")
    assert (await post(gateway, text_delta("a"), Origin="https://b.example")).status_code == 403


async def test_what_is_stored_is_committed_before_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"port": 0, "data_dir": str(tmp_path), "drain_timeout": 0.2}
    async with Gateway(Settings(**settings)) as gateway:
        numbered = [text_delta(text, producer_seq=number) for number, text in enumerate("ab", 1)]
        response = await post(gateway, numbered, "producer=p")
        assert (response.json()["seq"], response.json()["producer_seq"]) == (2, 2)
        committed: list[int] = []
        commit = SqliteEngine.commit

        def count(engine: SqliteEngine, *args: Any, **kwargs: Any) -> Any:
            committed.append(1)
            return commit(engine, *args, **kwargs)

        monkeypatch.setattr(SqliteEngine, "commit", count)
        await post(gateway, lines([text_delta("c", producer_seq=3), {"type": "close_stream"}]), "producer=p", NDJSON)
        assert committed
        epoch = gateway.hub.manager.get("demo").epoch
    async with Gateway(Settings(**settings)) as gateway, consumer(gateway) as reading:
        messages = await reading.read_all()
        assert messages[0]["epoch"] == epoch
        assert text_of(messages) == "abc"


async def test_the_answer_comes_after_what_middleware_holds_back_is_appended() -> None:
    settings = Settings(port=0, drain_timeout=0.2)
    middleware = make_middleware({"demo": (split_thinking(),)}, max_delay=3600)
    async with Hub(settings, middleware) as hub, Gateway(settings, hub) as gateway:
        assert (await post(gateway, text_delta("<"))).json()["seq"] == 1
        numbered = [text_delta(text, producer_seq=number) for number, text in enumerate(("a", "b<"), 1)]
        assert (await post(gateway, numbered, "producer=p")).json()["producer_seq"] == 2
        assert "".join(texts(gateway)) == "<ab<"


@asynccontextmanager
async def without_room(folder: Path) -> AsyncIterator[Gateway]:
    """A gateway that commits nothing once its stream `demo` is there, and says that it fails once it has tried."""
    async with Gateway(Settings(port=0, data_dir=str(folder), drain_timeout=0.2)) as gateway:
        assert (await post(gateway, text_delta("a"))).status_code == 200
        engine = gateway.hub._engine
        assert isinstance(engine, SqliteEngine)
        engine._database.execute("PRAGMA max_page_count = 1")
        yield gateway
        engine._database.execute("PRAGMA max_page_count = 1073741823")
        await eventually(lambda: engine.failure is None, "that there is room again")


async def test_a_body_whose_commit_does_not_come_is_503_and_leaves_no_socket(tmp_path: Path) -> None:
    async with without_room(tmp_path) as gateway:
        response = await post(gateway, text_delta("x" * 60_000, producer_seq=1), "producer=p")
        assert (response.status_code, response.json()["code"]) == (503, "overloaded")
        assert "may be later: look before you try again (" in response.json()["detail"]
        assert "full" in response.json()["detail"]
        assert int(response.headers["retry-after"]) > 0
        await eventually(lambda: gateway.connections == 0)
        response = await post(gateway, text_delta("y", producer_seq=2), "producer=p")
        assert response.status_code == 503, "what it continues after is not stored either"
        await eventually(lambda: gateway.connections == 0)


@pytest.mark.parametrize("waits", [True, False], ids=["its peer waits", "its peer has left"])
async def test_a_body_that_waits_for_room_is_503_when_nothing_can_be_stored_and_leaves_no_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, waits: bool
) -> None:
    monkeypatch.setattr(staging, "MAX_STAGED", 50_000)
    async with without_room(tmp_path) as gateway:
        async with posting(gateway) as it:
            await send_chunk(it, lines(text_delta("x" * 60_000) for _ in range(3)))
            if waits:
                status, told = await read_answer(it)
                assert (status, told["code"]) == (503, "overloaded")
                assert "full" in told["detail"]
        await eventually(lambda: gateway.hub.storage_failure, "that the disk is full")
        await eventually(lambda: gateway.connections == 0)


async def test_other_producers_go_on_beside_it(gateway: Gateway) -> None:
    async with producer(gateway) as writing:
        await publish(writing, text_delta("a"), upto=1)
        assert (await post(gateway, text_delta("b"))).json()["seq"] == 2
        await publish(writing, text_delta("c"), upto=3)
    assert texts(gateway) == ["a", "b", "c"]


async def test_requests_leave_no_line_each_in_the_log(gateway: Gateway, logs: Any) -> None:
    await post(gateway, text_delta("a"))
    assert [entry["event"] for entry in logs if entry["log_level"] != "debug" and "upload" in entry["event"]] == []
    assert "producer.connected" not in [entry["event"] for entry in logs]
