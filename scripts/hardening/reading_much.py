"""Attacks by reading: many consumers of a long log in one moment, and lists of streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack

from scripts.bench.wire import request
from scripts.hardening import answers
from scripts.hardening.attack import Target, attack
from scripts.hardening.frames import text

EVENTS = 8000
"""In the log: what the limit on its bytes keeps of such short ones."""

BATCH = 100
"""Events published in one message, of which the next waits for the ack: filling the log is not the attack."""

FILTERS = ("error", "usage", "extension", "content_start", "content_end", "message_start", "message_stop", "thinking")
"""None of which is in the log."""

CROWD = 8
"""Consumers at once. A gateway that read all they ask for in one go would be deaf for a tenth of a second and more;
their handshakes alone take some milliseconds."""

UNREAD = 50
"""Pages that are asked for at once and not read: 50 MiB if they were made whole."""

WATCHED = 1.0
"""Seconds the neighbours are watched for more, so that one in a hundred of their events is not the single slowest."""


async def _fill(target: Target) -> str:
    """A stream whose deltas belong to two blocks in turn, so that none folds with the next; its id."""
    name = target.name()
    batch = [{"type": "text_delta", "data": {"text": "word", "index": number % 2}} for number in range(BATCH)]
    async with target.upgraded(f"{name}/publish") as it:
        for last in range(BATCH, EVENTS + 1, BATCH):
            await it.send(text(batch))
            while (message := await it.read_message()) is not None and message.get("seq") != last:
                pass
    return name


async def _join(target: Target, name: str, queries: Iterable[str], until: str) -> AsyncIterator[str]:
    """Consumers that ask for this in one moment, and read until they are told that."""
    async with AsyncExitStack() as stack:
        sockets = [(await stack.enter_async_context(target.hostile()), query) for query in queries]
        for it, query in sockets:
            await it.send(request(f"/v1/streams/{name}/subscribe?{query}", target.port, token=target.reader))
        for it, _ in sockets:
            if (status := await it.ask(b"")) != 101:
                yield answers.of_status(status)
                continue
            while (message := await it.read_message()) is not None and message["type"] != until:
                pass
            yield answers.SERVED if message is not None else await it.read_ending()
    await asyncio.sleep(WATCHED)


@attack("filters that let nothing of a long log through", answers.SERVED, is_repeated=False, is_timed=True)
async def filtered(target: Target) -> AsyncIterator[str]:
    """Each another one, so that none has what was read for the next."""
    name = await _fill(target)
    filters = [f"types={one},{other}" for one in FILTERS for other in FILTERS if one < other]
    async for answer in _join(target, name, filters[:CROWD], "caught_up"):
        yield answer


@attack("a long log replayed by many at once", answers.SERVED, is_repeated=False, is_timed=True)
async def replayed(target: Target) -> AsyncIterator[str]:
    """By the policy that folds, which costs most; who has seen the beginning leaves."""
    name = await _fill(target)
    async for answer in _join(target, name, [""] * CROWD, "text_delta"):
        yield answer


@attack("lists of streams", "200", "400")
async def listed(target: Target) -> AsyncIterator[str]:
    """By who may see all, a few or none of them, and with what there is not to ask for."""
    tokens = [target.everything, target.mint.token(subscribe=["a*", "b", "x*"]), target.mint.token(publish=["*"])]
    asked = [
        request(f"/v1/streams?{query}", target.port, token=token)
        for token in tokens
        for query in ("", "limit=1000", "limit=1&after=x", "limit=1001", "after=%20", "foo=1")
    ]
    for answer in await asyncio.gather(*map(target.ask, asked)):
        yield answer


@attack("pages of events that nobody reads", "200", "503", is_timed=True)
async def unread(target: Target) -> AsyncIterator[str]:
    """Asked for by many, who go without having read them."""
    name = await _fill(target)
    asked = request(f"/v1/streams/{name}/events?limit=10000", target.port, token=target.reader)
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(target.hostile(receive_buffer=4096)) for _ in range(UNREAD)]
        for it in peers:
            yield answers.of_status(await it.ask(asked))


ATTACKS = (filtered, replayed, listed, unread)
