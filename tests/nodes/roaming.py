"""A reader that goes from node to node, and misses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from deltawire.protocol.addresses import PREFIX
from scripts.proof.children import Served
from scripts.proof.numbered import STREAM, Writer, read_message, text_of
from tests.support.waiting import eventually

PACE = 0.02
"""Seconds between two tries of a client."""


class Reader:
    """A reader through all its connections: it resumes after what it has, wherever it gets to.

    Args:
        policy: relayed by a node that does not own the stream is `block`, served there by itself is any other one.

    Attributes:
        last: seq of the newest event it has.
        connections: it has had.
        faults: what must not be, in words.
    """

    def __init__(self, policy: str = "block") -> None:
        self._policy = policy
        self.last = 0
        self.connections = 0
        self.faults: list[str] = []
        self._epoch = ""

    async def follow(self, pick: Callable[[], str]) -> None:
        """Read on and on, each time at an address that is picked anew."""
        async for url in _picked(pick):
            with suppress(ConnectionClosed, InvalidHandshake, OSError):
                await self._read(url)

    async def _read(self, url: str) -> None:
        resume = f"&after={self.last}&epoch={self._epoch}" if self._epoch else ""
        path = f"{PREFIX}/{STREAM}/subscribe?policy={self._policy}{resume}"
        async with connect(f"{url}{path}", proxy=None, ping_interval=None) as connection:
            self.connections += 1
            while True:
                self._judge(await read_message(connection))

    def _judge(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "subscribed":
                if self._epoch not in ("", message["epoch"]):
                    self.faults.append(f"a new epoch: {message}")
                self._epoch = message["epoch"]
            case "text_delta":
                expected = self.last + 1
                if (message["seq"], message["data"]["text"]) != (expected, text_of(expected, expected)):
                    self.faults.append(f"in place of event {expected}: {message}")
                self.last = message["seq"]
            case "gap":
                self.faults.append(f"a gap: {message}")
            case "problem" if not message["retryable"]:
                self.faults.append(f"a problem: {message}")
            case _:
                pass


async def publish_on(writer: Writer, pick: Callable[[], str]) -> None:
    """Publish on and on, each time at an address that is picked anew."""
    async for url in _picked(pick):
        await writer.publish(url)


async def _picked(pick: Callable[[], str]) -> AsyncIterator[str]:
    """Yield addresses at the pace of a client that is refused: as long as nobody serves it, it asks now and then."""
    while True:
        yield pick()
        await asyncio.sleep(PACE)


async def end_reading(
    writer: Writer, readers: Sequence[Reader], following: Sequence[asyncio.Task[None]], nodes: Sequence[Served]
) -> None:
    """Wait until everybody has what was acked, and add to the writer's faults what is wrong at any node."""
    await eventually(lambda: all(it.last >= writer.acked for it in readers), "that everybody has everything")
    for it in following:
        it.cancel()
    for served in nodes:
        await writer.judge(served)
