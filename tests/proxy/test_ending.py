"""At the end of a proxy, answers have a time to end by themselves."""

from __future__ import annotations

import asyncio

import httpx

from deltawire.gateway.server import Gateway
from tests.proxy.readers import read_message, reading, reason_of
from tests.proxy.upstream import ANSWER, Upstream, serving
from tests.support.waiting import DEADLINE

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
