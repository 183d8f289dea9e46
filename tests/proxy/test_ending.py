"""At the end of a proxy, answers have a time to end by themselves."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import httpx
import pytest

from deltawire.gateway.proxy import Proxy
from deltawire.gateway.server import Gateway
from tests.proxy.readers import read_message, reading, reason_of, said
from tests.proxy.upstream import ANSWER, WORDS, Upstream, calling, serving
from tests.support.waiting import DEADLINE, eventually, turn

NAMED = {"X-Deltawire-Stream": "chat-7"}


async def test_answers_on_their_way_end_first(gateway: Gateway, client: httpx.AsyncClient) -> None:
    gate = asyncio.Event()
    async with (
        Upstream(*ANSWER[:2], gate, *ANSWER[2:]) as upstream,
        serving(upstream.url, gateway.url) as served,
        client.stream("POST", f"{served.url}/v1/x", headers=NAMED) as response,
    ):
        pieces = response.aiter_raw()
        await anext(pieces)
        closing = asyncio.create_task(served.proxy.aclose(DEADLINE))
        await asyncio.sleep(0)
        assert (await client.get(f"{served.url}/deltawire/readyz")).status_code == 503
        assert (await client.get(f"{served.url}/v1/models")).status_code == 503
        gate.set()
        assert b"".join([piece async for piece in pieces]) == b"".join(ANSWER[2:])
        await closing


async def test_readers_of_those_get_all_of_it(gateway: Gateway, client: httpx.AsyncClient, logs: list[Any]) -> None:
    gate = asyncio.Event()
    async with (
        Upstream(*ANSWER[:2], gate, *ANSWER[2:]) as upstream,
        serving(upstream.url, gateway.url) as served,
        reading(gateway) as reader,
        client.stream("POST", f"{served.url}/v1/x", headers=NAMED) as response,
    ):
        await anext(response.aiter_raw())
        closing = asyncio.create_task(served.proxy.aclose(DEADLINE))
        await asyncio.sleep(0)
        gate.set()
        await closing
        assert served.dropped == 0
        events = await read_message(reader)
        assert (said(events), reason_of(events)) == ("".join(WORDS), "stop")
    assert not [line for line in logs if line["event"] == "proxy.drain_timed_out"]


async def test_those_that_take_too_long_are_ended(gateway: Gateway, client: httpx.AsyncClient) -> None:
    async with (
        Upstream(*ANSWER[:2], stays=True) as upstream,
        serving(upstream.url, gateway.url) as served,
        reading(gateway) as reader,
        client.stream("POST", f"{served.url}/v1/x", headers=NAMED) as response,
    ):
        await anext(response.aiter_raw())
        await served.proxy.aclose(0)
        assert reason_of(await read_message(reader)) == "incomplete"
        async with asyncio.timeout(DEADLINE):
            await upstream.was_left.wait()


async def test_the_time_that_the_server_waits_for_callers_is_not_waited_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from deltawire.gateway.proxy.serving import ProxyServer  # noqa: PLC0415 - an optional extra

    proxy = Proxy("http://127.0.0.1:1", "ws://127.0.0.1:1")
    left: list[float] = []

    async def note(timeout: float) -> None:
        left.append(timeout)

    monkeypatch.setattr(proxy, "aclose", note)
    server = ProxyServer(proxy, "127.0.0.1", 0, DEADLINE, "ws://127.0.0.1:1")
    running = asyncio.create_task(server.run_until_signal())
    await eventually(lambda: server.started, "that it listens")
    signal.raise_signal(signal.SIGTERM)
    await running
    assert 0 < left[0] < DEADLINE


async def test_a_second_signal_ends_answers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from deltawire.gateway.proxy.serving import ProxyServer  # noqa: PLC0415 - an optional extra

    async with Upstream(*ANSWER[:2], stays=True) as upstream:
        proxy = Proxy(upstream.url, "ws://127.0.0.1:1")
        left: list[float] = []
        aclose = proxy.aclose

        async def note(timeout: float) -> None:
            left.append(timeout)
            await aclose(timeout)

        monkeypatch.setattr(proxy, "aclose", note)
        server = ProxyServer(proxy, "127.0.0.1", 0, DEADLINE, "ws://127.0.0.1:1")
        running = asyncio.create_task(server.run_until_signal())
        await eventually(lambda: server.started, "that it listens")
        async with calling(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}") as caller:
            await caller.send(b"POST /v1/x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n")
            await eventually(lambda: proxy._exchanges, "that it asks the provider")
            signal.raise_signal(signal.SIGTERM)
            await eventually(lambda: server.should_exit, "that it knows")
            await turn()
            assert not running.done()
            signal.raise_signal(signal.SIGTERM)
            await running
        assert left == [0.0]
        assert not proxy._exchanges
