"""Long polling: a page of events that is waited for (SPEC §9)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from deltawire.gateway.hub import LocalStream
from deltawire.gateway.server import Gateway
from deltawire.protocol.events import TextDelta
from tests.server.conftest import StartGateway
from tests.support.asking import http_client
from tests.support.minting import bearer, token, write_secret
from tests.support.peers import consumer, producer
from tests.support.rawpeer import RawPeer
from tests.support.waiting import eventually


async def ask(gateway: Gateway, query: str, **headers: str) -> httpx.Response:
    async with http_client(base_url=f"http://127.0.0.1:{gateway.port}", headers=headers) as client:
        return await client.get(f"/v1/streams/demo/events?{query}")


@asynccontextmanager
async def polling(gateway: Gateway, query: str) -> AsyncIterator[asyncio.Task[httpx.Response]]:
    """A request that waits."""
    stream = gateway.hub.manager.get("demo")
    before = stream.consumers
    async with asyncio.TaskGroup() as group:
        task = group.create_task(ask(gateway, query))
        await eventually(lambda: stream.consumers == before + 1, "that it waits")
        yield task


@pytest.fixture
def stream(gateway: Gateway) -> LocalStream:
    """Stream `demo` with two events."""
    local = gateway.hub.create("demo")
    local.send_nowait(TextDelta("a"))
    local.send_nowait(TextDelta("b"))
    return local


async def test_what_is_there_is_not_waited_for(gateway: Gateway, stream: LocalStream) -> None:
    response = await ask(gateway, "after=1&wait=60")
    assert [json.loads(line)["seq"] for line in response.text.splitlines()] == [2]
    assert response.headers["deltawire-epoch"] == stream.statistics().epoch


async def test_the_next_event_is_waited_for(gateway: Gateway, stream: LocalStream) -> None:
    async with polling(gateway, "after=2&wait=60") as task:
        stream.send_nowait(TextDelta("c"))
        stream.send_nowait(TextDelta("d"))
        response = await task
    assert [json.loads(line)["seq"] for line in response.text.splitlines()] == [3, 4]
    assert gateway.hub.manager.get("demo").consumers == 0


async def test_the_page_is_empty_when_nothing_came(gateway: Gateway, stream: LocalStream) -> None:
    response = await ask(gateway, "after=2&wait=1")
    assert (response.status_code, response.text) == (200, "")
    assert stream.statistics().head == 2


async def test_the_end_is_204(gateway: Gateway, stream: LocalStream) -> None:
    async with polling(gateway, "after=2&wait=60") as task:
        stream.close()
        assert (await task).status_code == 204
    assert (await ask(gateway, "after=2&wait=60")).status_code == 204
    assert (await ask(gateway, "after=1&wait=60")).status_code == 200
    assert (await ask(gateway, "after=2")).status_code == 200, "who does not wait gets an empty page, as ever"


async def test_a_stream_polled_to_its_end_is_whole(gateway: Gateway) -> None:
    stream = gateway.hub.create("demo")
    text, after = "", 0

    async def write() -> None:
        for number in range(30):
            stream.send_nowait(TextDelta(f"{number};"))
            await asyncio.sleep(0)
        stream.close()

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        while (response := await ask(gateway, f"after={after}&wait=60")).status_code == 200:
            for line in response.text.splitlines():
                event = json.loads(line)
                assert event["seq"] == after + 1
                text, after = text + event["data"]["text"], event["seq"]
    assert text == "".join(f"{number};" for number in range(30))


async def test_another_epoch_starts_over(gateway: Gateway, stream: LocalStream) -> None:
    response = await ask(gateway, "after=9&epoch=gone&wait=60")
    assert [json.loads(line)["seq"] for line in response.text.splitlines()] == [1, 2]
    assert response.headers["deltawire-epoch"] == stream.statistics().epoch


@pytest.mark.parametrize(
    ("query", "status"),
    [("wait=61", 400), ("wait=-1", 400), ("wait=x", 400), ("after=9&wait=1", 400), ("epoch=a%20b", 400)],
)
@pytest.mark.usefixtures("stream")
async def test_what_is_wrong_is_told_at_once(gateway: Gateway, query: str, status: int) -> None:
    assert (await ask(gateway, query)).status_code == status


async def test_a_stream_that_is_not_there_is_404(gateway: Gateway) -> None:
    assert (await ask(gateway, "wait=60")).status_code == 404
    assert gateway.hub.count() == 0


async def test_who_waits_is_a_consumer_and_counts_as_one(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(max_consumers=1)
    async with producer(gateway) as writing:
        async with polling(gateway, "wait=60") as task:
            assert (await writing.read_until("audience"))[-1]["consumers"] == 1
            assert (await ask(gateway, "wait=60")).status_code == 503
            gateway.hub.close("demo")
            await task
        assert gateway.hub.manager.get("demo").consumers == 0


async def test_one_that_hangs_up_waits_no_longer(gateway: Gateway, stream: LocalStream) -> None:
    for ends in (RawPeer.close, RawPeer.reset, RawPeer.finish_sending):
        peer = await RawPeer.connect(gateway.port)
        await peer.send(b"GET /v1/streams/demo/events?after=2&wait=60 HTTP/1.1\r\n\r\n")
        await eventually(lambda: stream.statistics().consumers == 1)
        ends(peer)
        await eventually(lambda: stream.statistics().consumers == 0)
        peer.close()
    await eventually(lambda: not gateway._accepted)
    assert gateway.hub.manager.elsewhere == 0


async def test_a_drain_waits_for_no_poll(gateway: Gateway, stream: LocalStream) -> None:
    async with polling(gateway, "after=2&wait=60") as task, consumer(gateway):
        draining = asyncio.create_task(gateway.drain())
        assert (await task).status_code == 200
        await draining
    assert stream.statistics().consumers == 0


async def test_a_token_must_allow_to_subscribe(start_gateway: StartGateway, tmp_path: Path) -> None:
    gateway = await start_gateway(auth_key=write_secret(tmp_path))
    gateway.hub.create("demo").close()
    assert (await ask(gateway, "wait=60", **bearer(token(subscribe=["demo"])))).status_code == 204
    assert (await ask(gateway, "wait=60", **bearer(token(admin=["demo"])))).status_code == 403
