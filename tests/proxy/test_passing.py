"""Requests and answers pass as they are."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import pytest

from deltawire.gateway.client import Subscriber
from deltawire.gateway.proxy import Proxy
from deltawire.gateway.server import Gateway
from deltawire.protocol.events import Event
from tests.proxy.upstream import ANSWER, HEAD, Upstream, serving
from tests.support.rawpeer import RawPeer
from tests.support.transcripts import told_by_events, told_by_transcript, transcripts
from tests.support.waiting import DEADLINE

NOWHERE = "ws://127.0.0.1:1"
ANSWERS = {
    "json": b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{ "a" : 1 }',
    "an error": b"HTTP/1.1 429 Slow Down\r\nRetry-After: 7\r\nx-RateLimit: 0\r\nContent-Length: 2\r\n\r\n{}",
    "a page": b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\n<p>\xff!",
    "elsewhere": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "nothing": b"HTTP/1.1 204 No Content\r\n\r\n",
    "cookies": b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n",
    "packed": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 20\r\n\r\n" + gzip.compress(b"", mtime=0),
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    "events": b"".join(ANSWER),
}


async def ask(url: str, method: str, path: str) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, fields about no one connection, and the body as it came."""
    peer = await RawPeer.connect(int(url.rpartition(":")[2]))
    await peer.send(f"{method} {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
    head, *fields = (await peer.read_head()).split(b"\r\n")
    body = await peer.read_rest()
    peer.close()
    pairs = [(name.lower(), value.strip()) for name, _, value in (field.partition(b":") for field in fields)]
    if body and (b"transfer-encoding", b"chunked") in pairs:
        pieces, rest = [], body
        while (size := int(rest.partition(b"\r\n")[0], 16)) > 0:
            rest = rest.partition(b"\r\n")[2]
            pieces.append(rest[:size])
            rest = rest[size + 2 :]
        body = b"".join(pieces)
    own = (b"connection", b"transfer-encoding")
    return int(head.split(b" ")[1]), [pair for pair in pairs if pair[0] not in own], body


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "DELETE", "PATCH"])
async def test_an_answer_passes_as_it_is(answer: bytes, method: str) -> None:
    answer = answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if method == "HEAD" else answer
    async with Upstream(answer) as upstream, serving(upstream.url, NOWHERE) as served:
        direct = await ask(upstream.url, method, "/what/ever?x=1")
        status, fields, body = await ask(served.url, method, "/what/ever?x=1")
    added = [pair for pair in fields if pair[0].startswith(b"x-deltawire-")]
    assert (status, [pair for pair in fields if pair not in added], body) == direct
    assert len(added) == (2 if method == "POST" and answer.startswith(HEAD) else 0)


CUT_IN_CHUNKS = (1, 3, 61, 1500, 70_000)
"""Sizes of chunks, in turn: within a line, within a character, over what is read at once."""


