"""A connection is opened while a request is read, and harms nobody if it is not needed after all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from deltawire.gateway.proxy import Proxy
from deltawire.gateway.proxy.upstream import MAX_KEPT, Upstream, UpstreamFailed
from tests.proxy.upstream import calling
from tests.proxy.upstream import serving as serving_proxy
from tests.support.serving import listening
from tests.support.waiting import eventually, turn

NOWHERE = "ws://127.0.0.1:1"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.fixture(autouse=True)
async def failures() -> AsyncIterator[None]:
    """The event loop is told of no failure that nobody has seen."""
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    yield
    assert not told


class Server:
    """Answers each request.

    Attributes:
        connections: so far.
        asked: by number of the connection.
        left: connections that the other side has closed.
    """

    def __init__(self) -> None:
        self.connections: list[asyncio.StreamWriter] = []
        self.asked: list[int] = []
        self.left = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(self.connections)
        self.connections.append(writer)
        data = b""
        while piece := await reader.read(65536):
            data += piece
            if data.endswith((b"\r\n\r\n", b"body")):
                self.asked.append(number)
                writer.write(ANSWER)
                data = b""
        self.left += 1
        writer.close()


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Server, str]]:
    it = Server()
    async with listening(it.serve) as port:
        yield it, f"http://127.0.0.1:{port}"
        await eventually(lambda: it.left == len(it.connections), "that no connection is left")


async def get(aims: Upstream) -> bytes:
    async with aims.pass_on("GET", b"/", [], None) as passed:
        return await passed.read()


async def test_requests_take_those_that_are_being_opened_and_others_only_when_there_are_none() -> None:
    async with serving() as (it, url):
        aims = Upstream(url)
        aims.connect_soon()
        aims.connect_soon()
        assert await asyncio.gather(*[get(aims) for _ in range(3)]) == [b"ok"] * 3
        assert len(it.connections) == 3
        await aims.aclose()


async def test_one_that_no_request_takes_is_kept_for_the_next_and_none_is_opened_meanwhile() -> None:
    async with serving() as (it, url):
        proxy = Proxy(url, NOWHERE)
        aims = proxy._upstream
        proxy.expect(b"/v1/models")
        await eventually(lambda: aims._kept, "that it is kept")
        proxy.expect(b"/v1/models")
        await turn()
        assert await get(aims) == b"ok"
        assert len(it.connections) == 1
        await proxy.aclose(0)


async def test_one_that_the_upstream_closes_first_is_not_used() -> None:
    async with serving() as (it, url):
        aims = Upstream(url)
        aims.connect_soon()
        await eventually(lambda: aims._kept, "that it is kept")
        it.connections[0].close()
        await eventually(lambda: it.left, "that it is closed on both sides")
        assert await get(aims) == b"ok"
        assert it.asked == [1]
        await aims.aclose()


async def test_where_none_can_be_opened_the_request_says_so_and_no_one_else() -> None:
    aims = Upstream("http://127.0.0.1:1")
    aims.connect_soon()
    with pytest.raises(UpstreamFailed):
        await get(aims)
    aims.connect_soon()
    await eventually(lambda: not aims._opening, "the failure")
    await aims.aclose()


async def test_a_request_that_is_cancelled_as_its_connection_opens_leaves_it_for_the_next() -> None:
    async with serving() as (it, url):
        aims = Upstream(url)
        aims.connect_soon()
        [opening] = aims._opening
        asking = asyncio.create_task(get(aims))
        opening.add_done_callback(lambda _: asking.cancel())
        await asyncio.wait([asking])
        assert asking.cancelled()
        assert len(aims._kept) == 1
        assert await get(aims) == b"ok"
        assert len(it.connections) == 1
        await aims.aclose()


async def test_a_request_takes_the_one_that_was_begun_last_and_has_the_most_time_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    async with serving() as (it, url):
        aims = Upstream(url)
        with monkeypatch.context() as patch:
            patch.setattr(aims, "_connect", never)
            aims.connect_soon()
            await turn(1)
        aims.connect_soon()
        async with asyncio.timeout(5):
            assert await get(aims) == b"ok"
        assert len(it.connections) == 1
        await aims.aclose()


async def test_no_more_are_opened_ahead_than_can_be_kept() -> None:
    async with serving() as (_, url):
        proxy = Proxy(url, NOWHERE)
        for _ in range(10 * MAX_KEPT):
            proxy.expect(b"/v1/models")
        assert len(proxy._upstream._opening) == MAX_KEPT
        await proxy.aclose(0)


async def test_one_that_is_being_opened_at_the_end_is_given_up() -> None:
    async with serving() as (_, url):
        aims = Upstream(url)
        aims.connect_soon()
        await turn(1)
        await aims.aclose()
        assert not aims._opening
        assert not aims._kept


async def test_a_caller_whose_body_is_yet_to_come_is_connected_meanwhile() -> None:
    async with serving() as (it, url), serving_proxy(url, NOWHERE) as served, calling(served.url) as peer:
        await peer.send(b"POST /v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n")
        await eventually(lambda: it.connections, "the connection")
        assert not it.asked
        await peer.send(b"body")
        assert b" 200 " in await peer.read_head()
        assert it.asked == [0]


async def test_a_caller_who_asks_for_several_things_at_once_gets_them_by_one_connection() -> None:
    async with serving() as (it, url), serving_proxy(url, NOWHERE) as served, calling(served.url) as peer:
        await peer.send(GET * 3)
        await eventually(lambda: len(it.asked) == 3, "the requests")
        assert it.asked == [0, 0, 0]


@pytest.mark.parametrize("target", [b"/deltawire/livez", b"/deltawire/metrics?x", b"http://h/deltawire/livez", b"h:1"])
async def test_nothing_is_opened_for_what_the_proxy_answers_itself(target: bytes) -> None:
    proxy = Proxy("http://127.0.0.1:1", NOWHERE)
    proxy.expect(target)
    assert not proxy._upstream._opening
    await proxy.aclose(0)


@pytest.mark.parametrize("is_leaving", [True, False])
async def test_nothing_is_opened_for_requests_that_are_refused(*, is_leaving: bool) -> None:
    proxy = Proxy("http://127.0.0.1:1", NOWHERE, max_requests=1 if is_leaving else 0)
    if is_leaving:
        await proxy.aclose(0)
    proxy.expect(b"/v1/models")
    assert not proxy._upstream._opening
    await proxy.aclose(0)
