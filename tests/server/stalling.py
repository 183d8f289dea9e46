"""Consumers that stop reading, and how the gateway sees them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from deltawire.gateway.hub import LocalStream
from deltawire.gateway.server import Gateway
from deltawire.gateway.server.connection.consumer import Consumer
from deltawire.protocol.events import TextDelta
from tests.support.rawpeer import RawPeer, raw_peer
from tests.support.waiting import eventually, turn

SMALL_BUFFER = 4096
FILLER = 8 * 1024


class Stalled:
    """A consumer whose socket is full.

    Attributes:
        raw: its client, which is not reading now.
        cursor: the last seq that was written to its socket.
    """

    def __init__(self, raw: RawPeer, cursor: int) -> None:
        self.raw = raw
        self.cursor = cursor


def consumers_of(gateway: Gateway) -> list[Consumer]:
    """The consumers connected over sockets."""
    return [it.peer for it in gateway._connections if isinstance(it.peer, Consumer)]


@asynccontextmanager
async def stalled(gateway: Gateway, query: str, *, stream: str = "demo") -> AsyncIterator[Stalled]:
    """A consumer with a tiny receive buffer that caught up and then stopped reading until its socket was full."""
    local = gateway.hub.get_or_create(stream)
    before = set(consumers_of(gateway))
    async with raw_peer(gateway.port, f"/v1/streams/{stream}/subscribe?{query}", SMALL_BUFFER) as raw:
        await raw.read_until("caught_up")
        [seen] = set(consumers_of(gateway)) - before
        while not seen._is_stalled:
            local.send_nowait(TextDelta("#" * FILLER))
            gateway.hub.flush()  # on a busy machine its stream would rest first
            await turn(3)
        await eventually(lambda: seen._is_stalled)
        yield Stalled(raw, seen.subscription.cursor)


def say(local: LocalStream, count: int, text: str = "x") -> int:
    """Append small deltas in one turn; returns the seq of the last."""
    last = 0
    for _ in range(count):
        last = local.send_nowait(TextDelta(text))
    return last
