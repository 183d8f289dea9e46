"""Which answers go to a stream, and to which."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from deltawire.gateway.proxy.targets import asks_model
from deltawire.gateway.server import Gateway
from deltawire.protocol.events import Error, Event
from tests.proxy.readers import read_message, reading, said
from tests.proxy.upstream import ANSWER, HEAD, WORDS, Part, Upstream, serving
from tests.support.waiting import eventually

NAMED = {"X-Deltawire-Stream": "chat-7"}
WHOLE = b'{"id":"c-1","object":"chat.completion","choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}]}'
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
LIMITED = b'HTTP/1.1 429 Slow\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{"error":{"message":"No"}}'


@pytest.mark.parametrize(
    ("method", "target", "is_so"),
    [
        ("POST", b"/v1/chat/completions", True),
        ("POST", b"/openai/deployments/gpt/chat/completions?api-version=1", True),
        ("POST", b"/v1/completions", True),
        ("POST", b"/v1/responses", True),
        ("POST", b"/v1/messages?beta=true", True),
        ("POST", b"/messages/", True),
        ("POST", b"/v1beta/models/m:streamGenerateContent?alt=sse&key=k", True),
        ("POST", b"/v1beta/models/m:generateContent", True),
        ("POST", b"/api/chat", True),
        ("POST", b"/api/generate", True),
        ("POST", b"/v1/embeddings", False),
        ("POST", b"/v1/files?next=/v1/responses", False),
        ("POST", b"/v1/responses/r-1/cancel", False),
        ("POST", b"/v1/messages/count_tokens", False),
        ("POST", b"/v1/images/generations", False),
        ("POST", b"/v1beta/models/m:countTokens", False),
        ("PUT", b"/v1/chat/completions", False),
        ("GET", b"/v1/responses/r-1?stream=true&starting_after=7", True),
        ("GET", b"/v1/responses/r-1?include=a&stream=true", True),
        ("GET", b"/v1/responses/r-1", False),
        ("GET", b"/v1/responses/r-1?upstream=true", False),
        ("GET", b"/v1/chat/completions", False),
    ],
)
def test_what_is_asked_of_a_model_is_known_by_its_target(method: str, target: bytes, *, is_so: bool) -> None:
    assert asks_model(method, target) is is_so


OTHERS: dict[str, list[Part]] = {
    "json": [JSON, b'{"object":"list","data":[]}'],
    "an error": [LIMITED],
    "nothing": [b"HTTP/1.1 204 No Content\r\n\r\n"],
    "a failure": [],
}


@pytest.mark.parametrize("answer", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/files", "/v1/responses/r-1/cancel"])
async def test_what_is_asked_of_no_model_writes_nothing_to_the_stream_that_it_names(
    gateway: Gateway, client: httpx.AsyncClient, answer: list[Part], path: str
) -> None:
    """As of a client that has the name among the fields of all its requests."""
    async with Upstream(*answer) as upstream, serving(upstream.url, gateway.url) as served:
        response = await client.post(f"{served.url}{path}", headers=NAMED, content=b"{}")
        assert "x-deltawire-stream" not in response.headers
        await eventually(lambda: served.is_idle, "its end")
        assert gateway.hub.count() == 0


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/audio/transcriptions"), ("POST", "/my/agent"), ("GET", "/v1/responses/r-1?stream=true")],
)
@pytest.mark.parametrize("headers", [NAMED, {}], ids=["named", "unnamed"])
async def test_whatever_is_streamed_goes_to_a_stream(
    gateway: Gateway, client: httpx.AsyncClient, method: str, path: str, headers: dict[str, str]
) -> None:
    async with Upstream(*ANSWER) as upstream, serving(upstream.url, gateway.url) as served:
        response = await client.request(method, f"{served.url}{path}", headers=headers)
        assert response.content == b"".join(ANSWER[1:])
        stream = response.headers["x-deltawire-stream"]
        assert (stream == NAMED["X-Deltawire-Stream"]) is bool(headers)
        async with reading(gateway, stream) as reader:
            assert said(await read_message(reader)) == "".join(WORDS)


async def test_a_get_that_asks_for_no_stream_goes_to_none_and_passes_as_it_is(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    """Events that are none of a model, results of batches that are NDJSON."""
    async with Upstream(*ANSWER) as upstream, serving(upstream.url, gateway.url) as served:
        response = await client.get(f"{served.url}/v1/files/f/content", headers=NAMED | {"Accept-Encoding": "br"})
        assert "x-deltawire-stream" not in response.headers
        assert upstream.asked[0].fields[b"accept-encoding"] == b"br"
        await client.get(f"{served.url}/v1/responses/r?stream=true", headers={"Accept-Encoding": "br, gzip"})
        assert upstream.asked[1].fields[b"accept-encoding"] == b"gzip"


async def test_an_answer_that_comes_whole_goes_to_the_stream_that_is_named_and_to_no_other(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    async with Upstream(JSON, WHOLE) as upstream, serving(upstream.url, gateway.url) as served:
        url = f"{served.url}/v1/chat/completions"
        assert "x-deltawire-stream" not in (await client.post(url)).headers
        await client.post(url, headers=NAMED)
        async with reading(gateway) as reader:
            assert said(await read_message(reader)) == "Hi"


async def test_an_error_page_is_an_error_for_readers_who_wait(gateway: Gateway, client: httpx.AsyncClient) -> None:
    async with Upstream(LIMITED) as upstream, serving(upstream.url, gateway.url) as served, reading(gateway) as reader:
        assert (await client.post(f"{served.url}/v1/messages", headers=NAMED)).status_code == 429
        item = await anext(reader)
        assert isinstance(item, Event)
        assert isinstance(item.data, Error)
        assert item.data.error == "No"


async def test_a_web_page_names_no_stream(gateway: Gateway, client: httpx.AsyncClient) -> None:
    async with Upstream(*ANSWER) as upstream, serving(upstream.url, gateway.url) as served:
        response = await client.post(f"{served.url}/v1/x", headers={"Origin": "https://page.example", **NAMED})
        assert response.content == b"".join(ANSWER[1:])
        own = response.headers["x-deltawire-stream"]
        assert own != NAMED["X-Deltawire-Stream"]
        assert own in response.headers["x-deltawire-subscribe"]
        async with reading(gateway, own) as reader:
            assert said(await read_message(reader)) == "".join(WORDS)


async def test_a_failure_is_logged_with_its_stream_and_path_and_without_the_query(
    gateway: Gateway, client: httpx.AsyncClient, logs: list[Any]
) -> None:
    async with serving("http://127.0.0.1:1", gateway.url) as served:
        await client.post(f"{served.url}/v1/messages?key=sk-1", headers=NAMED)
        await client.get(f"{served.url}/v1/{'m' * 1000}?key=sk-1")
    first, second = [line for line in logs if line["event"] == "upstream.failed"]
    assert (first["path"], first["stream"]) == ("/v1/messages", "chat-7")
    assert (second["path"], second["stream"]) == ("/v1/" + "m" * 196, None)
    assert "sk-1" not in str(logs)


async def test_one_that_breaks_off_is_logged_with_the_stream_of_its_own(
    gateway: Gateway, client: httpx.AsyncClient, logs: list[Any]
) -> None:
    torn = HEAD.replace(b"Connection: close", b"Transfer-Encoding: chunked")
    async with (
        Upstream(torn, b"5\r\n") as upstream,
        serving(upstream.url, gateway.url) as served,
        client.stream("POST", f"{served.url}/v1/messages") as response,
    ):
        with pytest.raises(httpx.RemoteProtocolError):
            await response.aread()
    line = next(line for line in logs if line["event"] == "upstream.failed")
    assert line["stream"] == response.headers["x-deltawire-stream"]
