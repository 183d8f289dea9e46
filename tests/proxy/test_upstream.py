"""Requests go out as they are or not at all, connections are used again, and an answer waits for who reads it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import weakref
from pathlib import Path
from typing import Any

import pytest

from deltawire.gateway.proxy import Proxy
from deltawire.gateway.proxy.upstream import Upstream as Aims
from deltawire.gateway.proxy.upstream import UpstreamFailed
from tests.proxy.upstream import Upstream
from tests.support.certificates import make_certificates
from tests.support.serving import listening
from tests.support.waiting import eventually, turn

NOWHERE = "ws://127.0.0.1:1"
JSON = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{ "a" : 1 }'
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"


@pytest.mark.parametrize("body", [b"hal", b"twice as long"])
async def test_a_body_of_another_length_than_its_head_says_is_never_sent_as_a_request(body: bytes) -> None:
    """Below other ASGI applications, which may change a body and not its length."""
    async with Upstream(JSON) as upstream:
        proxy = Proxy(upstream.url, NOWHERE)
        received = iter([{"type": "http.request", "body": body}])
        sent: list[Any] = []

        async def receive() -> Any:
            return next(received, None) or await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/x", "headers": [(b"content-length", b"4")]}
        await proxy(scope, receive, send)
        await proxy.aclose(0)
        assert upstream.asked == []
    assert sent[0]["status"] == 502
    assert b"another length" in sent[1]["body"]


@pytest.mark.parametrize("field", [(b"x-a", b"1\r\nx-evil: 1"), (b"x a", b"1"), (b"x-a\n", b"1")])
async def test_a_field_that_would_be_two_is_not_sent(field: tuple[bytes, bytes]) -> None:
    async with Upstream(JSON) as upstream:
        aims = Aims(upstream.url)
        with pytest.raises(UpstreamFailed, match="can't be sent"):
            async with aims.pass_on("GET", b"/", [field], None):
                pass
        assert upstream.asked == []


@pytest.mark.parametrize(
    ("environment", "warned"),
    [
        ({"HTTPS_PROXY": "http://proxy:3128"}, ["HTTPS_PROXY"]),
        ({"all_proxy": "http://proxy:3128"}, ["ALL_PROXY"]),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": ".example.org"}, []),
        ({"HTTP_PROXY": "http://proxy:3128"}, []),
    ],
)
def test_a_proxy_in_the_environment_is_told_to_be_ignored(
    monkeypatch: pytest.MonkeyPatch, logs: list[Any], environment: dict[str, str], warned: list[str]
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    Aims("https://api.example.org")
    assert [line["variable"] for line in logs if line["event"] == "upstream.proxy_ignored"] == warned


def test_without_one_in_the_environment_the_system_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """On macOS `proxy_bypass` would read the system's settings, which may end a process that was forked."""
    monkeypatch.setattr("deltawire.gateway.proxy.upstream.getproxies_environment", lambda: {"no": "example.org"})
    monkeypatch.setattr("deltawire.gateway.proxy.upstream.proxy_bypass", lambda _: pytest.fail("the system was asked"))
    Aims("https://api.example.org")


async def test_a_connection_is_used_again_and_one_that_the_upstream_closed_is_not() -> None:
    ends = JSON.replace(b"Content-Length", b"Connection: close\r\nContent-Length")
    async with Upstream(ends) as upstream:
        aims = Aims(upstream.url)
        for _ in range(2):
            async with aims.pass_on("GET", b"/", [], None) as passed:
                assert await passed.read() + await passed.read() == b'{ "a" : 1 }'
        await aims.aclose()
        assert len(upstream.asked) == 2

    connections: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(CHUNKS)
        finally:
            left.set()

    left = asyncio.Event()
    async with listening(answer) as port:
        aims = Aims(f"http://127.0.0.1:{port}")
        for _ in range(3):
            async with aims.pass_on("GET", b"/", [], None) as passed:
                assert passed.status == 200
                while await passed.read():
                    pass
        await aims.aclose()
        await left.wait()
    assert len(connections) == 1


async def test_an_answer_that_nobody_reads_is_not_read_from_the_upstream_either() -> None:
    size = 64 << 20
    piece = bytes(1 << 20)
    sent = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            writer.write(piece)
            await writer.drain()
            sent += len(piece)

    async with listening(answer) as port:
        aims = Aims(f"http://127.0.0.1:{port}")
        async with aims.pass_on("GET", b"/", [], None) as passed:
            read: Any = passed.read
            await eventually(lambda: read.__self__._is_paused, "that reading stops")
            for _ in range(100):
                await asyncio.sleep(0)
            assert read.__self__._unread <= 2 * 64 * 1024
            assert sent < size
            assert passed.heard() is None, "no more may come"
            read.__self__._heard_at = 0.0
            got = 0
            while passed.heard() is None:
                got += len(await passed.read())
            assert passed.heard(), "it may be silent from now on"
            while received := await passed.read():
                assert len(received) <= 64 * 1024
                got += len(received)
            assert got == size
        await aims.aclose()


async def test_a_connection_that_is_kept_keeps_nothing_of_who_was_told_of_its_answer() -> None:
    class Follower:
        def take(self, piece: bytes) -> None:
            told.append(piece)

        def end(self, failure: Exception | None) -> None:
            told.append(failure)

    told: list[object] = []
    follower = Follower()
    known = weakref.ref(follower)
    async with Upstream(JSON, stays=True) as upstream:
        aims = Aims(upstream.url)
        async with aims.pass_on("GET", b"/", [], None) as passed:
            passed.follow(follower.take, follower.end, 100)
            assert await passed.read() == b'{ "a" : 1 }'
            assert not await passed.read()
        del follower
        await turn()
        assert len(aims._kept) == 1
        assert known() is None
        assert told == [b'{ "a" : 1 }', None]
        await aims.aclose()


@pytest.mark.parametrize("several", [False, True], ids=["one address", "several addresses"])
async def test_an_upstream_with_tls_is_reached_by_its_name_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, several: bool
) -> None:
    files = make_certificates(tmp_path / "certificates")
    monkeypatch.setenv("SSL_CERT_FILE", files.ca)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(files.cert, files.key)
    loop = asyncio.get_running_loop()

    async def resolve(host: str, port: int, **_: Any) -> Any:
        assert host in ("localhost", "other.example")
        local = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
        return [local] * (2 if several else 1)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(JSON)

    async with listening(answer, tls=tls) as port:
        monkeypatch.setattr(loop, "getaddrinfo", resolve)
        aims = Aims(f"https://localhost:{port}")
        async with aims.pass_on("GET", b"/", [], None) as passed:
            assert await passed.read() == b'{ "a" : 1 }'
        await aims.aclose()
        with pytest.raises(UpstreamFailed, match=r"other\.example"):
            async with Aims(f"https://other.example:{port}").pass_on("GET", b"/", [], None):
                pass
