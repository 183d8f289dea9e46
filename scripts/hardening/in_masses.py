"""Attacks by number: one more than each cap, and more memory than there is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from deltawire.gateway.server.accepting.handshakes import GRACE, TICK
from scripts.hardening import answers
from scripts.hardening.attack import Target, attack
from scripts.hardening.frames import MIB, announced
from scripts.hardening.guarded import CAPS, MEMORY_LIMIT
from scripts.hardening.hostile import Hostile

GREED = MEMORY_LIMIT // MIB + 8
"""Connections that together hold more than there is."""

TRIES = 5
"""To open as many connections as there may be before the gateway drops the first ones, on a machine that others use."""


async def _one_more(target: Target, cap: str, side: str, *, is_one_stream: bool) -> AsyncIterator[str]:
    """As many peers as there may be, and one more."""
    name = target.name()
    async with AsyncExitStack() as stack:
        for _ in range(CAPS[cap] + 1):
            stream = name if is_one_stream else target.name()
            it = await stack.enter_async_context(target.upgraded(f"{stream}/{side}"))
            message = await it.read_message()
            if message is None or message["type"] == "problem":
                yield await it.read_ending()
                return
        yield "no cap"


@attack("one consumer more than a stream may have", "close 4003")
async def consumers(target: Target) -> AsyncIterator[str]:
    """`max_consumers`."""
    async for answer in _one_more(target, "max_consumers", "subscribe", is_one_stream=True):
        yield answer


@attack("one producer more than a stream may have", "close 4003")
async def producers(target: Target) -> AsyncIterator[str]:
    """`max_producers`."""
    async for answer in _one_more(target, "max_producers", "publish", is_one_stream=True):
        yield answer


@attack("one stream more than there may be", "close 4003")
async def streams(target: Target) -> AsyncIterator[str]:
    """`max_streams`, all in use."""
    async for answer in _one_more(target, "max_streams", "publish", is_one_stream=False):
        yield answer


@attack("one connection more of a token", "429")
async def of_a_token(target: Target) -> AsyncIterator[str]:
    """`max_connections_per_token`, from many addresses."""
    token, path = target.mint.everything(), f"/v1/streams/{target.name()}/subscribe"
    async with AsyncExitStack() as stack:
        for _ in range(CAPS["max_connections_per_token"] + 1):
            it = await stack.enter_async_context(target.hostile())
            if (status := await it.upgrade(path, token)) != 101:
                yield answers.of_status(status)
                return
        yield "no cap"


async def _crowd(stack: AsyncExitStack, target: Target, count: int, number: int | None = None) -> None:
    """So many sockets that ask for nothing."""
    for _ in range(count):
        await stack.enter_async_context(target.hostile(number))


@attack("one connection more of an address", "429", is_repeated=False)
async def of_an_address(target: Target) -> AsyncIterator[str]:
    """`max_connections_per_address`, with sockets that ask for nothing."""
    async with AsyncExitStack() as stack:
        await _crowd(stack, target, CAPS["max_connections_per_address"], 0)
        yield await target.ask(b"GET /livez HTTP/1.1\r\nHost: g\r\n\r\n", 0)


@attack("one connection more than there may be", "503", is_repeated=False, shuts_out=True)
async def connections(target: Target) -> AsyncIterator[str]:
    """`max_connections`; probes are answered all the same."""
    for _ in range(TRIES):
        answer = await _one_more_than_all(target)
        if not answer.startswith(answers.LATE):
            break
    yield answer


async def _one_more_than_all(target: Target) -> str:
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        began = loop.time()
        await _crowd(stack, target, CAPS["max_connections"])
        if await target.ask(b"GET /livez HTTP/1.1\r\nHost: g\r\n\r\n") != "200":
            return "no probe"
        answer = await target.ask(b"GET /v1/streams HTTP/1.1\r\nHost: g\r\n\r\n")
        took = loop.time() - began
    is_late = answer != "503" and took > GRACE - TICK  # the first ones were dropped for the last ones
    return f"{answers.LATE}it took {took:.1f} s to open all" if is_late else answer


@attack("more memory than there is", "close 4003", answers.DROPPED, answers.SERVED, is_repeated=False)
async def memory(target: Target) -> AsyncIterator[str]:
    """Messages of 1 MiB of which the last byte does not come, on more connections than there is memory for."""
    async with AsyncExitStack() as stack:
        greedy = [await stack.enter_async_context(target.upgraded(f"{target.name()}/publish")) for _ in range(GREED)]
        endings = [asyncio.create_task(_hold(it)) for it in greedy]
        done, kept = await asyncio.wait(endings, timeout=4.0)
        for ending in kept:
            ending.cancel()
        await asyncio.gather(*kept, return_exceptions=True)
        if not done:
            yield "nobody was ended"
        for ending in done:
            yield ending.result()
        if kept:
            yield answers.SERVED


async def _hold(it: Hostile) -> str:
    await it.send(announced(MIB) + b"x" * (MIB - 1))
    return await it.read_ending()


ATTACKS = (consumers, producers, streams, of_a_token, of_an_address, connections, memory)
