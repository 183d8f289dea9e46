"""Two gateways behind one address, each with a memory of its own, and connections that go to one or the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from websockets.asyncio.server import ServerConnection

from deltawire.gateway.client import Publisher, Subscriber
from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from deltawire.protocol.events import Event, TextDelta
from deltawire.protocol.messages import Policy
from tests.client.publishing import numbers, publisher, send_numbers
from tests.support.fakes import AT_ONCE, FakeGateway, FakeLog, cut
from tests.support.serving import connected, listening, pass_on


async def test_what_a_gateway_has_is_not_sent_to_it_again_when_another_one_was_in_between() -> None:
    one, other = FakeLog("e1"), FakeLog("e2")

    async def say_ready_and_go(peer: ServerConnection) -> None:
        await peer.send(other.ready())
        await cut(peer)

    async with (
        FakeGateway(one.serving(1, answer_last=False), say_ready_and_go, one.serving()) as gateway,
        publisher(gateway) as target,
    ):
        await send_numbers(target, 1, 5)
        await target.flush()
        assert target.lost == 0
    assert one.texts == numbers(1, 5)


async def test_what_a_gateway_acked_is_not_lost_any_more_when_that_one_is_back() -> None:
    one, other = FakeLog("e1"), FakeLog("e2")
    async with (
        FakeGateway(one.serving(1), other.serving(1), one.serving()) as gateway,
        publisher(gateway) as target,
    ):
        for number, lost in ((1, 0), (2, 1), (3, 1)):
            await send_numbers(target, number, number)
            await target.flush()
            assert target.lost == lost, f"after {number}: what the gateway has that is not there now"
    assert (one.texts, other.texts) == (["1", "3"], ["2"])


@asynccontextmanager
async def round_robin(*ports: int) -> AsyncIterator[tuple[str, list[asyncio.StreamWriter]]]:
    """A proxy whose n-th connection goes to the n-th port; its address and what it has open."""
    open_ones: list[asyncio.StreamWriter] = []
    served = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        served += 1
        async with connected(ports[(served - 1) % len(ports)]) as (there_reader, there):
            open_ones.extend((writer, there))
            await asyncio.gather(pass_on(reader, there), pass_on(there_reader, writer))

    async with listening(serve) as port:
        yield f"ws://127.0.0.1:{port}", open_ones


async def test_a_reader_is_told_each_time_it_lands_on_the_other_gateway_and_never_gets_a_mixture() -> None:
    settings = Settings(port=0, drain_timeout=0)
    seen: list[list[tuple[object, object]]] = []
    async with (
        Gateway(settings) as one,
        Gateway(settings) as other,
        round_robin(one.port, other.port) as (url, open_ones),
    ):
        for gateway, word in ((one, "one"), (other, "other")):
            async with Publisher(gateway.url, "demo") as target:
                for _ in range(3):
                    await target.send(TextDelta(word))
        async with Subscriber(url, "demo", backoff=AT_ONCE, policy=Policy.DROP_OLDEST) as events:
            for count in (3, 4, 4, 4):
                items = [await anext(events) for _ in range(count)]
                seen.append([(it.seq, it.data if isinstance(it, Event) else it.reason) for it in items])
                while open_ones:
                    open_ones.pop().transport.abort()
    told = (0, "epoch_changed")
    whole = {word: [(seq, TextDelta(word)) for seq in (1, 2, 3)] for word in ("one", "other")}
    assert seen == [whole["one"], *([told, *whole[word]] for word in ("other", "one", "other"))]
