"""Answers go to streams as well; who may end them, and what befalls readers and callers when something fails."""

from __future__ import annotations

import asyncio
import gzip
from contextlib import suppress
from typing import Any

import httpx
import pytest

from deltawire.gateway.client import Subscriber
from deltawire.gateway.proxy import Proxy
from deltawire.gateway.server import Gateway
from deltawire.protocol.events import Error, Event
from deltawire.protocol.providers import TRANSLATORS
from tests.proxy.readers import read_message, reading, reason_of, said
from tests.proxy.upstream import ANSWER, HEAD, WORDS, Part, Served, Upstream, chat, serving, sse
from tests.support.asking import http_client
from tests.support.provider_bodies import FORMS
from tests.support.waiting import DEADLINE, eventually

NOWHERE = "ws://127.0.0.1:1"
CHUNKED = HEAD.replace(b"Connection: close", b"Transfer-Encoding: chunked")
NAMED = {"X-Deltawire-Stream": "chat-7"}


async def post(client: httpx.AsyncClient, served: Served, **headers: str) -> httpx.Response:
    return await client.post(f"{served.url}/v1/chat/completions", json={"stream": True}, headers=headers)


async def test_an_answer_goes_to_the_stream_that_the_caller_names(gateway: Gateway, client: httpx.AsyncClient) -> None:
    async with Upstream(*ANSWER) as upstream, serving(upstream.url, gateway.url) as served, reading(gateway) as reader:
        response = await post(client, served, **NAMED)
        assert response.content == b"".join(ANSWER[1:])
        assert response.headers["x-deltawire-stream"] == "chat-7"
        assert response.headers["x-deltawire-subscribe"] == f"{gateway.url}/v1/streams/chat-7/subscribe"
        events = await read_message(reader)
        assert (said(events), reason_of(events)) == ("".join(WORDS), "stop")
        await post(client, served, **NAMED)
        assert said(await read_message(reader)) == "".join(WORDS), "the stream stays open for the next answer"


@pytest.mark.parametrize("count", [2100, 3000])
async def test_an_answer_that_comes_at_once_reaches_readers_whole(
    gateway: Gateway, client: httpx.AsyncClient, count: int
) -> None:
    words = [f"{number} " for number in range(count)]
    body = b"".join(sse(*map(chat, words), chat("", finish_reason="stop")))
    async with Upstream(HEAD, body) as upstream, serving(upstream.url, gateway.url) as served:
        response = await post(client, served)
        assert response.content == body
        async with reading(gateway, response.headers["x-deltawire-stream"]) as reader:
            events = [item.data async for item in reader if isinstance(item, Event)]
        assert (said(events), reason_of(events)) == ("".join(words), "stop"), "nothing follows it"
        await eventually(lambda: served.is_idle, "its end")
        assert served.dropped == 0


