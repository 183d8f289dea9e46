"""The connection that commits go over, without a Redis server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from deltawire.gateway.engines.redis.link import Link
from tests.support.serving import listening


async def stay(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def test_a_close_that_is_cancelled_still_closes_and_the_next_one_returns() -> None:
    failures: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, failure: failures.append(failure))
    async with listening(stay) as port:
        lost: list[bool] = []
        _, link = await loop.create_connection(lambda: Link(lambda: lost.append(True)), "127.0.0.1", port)
        closing = asyncio.create_task(link.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await link.close()
        assert lost == [True]
    assert not failures


async def test_a_server_that_does_not_answer_in_time_ends_the_connection() -> None:
    async with listening(stay) as port:
        lost: list[bool] = []
        loop = asyncio.get_running_loop()
        _, link = await loop.create_connection(lambda: Link(lambda: lost.append(True)), "127.0.0.1", port)
        with pytest.raises(TimeoutError):
            await link.call([("PING",)], 0.001)
        assert not link.is_open, "its reply may still come, and must not be taken for another's"
        await link.close()
        assert lost == [True]


async def test_a_reply_that_comes_as_its_time_is_over_is_taken_and_the_connection_goes_on() -> None:
    async with listening(stay) as port:
        loop = asyncio.get_running_loop()
        _, link = await loop.create_connection(lambda: Link(lambda: None), "127.0.0.1", port)
        calling = asyncio.create_task(link.call([("PING",)], 0))
        for _ in range(2):
            await asyncio.sleep(0)
        link.data_received(b"+PONG\r\n")  # in this turn of the loop, the time is over too
        assert await calling == [b"PONG"]
        assert link.is_open
        await link.close()
