"""The proxy below servers of other kinds: one that ends the application with the caller, one that waits for its end."""

from __future__ import annotations

import asyncio

import pytest

from deltawire.gateway.proxy import Proxy
from deltawire.gateway.server import Gateway
from tests.proxy.calls import Call
from tests.proxy.readers import read_message, reading, reason_of, said
from tests.proxy.upstream import ANSWER, WORDS, Upstream
from tests.support.fakes import FakeGateway, stay
from tests.support.waiting import DEADLINE, eventually

NAMED = (b"x-deltawire-stream", b"chat-7")


async def test_a_server_that_ends_the_application_when_a_caller_leaves_ends_the_answer(gateway: Gateway) -> None:
    async with Upstream(*ANSWER[:2], stays=True) as upstream, reading(gateway) as reader:
        proxy = Proxy(upstream.url, gateway.url)
        call = Call(proxy, NAMED)
        await eventually(lambda: call.body == ANSWER[1], "the first piece")
        call.task.cancel()
        async with asyncio.timeout(DEADLINE):
            await upstream.was_left.wait()
        with pytest.raises(asyncio.CancelledError):
            await call.task
        events = await read_message(reader)
        assert (said(events), reason_of(events)) == (WORDS[0], "incomplete")
        assert "callers_left_total 1.0" in proxy.tally.render().decode()
        await proxy.aclose()


@pytest.mark.parametrize("limit", [1, 2])
async def test_a_cancel_aborts_the_upstream_though_the_caller_does_not_read(gateway: Gateway, limit: int) -> None:
    async with Upstream(*ANSWER[:2], stays=True) as upstream, reading(gateway) as reader:
        proxy = Proxy(upstream.url, gateway.url)
        call = Call(proxy, NAMED, limit=limit)
        await eventually(lambda: len(call.sent) == limit, "that the caller does not read")
        await eventually(lambda: gateway.hub.info("chat-7").producers, "that the proxy publishes")
        assert await reader.signal("cancel") == 1
        async with asyncio.timeout(DEADLINE):
            await upstream.was_left.wait()
            await call.task
        assert not any(message.get("more_body") is False for message in call.sent), "the answer is not whole"
        if limit > 1:
            events = await read_message(reader)
            assert (said(events), reason_of(events)) == (WORDS[0], "cancelled")
        await proxy.aclose()


async def test_a_detached_answer_outlives_the_application_that_such_a_server_ends(gateway: Gateway) -> None:
    gate = asyncio.Event()
    async with Upstream(*ANSWER[:2], gate, *ANSWER[2:]) as upstream, reading(gateway) as reader:
        proxy = Proxy(upstream.url, gateway.url)
        call = Call(proxy, NAMED, (b"x-deltawire-detach", b"1"))
        await eventually(lambda: call.body == ANSWER[1], "the first piece")
        call.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call.task
        gate.set()
        events = await read_message(reader)
        assert (said(events), reason_of(events)) == ("".join(WORDS), "stop")
        assert call.body == ANSWER[1], "nothing is sent to who has left"
        await proxy.aclose()


async def test_a_server_that_waits_for_the_application_waits_for_no_reader() -> None:
    async with FakeGateway(stay) as silent, Upstream(*ANSWER) as upstream:
        proxy = Proxy(upstream.url, silent.url)
        call = Call(proxy, NAMED)
        async with asyncio.timeout(DEADLINE):
            await call.task
        assert call.body == b"".join(ANSWER[1:])
        assert proxy._endings, "readers are still to be told"
        await proxy.aclose(0)
        assert not proxy._exchanges