def in_chunks(body: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    """A body in chunks of these sizes in turn, with its end."""
    sizes, start = cycle(sizes), 0
    while start < len(body):
        piece = body[start : start + next(sizes)]
        start += len(piece)
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


@transcripts
async def test_every_recorded_answer_passes_byte_by_byte_and_readers_get_its_text(gateway: Gateway, path: Path) -> None:
    recorded = path.read_bytes()  # noqa: ASYNC240 - a few KiB
    kind = "application/x-ndjson" if path.suffix in (".ndjson", ".jsonl") else "text/event-stream"
    async with Upstream() as upstream, serving(upstream.url, gateway.url) as served:
        for coding, pack in (("identity", bytes), ("gzip", gzip.compress), ("deflate", zlib.compress)):
            fields = f"Content-Type: {kind}\r\nContent-Encoding: {coding}\r\nTransfer-Encoding: chunked"
            body = pack(recorded)
            upstream.parts = [f"HTTP/1.1 200 OK\r\n{fields}\r\n\r\n".encode(), *in_chunks(body, CUT_IN_CHUNKS)]
            direct = await ask(upstream.url, "POST", "/v1/x")
            status, fields_passed, passed = await ask(served.url, "POST", "/v1/x")
            assert passed == direct[2] == body
            ours = [pair for pair in fields_passed if pair[0].startswith(b"x-deltawire-")]
            assert (status, [pair for pair in fields_passed if pair not in ours]) == direct[:2]
            async with Subscriber(gateway.url, dict(ours)[b"x-deltawire-stream"].decode()) as reader:
                told = told_by_events([item.data async for item in reader if isinstance(item, Event)])
            assert told.text == told_by_transcript(path).text


async def test_an_upstream_that_stands_still_is_504(client: httpx.AsyncClient) -> None:
    async with Upstream(stays=True) as upstream, serving(upstream.url, NOWHERE, idle_timeout=0.05) as served:
        assert (await client.get(f"{served.url}/v1/models")).status_code == 504
        async with asyncio.timeout(DEADLINE):
            await upstream.was_left.wait()


async def test_a_request_passes_as_it_is(client: httpx.AsyncClient) -> None:
    async with Upstream(ANSWERS["json"]) as upstream, serving(f"{upstream.url}/base/", NOWHERE) as served:
        for url in (f"{upstream.url}/base", served.url):
            await client.post(
                httpx.URL(f"{url}/v1/a%2Fb%20c;d=%7e?key=sk-1&x=%2f&&y"),
                content=b"\x00\xff body",
                headers=[(b"Authorization", b"Bearer sk-1"), (b"X-Odd", b"\xfc"), (b"Content-Type", b"text/plain")],
            )
        direct, passed = upstream.asked
    assert passed.line == direct.line
    assert passed.body == direct.body
    del direct.fields[b"connection"]
    assert passed.fields == direct.fields, "nothing is added, and the host is the upstream's"


async def test_what_is_asked_of_the_proxy_or_about_its_connection_stays_there(client: httpx.AsyncClient) -> None:
    kept = {
        "X-Deltawire-Detach": "0",
        "Connection": "x-hop",
        "X-Hop": "1",
        "TE": "trailers",
        "Proxy-Authorization": "p",
    }
    async with Upstream(ANSWERS["json"]) as upstream, serving(upstream.url, NOWHERE) as served:
        await client.get(f"{served.url}/v1/models", headers=kept)
        fields = upstream.asked[0].fields
    assert not {name.lower().encode() for name in kept} - {b"connection"} & set(fields)


@pytest.mark.parametrize(
    ("method", "asked", "passed"),
    [
        ("POST", "gzip, deflate, br, zstd", b"gzip, deflate"),
        ("POST", "br;q=1.0, GZIP;q=0.5,*;q=0.1", b"GZIP;q=0.5"),
        ("POST", "br", b"identity"),
        ("POST", "identity", b"identity"),
        ("GET", "gzip, br", b"gzip, br"),
    ],
)
async def test_an_answer_for_readers_is_asked_for_in_codings_that_can_be_read(
    client: httpx.AsyncClient, method: str, asked: str, passed: bytes
) -> None:
    async with Upstream(ANSWERS["json"]) as upstream, serving(upstream.url, NOWHERE) as served:
        await client.request(method, f"{served.url}/v1/x", headers={"Accept-Encoding": asked})
        assert upstream.asked[0].fields[b"accept-encoding"] == passed


async def test_a_body_in_chunks_passes_as_it_comes() -> None:
    async with Upstream(ANSWERS["json"]) as upstream, serving(upstream.url, NOWHERE) as served:
        peer = await RawPeer.connect(int(served.url.rpartition(":")[2]))
        await peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await peer.send(b"2\r\nde\r\n0\r\n\r\n")
        assert b" 200 " in await peer.read_head()
        peer.close()
        assert upstream.asked[0].body == b"abcde"
        assert upstream.asked[0].fields[b"transfer-encoding"] == b"chunked"


async def test_pieces_pass_when_they_come(client: httpx.AsyncClient) -> None:
    gates = [asyncio.Event() for _ in ANSWER]
    parts: list[Any] = [it for pair in zip(ANSWER, gates, strict=True) for it in pair]
    async with (
        Upstream(*parts) as upstream,
        serving(upstream.url, NOWHERE) as served,
        client.stream("POST", f"{served.url}/v1/chat/completions") as response,
    ):
        pieces: AsyncIterator[bytes] = response.aiter_raw()
        for piece, gate in zip(ANSWER[1:], gates, strict=False):
            gate.set()
            assert await anext(pieces) == piece
        gates[-1].set()
        assert [it async for it in pieces] == []


async def test_a_caller_who_uploads_only_half_asks_nobody(client: httpx.AsyncClient) -> None:
    async with Upstream(ANSWERS["json"]) as upstream, serving(upstream.url, NOWHERE) as served:
        peer = await RawPeer.connect(int(served.url.rpartition(":")[2]))
        await peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf")
        await peer.send(b"")
        peer.close()
        assert (await client.get(f"{served.url}/v1/models")).status_code == 200
        assert [it.line for it in upstream.asked] == [b"GET /v1/models HTTP/1.1"]


async def send_line(url: str, line: str, *fields: str) -> bytes:
    """The head of the answer to a request with this first line."""
    peer = await RawPeer.connect(int(url.rpartition(":")[2]))
    await peer.send("\r\n".join([f"{line} HTTP/1.1", "Host: h", *fields, "Connection: close", "", ""]).encode())
    head = await peer.read_head()
    peer.close()
    return head


@pytest.mark.parametrize(
    ("line", "passed"),
    [
        ("GET http://evil.example/secret?x=1", b"GET /base/secret?x=1 HTTP/1.1"),
        ("GET HTTP://evil.example/", b"GET /base/ HTTP/1.1"),
        ("GET /v1/a..b/...", b"GET /base/v1/a..b/... HTTP/1.1"),
        ("OPTIONS *", b"OPTIONS * HTTP/1.1"),
    ],
)
async def test_whatever_host_a_request_names_the_upstream_is_asked(line: str, passed: bytes) -> None:
    async with Upstream(ANSWERS["json"]) as upstream, serving(f"{upstream.url}/base", NOWHERE) as served:
        assert b" 200 " in await send_line(served.url, line)
        assert [it.line for it in upstream.asked] == [passed]


@pytest.mark.parametrize(
    "line",
    [
        "CONNECT evil.example:443",
        "GET evil.example",
        "GET @evil.example/x",
        "GET *",
        "GET /../etc/x",
        "GET /v1/..",
        "GET /v1/%2E%2e/x",
        "GET /v1/a%2f..%2fx",
        "GET /v1/..%5Cx",
        "GET /v1/..;a=1/x",
        "GET http://evil.example/../x",
    ],
)
async def test_a_target_that_leads_elsewhere_is_refused(line: str, logs: list[Any]) -> None:
    async with Upstream(ANSWERS["json"]) as upstream, serving(f"{upstream.url}/base", NOWHERE) as served:
        status = (await send_line(served.url, line)).split(b" ")[1]
        assert status == b"400" or (status, line[:7]) == (b"501", "CONNECT"), "parsers refuse some by themselves"
        assert upstream.asked == []
    assert [entry["event"] for entry in logs] == ["proxy.started"]


@pytest.mark.parametrize(
    "fields", [("Content-Length: 3", "Transfer-Encoding: chunked"), ("Transfer-Encoding: gzip, chunked",)]
)
async def test_a_body_whose_end_or_coding_would_be_another_is_refused(fields: tuple[str, ...], logs: list[Any]) -> None:
    async with Upstream(ANSWERS["json"]) as upstream, serving(upstream.url, NOWHERE) as served:
        assert b" 400 " in await send_line(served.url, "POST /v1/x", *fields)
        assert upstream.asked == []
    assert [entry["event"] for entry in logs] == ["proxy.started"]


@pytest.mark.parametrize("value", ["a b", "..", "x" * 129])
async def test_a_name_that_is_none_is_refused_before_anything_is_asked(client: httpx.AsyncClient, value: str) -> None:
    async with Upstream(*ANSWER) as upstream, serving(upstream.url, NOWHERE) as served:
        response = await client.post(served.url, headers={"X-Deltawire-Stream": value})
        assert response.status_code == 400
        assert "X-Deltawire-Stream" in response.json()["detail"]
        assert (await client.post(served.url, headers={"X-Deltawire-Detach": "yes"})).status_code == 400
        assert upstream.asked == []


async def test_its_own_paths_are_answered_without_the_upstream(client: httpx.AsyncClient) -> None:
    async with serving("http://127.0.0.1:1", NOWHERE) as served:
        for name in ("livez", "readyz"):
            assert (await client.get(f"{served.url}/deltawire/{name}?x=1")).json() == {"status": "ok"}
        assert "deltawire_proxy_requests 0.0" in (await client.get(f"{served.url}/deltawire/metrics")).text
        assert (await client.get(f"{served.url}/deltawire/other")).status_code == 404


async def test_more_requests_than_it_may_have_are_503_and_name_the_setting(client: httpx.AsyncClient) -> None:
    gate = asyncio.Event()
    async with (
        Upstream(HEAD, gate) as upstream,
        serving(upstream.url, NOWHERE, max_requests=1) as served,
        client.stream("GET", f"{served.url}/v1/models"),
    ):
        response = await client.get(f"{served.url}/v1/models")
        assert response.status_code == 503
        assert "max_requests (1)" in response.json()["detail"]
        assert response.headers["retry-after"] == "1"
        gate.set()


async def test_an_upstream_that_is_away_is_502(client: httpx.AsyncClient, logs: list[Any]) -> None:
    async with serving("http://127.0.0.1:1", NOWHERE) as served:
        response = await client.post(f"{served.url}/v1/x?key=sk-query", headers={"Authorization": "Bearer sk-head"})
    assert response.status_code == 502
    assert response.headers["content-type"] == "application/problem+json"
    assert [line["event"] for line in logs if line["event"] == "upstream.failed"] == ["upstream.failed"]
    assert "sk-" not in str(logs) + response.text


@pytest.mark.parametrize(
    "answer",
    [
        b"data: secret\n\n",
        b"HTTP/1.1 200 OK\r\nbad secret\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: secret\r\n\r\n",
    ],
)
async def test_what_is_no_answer_is_502_and_quoted_nowhere(
    client: httpx.AsyncClient, logs: list[Any], answer: bytes
) -> None:
    async with Upstream(answer) as upstream, serving(upstream.url, NOWHERE) as served:
        response = await client.get(f"{served.url}/v1/models")
    assert response.status_code == 502
    assert "what is not HTTP" in response.json()["detail"]
    assert "secret" not in response.text + str(logs)


@pytest.mark.parametrize("status", [204, 304])
async def test_a_length_of_what_is_not_there_does_not_pass(status: int, logs: list[Any]) -> None:
    """Servers may say how long a body would be that they did not modify (RFC 9110 §8.6)."""
    answer = b"HTTP/1.1 %d X\r\nContent-Length: 5\r\nETag: x\r\n\r\n" % status
    async with Upstream(answer) as upstream, serving(upstream.url, NOWHERE) as served:
        assert await ask(served.url, "GET", "/v1/files") == (status, [(b"etag", b"x")], b"")
    assert [line["event"] for line in logs] == ["proxy.started"]


@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 999 Denied\r\nContent-Length: 2", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked"],
    ids=["status", "coding"],
)
async def test_what_can_not_pass_is_502(client: httpx.AsyncClient, logs: list[Any], head: bytes) -> None:
    async with Upstream(head + b"\r\n\r\n") as upstream, serving(upstream.url, NOWHERE) as served:
        assert (await client.get(f"{served.url}/v1/models")).status_code == 502
    assert "exchange.failed" not in [line["event"] for line in logs]