async def test_an_answer_without_a_name_gets_a_stream_of_its_own_that_ends_with_it(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    async with Upstream(*ANSWER) as upstream, serving(upstream.url, gateway.url) as served:
        names = [(await post(client, served)).headers["x-deltawire-stream"] for _ in range(2)]
        assert len(set(names)) == 2
        for name in names:
            async with reading(gateway, name) as reader:
                assert said([item.data async for item in reader if isinstance(item, Event)]) == "".join(WORDS)


@pytest.mark.parametrize("form", FORMS)
async def test_answers_of_every_provider_do(gateway: Gateway, client: httpx.AsyncClient, form: str) -> None:
    body = FORMS[form].encode(*FORMS[form].clean)
    kind = "application/x-ndjson" if "ndjson" in form else "text/event-stream; charset=utf-8"
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n".encode()
    translator = TRANSLATORS[form]()
    expected = translator.feed(body) + translator.finish()
    async with Upstream(head, body) as upstream, serving(upstream.url, gateway.url) as served:
        response = await post(client, served)
        assert response.content == body
        async with reading(gateway, response.headers["x-deltawire-stream"]) as reader:
            events = [item.data async for item in reader if isinstance(item, Event)]
    assert [type(data) for data in events] == [type(data) for data in expected]
    assert said(events) == said(expected) != ""


async def test_gemini_s_array_and_a_compressed_body_do_too(gateway: Gateway, client: httpx.AsyncClient) -> None:
    array = b'[{"candidates":[{"content":{"parts":[{"text":"Hi"}]},"finishReason":"STOP"}]}]'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
    async with Upstream(head, array) as upstream, serving(upstream.url, gateway.url) as served:
        response = await client.post(f"{served.url}/v1/models/m:streamGenerateContent")
        async with reading(gateway, response.headers["x-deltawire-stream"]) as reader:
            assert said([item.data async for item in reader if isinstance(item, Event)]) == "Hi"
    packed = gzip.compress(b"".join(ANSWER[1:]))
    head = HEAD.replace(b"X-Request-Id", b"Content-Encoding: gzip\r\nX-Request-Id")
    async with Upstream(head, packed[:30], packed[30:]) as upstream, serving(upstream.url, gateway.url) as served:
        response = await post(client, served, **NAMED)
        assert response.content == b"".join(ANSWER[1:]), "the client unpacks it"
        async with reading(gateway) as reader:
            assert said(await read_message(reader)) == "".join(WORDS)


async def test_a_body_packed_in_several_members_is_read_to_its_end(gateway: Gateway, client: httpx.AsyncClient) -> None:
    head = HEAD.replace(b"X-Request-Id", b"Content-Encoding: gzip\r\nX-Request-Id")
    packed = b"".join(map(gzip.compress, ANSWER[1:]))
    async with Upstream(head, packed[:70], packed[70:]) as upstream, serving(upstream.url, gateway.url) as served:
        async with client.stream("POST", f"{served.url}/v1/x", headers=NAMED) as response:
            assert b"".join([piece async for piece in response.aiter_raw()]) == packed
        async with reading(gateway) as reader:
            events = await read_message(reader)
    assert (said(events), reason_of(events)) == ("".join(WORDS), "stop")


@pytest.mark.parametrize("coding", ["br", "gzip"])
async def test_a_body_that_can_not_be_unpacked_passes_and_readers_are_told(
    gateway: Gateway, client: httpx.AsyncClient, logs: list[Any], coding: str
) -> None:
    head = HEAD.replace(b"X-Request-Id", f"Content-Encoding: {coding}\r\nX-Request-Id".encode())
    async with Upstream(head, b"no such thing") as upstream, serving(upstream.url, gateway.url) as served:
        url = f"{served.url}/v1/chat/completions"
        async with client.stream("POST", url, headers=NAMED) as response, reading(gateway) as reader:
            assert b"".join([piece async for piece in response.aiter_raw()]) == b"no such thing"
            item = await anext(reader)
            assert isinstance(item, Event)
            assert isinstance(item.data, Error)
        await eventually(lambda: served.is_idle, "its end")
        assert served.dropped == 1
    assert [line["stream"] for line in logs if line["event"] == "answer.decode_failed"] == ["chat-7"]


async def test_the_head_says_where_before_the_first_token(gateway: Gateway, client: httpx.AsyncClient) -> None:
    gate = asyncio.Event()
    async with (
        Upstream(HEAD, gate, *ANSWER[1:]) as upstream,
        serving(upstream.url, gateway.url) as served,
        client.stream("POST", f"{served.url}/v1/messages") as response,
        reading(gateway, response.headers["x-deltawire-stream"]) as reader,
    ):
        gate.set()
        assert said(await read_message(reader)) == "".join(WORDS)
        assert await response.aread() == b"".join(ANSWER[1:])


# Who ends an answer


async def leave_early(served: Served, headers: dict[str, str]) -> None:
    """Ask, and leave after the first piece of the answer."""
    async with http_client() as client, client.stream("POST", f"{served.url}/v1/x", headers=headers) as response:
        await anext(response.aiter_raw())


async def test_a_caller_who_leaves_aborts_the_upstream_and_readers_are_told(gateway: Gateway) -> None:
    gate = asyncio.Event()
    async with (
        Upstream(*ANSWER[:2], gate) as upstream,
        serving(upstream.url, gateway.url) as served,
        reading(gateway) as reader,
    ):
        await leave_early(served, NAMED)
        async with asyncio.timeout(DEADLINE):
            await upstream.was_left.wait()
        events = await read_message(reader)
        assert (said(events), reason_of(events)) == (WORDS[0], "incomplete")
        assert "callers_left_total 1.0" in served.proxy.tally.render().decode()


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_one_who_leaves_before_the_head_does_too(gateway: Gateway, method: str) -> None:
    gate = asyncio.Event()
    async with Upstream(gate, *ANSWER) as upstream, serving(upstream.url, gateway.url) as served:
        async with http_client() as leaving:
            asking = asyncio.create_task(leaving.request(method, f"{served.url}/v1/x"))
            await eventually(lambda: upstream.asked, "the request")
            asking.cancel()
            await asyncio.wait([asking])
        async with asyncio.timeout(DEADLINE):
            await upstream.was_left.wait()


async def test_a_detached_answer_goes_on_to_its_end(gateway: Gateway) -> None:
    gate = asyncio.Event()
    async with (
        Upstream(*ANSWER[:2], gate, *ANSWER[2:]) as upstream,
        serving(upstream.url, gateway.url) as served,
        reading(gateway) as reader,
    ):
        await leave_early(served, NAMED | {"X-Deltawire-Detach": "1"})
        await eventually(lambda: "callers_left_total 1.0" in served.proxy.tally.render().decode(), "it was noticed")
        assert not upstream.was_left.is_set()
        gate.set()
        events = await read_message(reader)
        assert (said(events), reason_of(events)) == ("".join(WORDS), "stop")


@pytest.mark.parametrize("who", ["caller", "reader"])
@pytest.mark.parametrize("parts", [[], [HEAD], [HEAD, b": ping\n\n"]], ids=["nothing", "head", "ping"])
async def test_readers_are_told_of_an_answer_that_ends_before_it_began(
    gateway: Gateway, parts: list[bytes], who: str
) -> None:
    async with (
        Upstream(*parts, stays=True) as upstream,
        serving(upstream.url, gateway.url) as served,
        reading(gateway) as reader,
        http_client() as leaving,
    ):
        asking = asyncio.create_task(post(leaving, served, **NAMED))
        await eventually(lambda: upstream.asked, "the request")
        if who == "reader":
            await _cancel(gateway, reader)
        else:
            asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        async with asyncio.timeout(DEADLINE):
            item = await anext(reader)
        assert isinstance(item, Event)
        assert isinstance(item.data, Error)
        assert item.data.code == ("cancelled" if who == "reader" else "incomplete")


@pytest.mark.parametrize("detach", ["0", "1"])
async def test_a_cancel_before_the_first_token_aborts_the_upstream(
    gateway: Gateway, client: httpx.AsyncClient, detach: str
) -> None:
    async with (
        Upstream(stays=True) as upstream,
        serving(upstream.url, gateway.url) as served,
        reading(gateway) as reader,
    ):
        asking = asyncio.create_task(post(client, served, **NAMED, **{"X-Deltawire-Detach": detach}))
        await eventually(lambda: upstream.asked, "the request")
        await _cancel(gateway, reader)
        async with asyncio.timeout(DEADLINE):
            await upstream.was_left.wait()
        response = await asking
    assert response.status_code == 499
    assert response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("detach", ["0", "1"])
async def test_a_cancel_in_the_middle_ends_the_answer_for_all_and_the_caller_sees_that_it_is_not_whole(
    gateway: Gateway, client: httpx.AsyncClient, detach: str
) -> None:
    async with (
        Upstream(*ANSWER[:3], stays=True) as upstream,
        serving(upstream.url, gateway.url) as served,
        reading(gateway) as reader,
        client.stream("POST", f"{served.url}/v1/x", headers=NAMED | {"X-Deltawire-Detach": detach}) as response,
    ):
        pieces = response.aiter_raw()
        assert await anext(pieces) == ANSWER[1]
        await _cancel(gateway, reader)
        async with asyncio.timeout(DEADLINE):
            await upstream.was_left.wait()
        events = await read_message(reader)
        assert (said(events), reason_of(events)) == ("".join(WORDS[:2]), "cancelled")
        assert await anext(pieces) == ANSWER[2]
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(pieces)


async def _cancel(gateway: Gateway, reader: Subscriber) -> None:
    """Cancel once there is somebody to hear it."""
    await eventually(lambda: gateway.hub.info("chat-7").producers, "that the proxy publishes")
    assert await reader.signal("cancel") == 1


# The upstream's failures


async def test_keys_are_never_logged(gateway: Gateway, client: httpx.AsyncClient, logs: list[Any]) -> None:
    broken = [CHUNKED, b"11\r\ndata: {nonsense\n\n\r\n"]
    async with Upstream(*broken, breaks=True) as upstream, serving(upstream.url, gateway.url) as served:
        url = f"{served.url}/v1/models/m:streamGenerateContent?key=sk-query"
        headers = {"Authorization": "Bearer sk-head", "X-Goog-Api-Key": "sk-goog", **NAMED}
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(url, headers=headers)
        await eventually(lambda: served.is_idle, "its end")
    assert any(line["event"] == "upstream.failed" for line in logs)
    assert "sk-" not in str(logs)
    assert b"sk-head" in upstream.asked[0].head


FAULTS: dict[str, tuple[list[Part], dict[str, Any], str, bool]] = {
    "disconnect": (list(ANSWER[:3]), {"breaks": True}, "error", True),
    "truncate": (list(ANSWER[:3]), {}, "incomplete", False),
    "malformed": ([*ANSWER[:3], b"data: {nonsense\n\n"], {}, "error", False),
    "stall": (list(ANSWER[:3]), {"stays": True}, "stalled", True),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_after_a_fault_the_caller_has_what_there_was_and_readers_an_end(
    gateway: Gateway, client: httpx.AsyncClient, fault: str
) -> None:
    parts, how, reason, breaks = FAULTS[fault]
    if fault == "disconnect":  # the end of the connection is the end of the body otherwise
        parts = [CHUNKED, *(b"%x\r\n%b\r\n" % (len(it), it) for it in parts[1:] if isinstance(it, bytes))]
    async with (
        Upstream(*parts, **how) as upstream,
        serving(upstream.url, gateway.url, idle_timeout=0.2 if fault == "stall" else 60.0) as served,
        reading(gateway) as reader,
    ):
        got = b""
        try:
            async with client.stream("POST", f"{served.url}/v1/x", headers=NAMED) as response:
                async for piece in response.aiter_raw():
                    got += piece
        except httpx.RemoteProtocolError:
            assert breaks
        else:
            assert not breaks
        assert got == b"".join(it for it in FAULTS[fault][0][1:] if isinstance(it, bytes))
        events = await read_message(reader)
    assert (said(events), reason_of(events)) == ("".join(WORDS[:2]), reason)
    assert any(isinstance(data, Error) for data in events) is (fault != "truncate")


LOST = "the connection to the provider was lost before the end of the answer"
TOLD: dict[str, tuple[list[Part], str]] = {
    "half an answer": ([CHUNKED, b"5\r\n"], LOST),
    "no answer": ([b""], LOST),
    "no HTTP": ([b"SSH-2.0-x\r\n"], LOST),
    "another version's": ([b"HTTP/1.1 999 Odd\r\n\r\n"], "the provider's answer is none that can be passed on"),
    "unknown coding": (
        [HEAD.replace(b"Connection", b"Content-Encoding: br\r\nConnection"), b"x"],
        "the provider's answer is compressed in a way that can't be read",
    ),
}


@pytest.mark.parametrize("what", TOLD)
async def test_readers_are_told_in_plain_words_what_failed(
    gateway: Gateway, client: httpx.AsyncClient, what: str
) -> None:
    parts, told = TOLD[what]
    async with Upstream(*parts) as upstream, serving(upstream.url, gateway.url) as served, reading(gateway) as reader:
        with suppress(httpx.RemoteProtocolError):
            await client.post(f"{served.url}/v1/messages", headers=NAMED)
        assert await anext_error(reader) == Error(told, "stream_failed")


async def test_readers_are_told_of_a_provider_that_is_away_and_not_where_it_is(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    async with serving("http://127.0.0.1:1", gateway.url) as served, reading(gateway) as reader:
        assert (await client.post(f"{served.url}/v1/messages", headers=NAMED)).status_code == 502
        assert await anext_error(reader) == Error("the provider can't be reached", "stream_failed")


async def test_readers_are_told_of_a_request_that_can_not_be_sent(gateway: Gateway) -> None:
    """Below servers that take any name of a field for one."""
    scope = {"type": "http", "method": "POST", "path": "/v1/messages"}
    fields = [(b"x-deltawire-stream", b"chat-7"), (b"a name", b"1")]
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    proxy = Proxy("http://127.0.0.1:1", gateway.url)
    async with reading(gateway) as reader:
        await proxy(scope | {"headers": fields}, asyncio.Event().wait, send)  # type: ignore[arg-type]
        assert sent[0]["status"] == 502
        assert await anext_error(reader) == Error("the request could not be passed on to the provider", "stream_failed")
    await proxy.aclose(0)


async def test_readers_are_told_of_a_fault_of_the_proxy(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("deltawire.gateway.proxy.exchange.pass_to_caller", fail)
    async with (
        Upstream(*ANSWER) as upstream,
        serving(upstream.url, gateway.url) as served,
        reading(gateway) as reader,
        http_client() as client,
    ):
        assert (await client.post(f"{served.url}/v1/messages", headers=NAMED)).status_code == 500
        assert await anext_error(reader) == Error("the proxy failed at the answer", "stream_failed")


async def anext_error(reader: Subscriber) -> Error:
    """The next event, which is an error."""
    async with asyncio.timeout(DEADLINE):
        item = await anext(reader)
    assert isinstance(item, Event)
    assert isinstance(item.data, Error)
    return item.data


async def test_a_slow_first_token_is_waited_for_and_one_that_never_comes_is_504(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    async with (
        Upstream(stays=True) as upstream,
        serving(upstream.url, gateway.url, idle_timeout=0.2) as served,
        reading(gateway) as reader,
    ):
        response = await post(client, served, **NAMED)
        assert response.status_code == 504
        item = await anext(reader)
        assert isinstance(item, Event)
        assert isinstance(item.data, Error)
        assert item.data.code == "stalled"
