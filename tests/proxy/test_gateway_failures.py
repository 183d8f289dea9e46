"""The gateway's failures are none of the caller's."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from deltawire.protocol.events import Event, TextDelta
from tests.proxy.readers import reading
from tests.proxy.upstream import ANSWER, HEAD, Served, Upstream, chat, serving, sse
from tests.support.fakes import FakeGateway, stay
from tests.support.waiting import DEADLINE, eventually

NOWHERE = "ws://127.0.0.1:1"
NAMED = {"X-Deltawire-Stream": "chat-7"}


async def post(client: httpx.AsyncClient, served: Served, **headers: str) -> httpx.Response:
    return await client.post(f"{served.url}/v1/chat/completions", json={"stream": True}, headers=headers)


@pytest.mark.parametrize("headers", [{}, NAMED])
async def test_without_a_gateway_every_byte_comes(
    client: httpx.AsyncClient, headers: dict[str, str], logs: list[Any]
) -> None:
    async with Upstream(*ANSWER) as upstream, serving(upstream.url, NOWHERE) as served:
        response = await post(client, served, **headers)
        assert response.content == b"".join(ANSWER[1:])
        await eventually(lambda: served.is_idle, "that readers are given up")
        assert served.dropped > 0
    assert "tee.ended" in [line["event"] for line in logs]
    why = next(line["why"] for line in logs if line["event"] == "tee.failed")
    assert why.endswith("(linger): no gateway can be reached, connection refused")


async def test_answers_that_wait_for_a_gateway_turn_no_caller_away_and_the_oldest_are_given_up(
    client: httpx.AsyncClient, logs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deltawire.gateway.proxy.answer.LINGER", 3600.0)
    async with Upstream(*ANSWER) as upstream, serving(upstream.url, NOWHERE, max_requests=2) as served:
        names = []
        for _ in range(4):
            response = await post(client, served)
            assert response.status_code == 200
            names.append(response.headers["x-deltawire-stream"])
        await eventually(lambda: len(served.proxy._endings) == 2, "that the oldest are given up")
        assert served.dropped > 0
        given_up = [line for line in logs if line["event"] == "tee.failed"]
        assert [line["stream"] for line in given_up] == names[:2]
        assert all(line["why"].startswith("more than 2 ended answers wait") for line in given_up)
        assert "deltawire_proxy_ending_answers 2.0" in served.proxy.tally.render().decode()


async def test_a_gateway_that_says_nothing_holds_no_caller_up(client: httpx.AsyncClient) -> None:
    many = [HEAD, *sse(*(chat("x" * 50_000) for _ in range(60)))]
    async with FakeGateway(stay) as silent, Upstream(*many) as upstream, serving(upstream.url, silent.url) as served:
        loop = asyncio.get_running_loop()
        began = loop.time()
        response = await post(client, served, **NAMED)
        assert response.content == b"".join(many[1:])
        assert loop.time() - began < 2, "it does not wait for what readers have yet to get"
        await eventually(lambda: served.is_idle, "that readers are given up")
        assert served.dropped > 0


async def test_what_a_gateway_loses_that_restarts_is_counted_and_logged(
    client: httpx.AsyncClient, logs: list[Any]
) -> None:
    gate = asyncio.Event()
    first = Gateway(Settings(port=0, drain_timeout=0))
    async with AsyncExitStack() as stack:
        async with first:
            upstream = await stack.enter_async_context(Upstream(*ANSWER[:2], gate, *ANSWER[2:]))
            served = await stack.enter_async_context(serving(upstream.url, first.url))
            response = await stack.enter_async_context(client.stream("POST", f"{served.url}/v1/x", headers=NAMED))
            async with reading(first) as reader, asyncio.timeout(DEADLINE):
                async for item in reader:
                    if isinstance(item, Event) and isinstance(item.data, TextDelta):
                        break
            port = int(first.url.rpartition(":")[2])
        await stack.enter_async_context(Gateway(Settings(port=port, drain_timeout=0)))
        gate.set()
        assert await response.aread() == b"".join(ANSWER[1:])
        await eventually(lambda: served.is_idle, "its end")
        assert served.counted("lost_events") > 0
        assert served.dropped == 0
        ended = next(line for line in logs if line["event"] == "tee.ended")
        assert ended["lost"] == served.counted("lost_events")
