"""A reader that goes from node to node, and misses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from deltawire.protocol.addresses import PREFIX
from scripts.proof.children import Served
from scripts.proof.numbered import STREAM, Writer, read_message, text_of
from tests.support.waiting import eventually


class Reader:
    """A reader through all its connections: it resumes after what it has, wherever it gets to.

    Attributes:
        last: seq of the newest event it has.
        connections: it has had.
        faults: what must not be, in words.
    """

    def __init__(self) -> None:
        self.last = 0
        self.connections = 0
        self.faults: list[str] = []
        self._epoch = ""

    async def follow(self, pick: Callable[[], str]) -> None:
        """Read on and on, each time at an address that is picked anew."""
        while True:
            with suppress(ConnectionClosed, InvalidHandshake, OSError):
                await self._read(pick())
            await asyncio.sleep(0.02)  # as long as nobody serves it, it asks now and then

    async def _read(self, url: str) -> None:
        resume = f"&after={self.last}&epoch={self._epoch}" if self._epoch else ""
        path = f"{PREFIX}/{STREAM}/subscribe?policy=block{resume}"
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


async def end_reading(
    writer: Writer, readers: Sequence[Reader], following: Sequence[asyncio.Task[None]], nodes: Sequence[Served]
) -> None:
    """Wait until everybody has what was acked, and add to the writer's faults what is wrong at any node."""
    await eventually(lambda: all(it.last >= writer.acked for it in readers), "that everybody has everything")
    for it in following:
        it.cancel()
    for served in nodes:
        await writer.judge(served)
