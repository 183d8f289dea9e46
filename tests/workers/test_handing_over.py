"""Every connection reaches the worker that its stream lives in, whichever accepted it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from itertools import product

import httpx

from tests.support.rawpeer import HANDSHAKE, text
from tests.workers.gateways import StartWorkers, streams_of


def ways() -> Iterator[tuple[str, int]]:
    """Yield streams of either worker, each with the worker that accepts who asks for it."""
    for accepted_by in (0, 1):
        for owner in (0, 1):
            yield next(streams_of(owner, prefix=f"s{accepted_by}-")), accepted_by


def delta(word: str) -> bytes:
    return text({"type": "text_delta", "data": {"text": word}})


async def test_producers_and_consumers_meet_whoever_accepted_them(start_workers: StartWorkers) -> None:
    gateway = await start_workers()
    for stream, accepted_by in ways():
        consumers = [await gateway.connect(worker) for worker in (0, 1)]
        for consumer in consumers:
            assert b" 101 " in await consumer.upgrade(f"/v1/streams/{stream}/subscribe")
            await consumer.read_until("caught_up")
        producer = await gateway.connect(accepted_by)
        assert b" 101 " in await producer.upgrade(f"/v1/streams/{stream}/publish")
        await producer.read_until("ready")
        for word in ("one", "two", "three"):
            await producer.send(delta(word))
        await producer.send(text({"type": "close_stream"}))
        for consumer in consumers:
            messages, code = await consumer.read_ending()
            said = "".join(it["data"]["text"] for it in messages if it["type"] == "text_delta")
            assert (said, messages[-1]["type"], code) == ("onetwothree", "stream_end", 1000)
        messages, code = await producer.read_ending()
        assert (messages[-1]["seq"], code) == (3, 1000)


async def test_requests_about_a_stream_are_answered_whoever_accepted_them(start_workers: StartWorkers) -> None:
    gateway = await start_workers()
    for stream, accepted_by in ways():
        answers = []
        for method, tail in (("PUT", ""), ("PUT", ""), ("GET", ""), ("GET", "/events"), ("DELETE", ""), ("GET", "/no")):
            peer = await gateway.connect(accepted_by)
            await peer.send(f"{method} /v1/streams/{stream}{tail} HTTP/1.1\r\n\r\n".encode())
            answers.append(int((await peer.read_head()).split()[1]))
        assert answers == [201, 409, 200, 200, 200, 404]


async def test_a_request_may_come_byte_by_byte(start_workers: StartWorkers) -> None:
    gateway = await start_workers()
    for stream, accepted_by in ways():
        peer = await gateway.connect(accepted_by)
        peer.sock.setsockopt(6, 1, 1)  # TCP_NODELAY
        for byte in HANDSHAKE.format(path=f"/v1/streams/{stream}/subscribe", headers="").encode():
            await peer.send(bytes((byte,)))
            await asyncio.sleep(0)
        assert b" 101 " in await peer.read_head()
        assert (await peer.read_message())["stream"] == stream


async def test_bodies_are_published_whoever_accepted_them(start_workers: StartWorkers) -> None:
    gateway = await start_workers()
    lines = b'{"type":"text_delta","data":{"text":"%b"}}\n' % (b"x" * 200) * 2000
    for stream, accepted_by in ways():
        head = f"POST /v1/streams/{stream}/events HTTP/1.1\r\nContent-Type: application/x-ndjson\r\n"
        for body, seq in ((lines[: len(lines) // 200], 10), (lines, 2010)):
            peer = await gateway.connect(accepted_by)
            await peer.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            assert b" 200 " in await peer.read_head()
            assert json.loads(await peer.read_rest())["seq"] == seq


async def test_a_request_that_is_never_complete_is_dropped_in_time(start_workers: StartWorkers) -> None:
    gateway = await start_workers("--handshake-timeout=0.3")
    for stream, accepted_by in ways():
        peer = await gateway.connect(accepted_by)
        await peer.send(f"GET /v1/streams/{stream} HTTP/1.1\r\nHost: ".encode())
        assert await peer.read_rest() == b""


async def test_what_comes_after_a_plain_request_does_no_harm(start_workers: StartWorkers) -> None:
    gateway = await start_workers()
    for stream, accepted_by in ways():
        peer = await gateway.connect(accepted_by)
        one = f"PUT /v1/streams/{stream} HTTP/1.1\r\nHost: gateway\r\n\r\n".encode()
        await peer.send(one + one)
        rest = await peer.read_rest()
        assert rest.count(b"HTTP/1.1") == 1, "as with one process"
        assert b" 201 " in rest


async def test_frames_that_come_before_the_answer_to_a_handshake_end_it(start_workers: StartWorkers) -> None:
    gateway = await start_workers()
    for stream, accepted_by in ways():
        peer = await gateway.connect(accepted_by)
        head = HANDSHAKE.format(path=f"/v1/streams/{stream}/publish", headers="").encode()
        await peer.send(head + delta("early"))
        assert await peer.read_rest() == b"", "as with one process: RFC 6455 §4.1"


async def test_a_request_too_long_for_one_message_is_refused(start_workers: StartWorkers) -> None:
    gateway = await start_workers()
    for stream, accepted_by in ways():
        peer = await gateway.connect(accepted_by)
        headers = "".join(f"X-{number}: {'x' * 8000}\r\n" for number in range(10))
        await peer.send(f"GET /v1/streams/{stream} HTTP/1.1\r\n{headers}\r\n".encode())
        status = int((await peer.read_head()).split()[1])
        assert status in (404, 431)


async def test_half_a_request_before_a_hang_up_is_refused(
    start_workers: StartWorkers, client: httpx.AsyncClient
) -> None:
    gateway = await start_workers()
    for stream, accepted_by in ways():
        peer = await gateway.connect(accepted_by)
        await peer.send(f"GET /v1/streams/{stream} HTTP/1.1\r\n".encode())
        peer.finish_sending()
        assert (await peer.read_rest()).startswith(b"HTTP/1.1 400 ")
        assert (await client.get(f"{gateway.http}/readyz")).status_code == 200


async def test_what_is_no_request_is_refused(start_workers: StartWorkers) -> None:
    gateway = await start_workers()
    for accepted_by, nonsense in product(
        (0, 1), (b"\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET /v1/streams/\xff HTTP/1.1\r\n\r\n")
    ):
        peer = await gateway.connect(accepted_by)
        await peer.send(nonsense)
        assert b" 400 " in await peer.read_head(), nonsense


async def test_a_worker_that_is_stopped_gets_what_it_was_handed_when_it_goes_on(start_workers: StartWorkers) -> None:
    gateway = await start_workers()
    for accepted_by in (0, 1):
        stream = next(streams_of(1 - accepted_by))
        with gateway.stopped(1 - accepted_by):
            peer = await gateway.open()
            await peer.send(HANDSHAKE.format(path=f"/v1/streams/{stream}/subscribe", headers="").encode())
            await gateway.subscribe(next(streams_of(accepted_by)))
        assert b" 101 " in await peer.read_head()