async def test_an_upstream_can_not_say_where_to_follow(client: httpx.AsyncClient) -> None:
    forged = ANSWERS["json"].replace(b"Content-Length", b"X-Deltawire-Subscribe: ws://evil.example\r\nContent-Length")
    async with Upstream(forged) as upstream, serving(upstream.url, NOWHERE) as served:
        response = await client.get(f"{served.url}/v1/models")
    assert response.json() == {"a": 1}
    assert not [name for name in response.headers if name.startswith("x-deltawire-")]


async def test_mounted_it_passes_what_is_below(gateway: Gateway, client: httpx.AsyncClient) -> None:
    """As Starlette and FastAPI mount: the path stays whole, and `root_path` says what of it is theirs."""
    async with Upstream(ANSWERS["json"]) as upstream:
        proxy = Proxy(upstream.url, gateway.url)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await proxy(scope | {"root_path": "/llm"}, receive, send)

        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as mounted:
            assert (await mounted.get("/llm/v1/models?x=1")).json() == {"a": 1}
            assert (await mounted.get("/llm/deltawire/livez")).status_code == 200
        await proxy.aclose()
        assert upstream.asked[0].line == b"GET /v1/models?x=1 HTTP/1.1"
    assert client is not None


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"upstream": "ftp://x"}, "upstream: expected"),
        ({"upstream": "https://user:secret@x"}, "without a query or a password"),
        ({"upstream": "https://x?key=1"}, "without a query"),
        ({"upstream": "http://x", "gateway": "http://x"}, "ws://HOST:PORT"),
    ],
)
async def test_wrong_arguments_are_told(arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        Proxy(**arguments)
    assert "secret" not in str(caught.value)
