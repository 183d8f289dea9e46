"""Callers of every kind are answered in a form they know: HTTP/1.0, requests for an upgrade, trailers, long heads."""

from __future__ import annotations

import asyncio

import pytest

from deltawire.gateway.server import Gateway
from tests.proxy.readers import read_message, reading, said
from tests.proxy.upstream import ANSWER, WORDS, Upstream, calling, serving
from tests.support.waiting import DEADLINE, eventually

NOWHERE = "ws://127.0.0.1:1"
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
"""As Java's HttpClient asks by default."""


@pytest.mark.parametrize("cut", [None, 3, 25, 60], ids=["at once", "in the method", "in the version", "in the head"])
async def test_the_end_of_the_connection_ends_a_body_for_callers_who_know_no_chunks(
    gateway: Gateway, cut: int | None
) -> None:
    """HTTP/1.0, as nginx asks by default."""
    asked = b"POST /v1/messages HTTP/1.0\r\nHost: h\r\nX-Deltawire-Stream: chat-7\r\nContent-Length: 2\r\n\r\n{}"
    async with Upstream(*ANSWER) as upstream, serving(upstream.url, gateway.url) as served:
        async with calling(served.url) as peer:
            if cut is not None:
                await peer.send(asked[:cut])
                await asyncio.sleep(0)
            await peer.send(asked[cut or 0 :])
            head = (await peer.read_head()).lower()
            assert b"transfer-encoding" not in head
            assert b"x-deltawire-stream: chat-7" in head
            assert await peer.read_rest() == b"".join(ANSWER[1:])
        async with reading(gateway) as reader:
            assert said(await read_message(reader)) == "".join(WORDS)
        assert upstream.asked[0].body == b"{}"


async def test_a_length_passes_to_them_too() -> None:
    async with Upstream(JSON) as upstream, serving(upstream.url, NOWHERE) as served, calling(served.url) as peer:
        await peer.send(b"\r\nGET /v1/models HTTP/1.0\r\n\r\n")  # an empty line before it is none (RFC 9112 §2.2)
        assert b"content-length: 2" in await peer.read_head()
        assert await peer.read_rest() == b"{}"


