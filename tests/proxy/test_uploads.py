"""A body passes while it comes; an upstream that answers before its end is heard at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
import pytest

from deltawire.gateway.server import Gateway
from tests.proxy.readers import read_message, reading, reason_of, said
from tests.proxy.upstream import ANSWER, WORDS, Upstream, calling, serving
from tests.support.serving import Answer, listening
from tests.support.waiting import DEADLINE, eventually

NOWHERE = "ws://127.0.0.1:1"
REFUSAL = b"HTTP/1.1 413 No\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n" + b'{"error":"big"}'
POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\n"
LARGE = 64 << 20
"""Bytes of a body: more than sockets hold."""


@asynccontextmanager
async def answered_by(serve: Answer) -> AsyncIterator[str]:
    """The URL of a server that answers each connection so."""
    async with listening(serve) as port:
        yield f"http://127.0.0.1:{port}"


async def refuse_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer before the body, and wait until the other side hangs up."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(REFUSAL)
    while await reader.read(65536):
        pass


@pytest.mark.parametrize(
    "how", [b"Content-Length: 1000\r\n\r\nhalf", b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"]
)
async def test_an_answer_before_the_end_of_the_body_passes_at_once_and_ends_the_upload(how: bytes) -> None:
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await refuse_at_once(reader, writer)
        finally:
            left.set()

    async with answered_by(serve) as upstream, serving(upstream, NOWHERE) as served, calling(served.url) as peer:
        await peer.send(POST + how)
        assert b" 413 " in await peer.read_head()
        async with asyncio.timeout(DEADLINE):
            await left.wait()
        await eventually(lambda: served.is_idle, "its end")


async def test_so_does_one_to_a_body_that_the_upstream_leaves_unread(client: httpx.AsyncClient) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await held.wait()
        writer.write(REFUSAL)
        await writer.drain()
        await over.wait()

    async def body() -> AsyncIterator[bytes]:
        for _ in range(LARGE >> 20):
            yield bytes(1 << 20)
            held.set()

    held, over = asyncio.Event(), asyncio.Event()
    async with answered_by(serve) as upstream, serving(upstream, NOWHERE) as served:
        try:
            response = await client.post(f"{served.url}/v1/files", content=body())
        finally:
            over.set()
    assert response.status_code == 413
    assert response.content == REFUSAL.partition(b"\r\n\r\n")[2]


async def test_an_upstream_that_neither_reads_nor_answers_is_504(client: httpx.AsyncClient) -> None:
    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.Event().wait()

    async with answered_by(serve) as upstream, serving(upstream, NOWHERE, idle_timeout=0.2) as served:
        assert (await client.post(f"{served.url}/v1/files", content=bytes(LARGE))).status_code == 504


async def test_a_refusal_that_comes_slowly_holds_up_no_caller_who_reads_only_then(client: httpx.AsyncClient) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(REFUSAL[:-5])
        await writer.drain()
        await sent.wait()
        writer.write(REFUSAL[-5:])
        await writer.drain()

    async def body() -> AsyncIterator[bytes]:
        for _ in range(LARGE >> 20):
            yield bytes(1 << 20)
        sent.set()

    sent = asyncio.Event()
    async with answered_by(serve) as upstream, serving(upstream, NOWHERE) as served:
        response = await client.post(f"{served.url}/v1/files", content=body())
    assert (response.status_code, response.content) == (413, REFUSAL.partition(b"\r\n\r\n")[2])


async def test_an_answer_that_goes_on_with_the_body_passes_both_ways(gateway: Gateway) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in ANSWER:
            heard.append(await reader.readexactly(7))
            writer.write(part)

    heard: list[bytes] = []
    async with (
        answered_by(serve) as upstream,
        serving(upstream, gateway.url) as served,
        reading(gateway) as reader,
        calling(served.url) as peer,
    ):
        named = POST + b"X-Deltawire-Stream: chat-7\r\nTransfer-Encoding: chunked\r\n\r\n"
        await peer.send(named + b"2\r\n00\r\n")
        assert b"x-deltawire-stream: chat-7" in await peer.read_head()
        for number in range(1, len(ANSWER)):
            await peer.send(b"2\r\n%02d\r\n" % number)
            await eventually(lambda: len(heard) > number, "that the piece is there")  # noqa: B023 - waited for
        events = await read_message(reader)
    assert (said(events), reason_of(events)) == ("".join(WORDS), "stop")
    assert heard == [b"2\r\n%02d\r\n" % number for number in range(len(heard))]


async def test_an_answer_before_the_end_of_the_body_goes_to_a_stream_of_its_own(gateway: Gateway) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.writelines(ANSWER)
        await writer.drain()

    async with (
        answered_by(serve) as upstream,
        serving(upstream, gateway.url) as served,
        calling(served.url) as peer,
    ):
        await peer.send(POST + b"Content-Length: 10\r\n\r\nhalf")
        head = await peer.read_head()
        _, _, rest = head.partition(b"x-deltawire-stream: ")
        async with reading(gateway, rest.split(b"\r\n")[0].decode()) as reader:
            assert said(await read_message(reader)) == "".join(WORDS)


async def test_the_connection_of_an_upload_that_was_cut_short_is_not_used_again(client: httpx.AsyncClient) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(REFUSAL)

    async with answered_by(serve) as upstream, serving(upstream, NOWHERE) as served, calling(served.url) as peer:
        await peer.send(POST + b"Content-Length: 10\r\n\r\nhalf")
        assert b" 413 " in await peer.read_head()
        assert (await client.get(f"{served.url}/v1/models")).status_code == 413
    assert connections == 2


async def test_the_caller_s_connection_takes_another_request_after_the_rest_of_the_body() -> None:
    async with (
        answered_by(refuse_at_once) as upstream,
        serving(upstream, NOWHERE) as served,
        calling(served.url) as peer,
    ):
        await peer.send(POST + b"Content-Length: 8\r\n\r\nhalf")
        assert b" 413 " in await peer.read_head()
        await peer.read_some()
        await peer.send(b"rest" + b"GET /deltawire/livez HTTP/1.1\r\nHost: h\r\n\r\n")
        assert b" 200 " in await peer.read_head()


async def test_a_caller_who_leaves_in_the_middle_of_the_body_ends_the_upstream_s(gateway: Gateway) -> None:
    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"half")
        begun.set()
        with suppress(ConnectionError):
            await reader.read()
        left.set()

    begun, left = asyncio.Event(), asyncio.Event()
    async with answered_by(serve) as upstream, serving(upstream, gateway.url) as served:
        async with calling(served.url) as peer:
            await peer.send(POST + b"X-Deltawire-Detach: 1\r\nContent-Length: 10\r\n\r\nhalf")
            await begun.wait()
        async with asyncio.timeout(DEADLINE):
            await left.wait()
        await eventually(lambda: served.is_idle, "its end")
        assert served.counted("callers_left") == 1


async def test_a_body_that_is_too_long_for_its_head_is_502_and_never_a_request_of_its_own() -> None:
    """Below other ASGI applications, which may change a body and not its length."""
    from deltawire.gateway.proxy import Proxy  # noqa: PLC0415

    async with Upstream(stays=True) as upstream:
        proxy = Proxy(upstream.url, NOWHERE)
        pieces = iter([b"12", b"345"])
        sent: list[dict[str, object]] = []

        async def receive() -> dict[str, object]:
            piece = next(pieces, None)
            if piece is None:
                await asyncio.Event().wait()
            return {"type": "http.request", "body": piece, "more_body": True}

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/x", "headers": [(b"content-length", b"4")]}
        async with asyncio.timeout(DEADLINE):
            await proxy(scope, receive, send)  # type: ignore[arg-type]
        await proxy.aclose(0)
    assert sent[0]["status"] == 502
