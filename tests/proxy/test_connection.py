"""An answer ends where its head says, and what is left of it spoils no other request."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from deltawire.gateway.proxy.upstream import Upstream, UpstreamFailed
from tests.support.serving import listening
from tests.support.waiting import eventually

REFUSAL = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@asynccontextmanager
async def upstream(*answers: bytes) -> AsyncIterator[tuple[Upstream, list[asyncio.StreamWriter]]]:
    """A server that gives these answers in turn, the last one again and again, and its connections."""
    left = list(answers)
    connections: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(left.pop(0) if len(left) > 1 else left[0])
            await writer.drain()

    async with listening(answer) as port:
        aims = Upstream(f"http://127.0.0.1:{port}")
        try:
            yield aims, connections
        finally:
            await aims.aclose()


async def get(aims: Upstream) -> tuple[int, bytes]:
    async with asyncio.timeout(5), aims.pass_on("GET", b"/", [], None) as passed:
        body = b""
        while piece := await passed.read():
            body += piece
        return passed.status, body


async def test_an_answer_left_unread_does_not_keep_the_next_one_from_being_read() -> None:
    body = bytes(64 * 1024 + 1)  # reading stops with its last byte
    long = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    async with upstream(long, ANSWER) as (aims, _):
        async with aims.pass_on("GET", b"/", [], None) as passed:
            read: Any = passed.read
            await eventually(lambda: read.__self__._is_answered, "the answer is there")
        assert await get(aims) == (200, b"ok")


async def test_who_waits_for_a_piece_has_it_before_anyone_else_is_told() -> None:
    order: list[str] = []
    more = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        await more.wait()
        writer.write(b"last")

    async with listening(answer) as port:
        aims = Upstream(f"http://127.0.0.1:{port}")
        async with asyncio.timeout(5), aims.pass_on("GET", b"/", [], None) as passed:
            passed.follow(lambda _: order.append("told"), lambda _: order.append("told of the end"), 100)
            more.set()
            assert await passed.read() == b"last"
            order.append("read")
            await eventually(lambda: len(order) == 3, "the end")
        await aims.aclose()
    assert order == ["read", "told", "told of the end"]


@pytest.mark.parametrize("more", [b"HTTP/1.1 500 No\r\nContent-Length: 3\r\n\r\nbad", b"HTTP/1.1 500 N"])
async def test_an_answer_that_nobody_asked_for_reaches_nobody(more: bytes) -> None:
    async with upstream(ANSWER + more, ANSWER) as (aims, connections):
        assert await get(aims) == (200, b"ok")
        assert await get(aims) == (200, b"ok")
        assert len(connections) == 2


async def test_a_trailer_without_end_is_not_read_on() -> None:
    trailer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: " + bytes([97]) * (1 << 20)
    async with upstream(trailer) as (aims, _):
        with pytest.raises(UpstreamFailed, match="sent what is not HTTP"):
            await get(aims)


@pytest.mark.parametrize(("method", "again"), [("GET", True), ("DELETE", True), ("POST", False)])
async def test_a_kept_connection_that_closes_instead_of_answering_is_tried_anew_where_that_is_safe(
    method: str, *, again: bool
) -> None:
    """A proxy must not send another request again than one that may be repeated (RFC 9110 §9.2.2)."""
    asked: list[int] = []  # on which connection

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(set(asked))
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                asked.append(number)
                if asked.count(number) > 1:
                    break
                writer.write(ANSWER)
        finally:
            closed.append(number)

    closed: list[int] = []
    async with listening(answer) as port:
        aims = Upstream(f"http://127.0.0.1:{port}")
        assert await get(aims) == (200, b"ok")
        async with asyncio.timeout(5):
            try:
                async with aims.pass_on(method, b"/", [], None) as passed:
                    assert again
                    assert await passed.read() == b"ok"
            except UpstreamFailed:
                assert not again
        await aims.aclose()
        await eventually(lambda: len(closed) == len(set(asked)), "that every connection is closed")
    assert asked == ([0, 0, 1] if again else [0, 0])


async def test_a_new_connection_that_closes_instead_of_answering_is_not_tried_again() -> None:
    async with upstream(b"") as (aims, connections):
        asking = asyncio.create_task(get(aims))
        await eventually(lambda: connections, "the connection")
        connections[0].close()
        with pytest.raises(UpstreamFailed, match=r"closed the connection|reset"):
            await asking
        assert len(connections) == 1


async def test_a_refusal_is_read_though_the_upstream_has_closed_on_what_it_left_unread() -> None:
    """Its reset would let the next write fail, and with it the connection, before the answer is read."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        aims = Upstream(f"http://127.0.0.1:{listener.getsockname()[1]}")
        connection = await aims.connect()
        peer, _ = listener.accept()
        connection.begin(b"head", is_bodiless=False)
        await connection.send(b"body")
        await asyncio.sleep(0)
        assert peer.recv(4) == b"head"
        peer.sendall(REFUSAL)
        peer.close()  # on the body
        assert not await connection.send(b"more of the body")
        async with asyncio.timeout(5):
            status, _ = await connection.read_head()
            assert (status, await connection.read()) == (413, b"no")
        connection.abort()