@pytest.mark.parametrize(
    "how", [b"Content-Length: 4\r\n\r\nbody", b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"]
)
async def test_the_body_of_a_request_that_asks_for_an_upgrade_passes(how: bytes) -> None:
    async with Upstream(JSON) as upstream, serving(upstream.url, NOWHERE) as served, calling(served.url) as peer:
        for count in (1, 2):
            await peer.send(b"POST /v1/messages HTTP/1.1\r\nHost: h\r\n" + UPGRADE + how)
            assert b" 200 " in await peer.read_head()
            assert await peer.read_some() == b"{}"
            assert [it.body for it in upstream.asked] == [b"body"] * count
    assert b"upgrade" not in upstream.asked[0].fields


async def test_a_later_request_that_asks_for_an_upgrade_is_refused_and_loses_no_body() -> None:
    async with Upstream(JSON) as upstream, serving(upstream.url, NOWHERE) as served, calling(served.url) as peer:
        await peer.send(b"GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n")
        await peer.read_head()
        await peer.read_some()
        chunked = b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
        await peer.send(b"POST /v1/messages HTTP/1.1\r\nHost: h\r\n" + UPGRADE + chunked)
        assert b" 400 " in await peer.read_head()
        assert len(upstream.asked) == 1


async def test_a_caller_who_wants_a_websocket_is_told_that_none_pass() -> None:
    async with Upstream(JSON) as upstream, serving(upstream.url, NOWHERE) as served, calling(served.url) as peer:
        await peer.send(
            b"GET /v1/realtime?model=m HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        assert b" 501 " in await peer.read_head()
        assert b"no WebSockets are passed on" in await peer.read_some()
        assert not upstream.asked


async def test_trailers_are_no_fields_of_the_request() -> None:
    async with Upstream(JSON) as upstream, serving(upstream.url, NOWHERE) as served, calling(served.url) as peer:
        fields = b"Host: h\r\nTransfer-Encoding: chunked\r\n"
        await peer.send(
            b"POST /v1/messages HTTP/1.1\r\n"
            + fields
            + b"\r\n4\r\nbody\r\n0\r\nX-Deltawire-Stream: no\r\nX-A: 1\r\n\r\n"
        )
        assert b"x-deltawire-stream" not in await peer.read_head()
        assert upstream.asked[0].body == b"body"
        assert b"x-a" not in upstream.asked[0].fields


@pytest.mark.parametrize("before", [b"", b"GET /deltawire/livez HTTP/1.1\r\nHost: h\r\n\r\n"], ids=["first", "second"])
async def test_a_head_without_end_is_not_read_on(before: bytes) -> None:
    async with serving("http://127.0.0.1:1", NOWHERE) as served, calling(served.url) as peer:
        if before:
            await peer.send(before)
            await peer.read_head()
            await peer.read_some()
        await peer.send(b"GET /v1/models HTTP/1.1\r\nHost: h\r\n")
        sending = asyncio.create_task(peer.send(b"X-A: a\r\n" * (1 << 20)))
        assert b" 400 " in await peer.read_head()
        assert b"65536 bytes" in await peer.read_rest()
        await sending


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHost", b"GET / HTTP/1.0\r\nHost"])
async def test_who_does_not_end_a_head_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    monkeypatch.setattr("deltawire.gateway.proxy.serving.KEPT_FOR", 0.05)
    async with serving("http://127.0.0.1:1", NOWHERE) as served, calling(served.url) as peer:
        await peer.send(begun)
        assert await peer.read_rest() == b""


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_who_has_asked_is_kept_for_as_long_as_the_answer_takes(
    monkeypatch: pytest.MonkeyPatch, version: bytes
) -> None:
    monkeypatch.setattr("deltawire.gateway.proxy.serving.KEPT_FOR", 0.02)
    async with (
        Upstream(stays=True) as upstream,
        serving(upstream.url, NOWHERE, idle_timeout=0.2) as served,
        calling(served.url) as peer,
    ):
        await peer.send(b"GET / HTTP/%b\r\nHost: h\r\n\r\n" % version)
        assert b" 504 " in await peer.read_head()


async def test_a_head_of_a_usual_length_and_a_long_body_pass() -> None:
    body = bytes(1 << 20)
    long = b"X-A: " + b"a" * 60_000 + b"\r\n"
    async with Upstream(JSON) as upstream, serving(upstream.url, NOWHERE) as served, calling(served.url) as peer:
        for count in (1, 2):
            await peer.send(b"POST / HTTP/1.1\r\nHost: h\r\n" + long + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            assert b" 200 " in await peer.read_head()
            assert await peer.read_some() == b"{}"
            assert len(upstream.asked) == count
    assert upstream.asked[1].body == body


async def test_a_caller_who_leaves_with_another_request_waiting_aborts_the_upstream_s() -> None:
    async with Upstream(*ANSWER[:2], stays=True) as upstream, serving(upstream.url, NOWHERE) as served:
        async with calling(served.url) as peer:
            await peer.send(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n" * 3)
            await peer.read_head()
        async with asyncio.timeout(DEADLINE):
            await upstream.was_left.wait()
        await eventually(lambda: served.is_idle, "its end")
        assert served.counted("callers_left") == 1
        assert len(upstream.asked) == 1


async def test_who_sends_the_end_of_its_connection_has_left(gateway: Gateway) -> None:
    """Nothing else shows that a caller is gone: the system says the same of both."""
    async with (
        Upstream(*ANSWER[:2], stays=True) as upstream,
        serving(upstream.url, gateway.url) as served,
        calling(served.url) as peer,
    ):
        await peer.send(b"POST /v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
        await peer.read_some()
        peer.finish_sending()
        async with asyncio.timeout(DEADLINE):
            await upstream.was_left.wait()
        await eventually(lambda: served.counted("callers_left") == 1, "that it is counted")
