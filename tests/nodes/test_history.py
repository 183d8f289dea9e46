"""What was acked is read once, in order, through every node, while nodes are killed and clients move between them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from deltawire.protocol.addresses import PREFIX
from scripts.proof.numbered import KEEPING, STREAM, Writer, read_message, text_of
from tests.nodes.together import processes_on
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.soaking import lasting
from tests.support.waiting import eventually

pytestmark = needs_redis


class Reader:
    """A reader through all its connections: it resumes after what it has, wherever it gets to.

    Args:
        policy: relayed by a node that does not own the stream is `block`, served there by itself is any other one.

    Attributes:
        last: seq of the newest event it has.
        connections: it has had.
        faults: what must not be, in words.
    """

    def __init__(self, policy: str) -> None:
        self._policy = policy
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


@pytest.mark.soak
@pytest.mark.slow
async def test_nothing_acked_is_lost_doubled_or_misordered_while_nodes_are_killed(server: RedisServer) -> None:
    chance = random.Random(14)
    writer, readers = Writer(), [Reader(policy) for policy in ("block", *["disconnect&buffer=10000"] * 3)]
    async with processes_on(server, 3, **KEEPING) as processes, asyncio.TaskGroup() as tasks:

        def pick() -> str:
            return chance.choice(processes.served).url

        owner = chance.randrange(3)
        publishing = tasks.create_task(writer.publish(processes.served[owner].url))
        await eventually(lambda: writer.acked, "that the stream has its owner")
        publishing.cancel()
        following = [tasks.create_task(it.follow(pick)) for it in readers]
        for victim in (owner, *(chance.randrange(3) for _ in range(lasting(0, 30)))):
            publishing = tasks.create_task(writer.publish(pick()))
            await asyncio.sleep(chance.uniform(0.05, 0.3))  # at a random moment
            await processes.kill(victim)
            await asyncio.wait({publishing}, timeout=0.5)  # it was in the way of the killed one, or was not
            publishing.cancel()
            goes_on = tasks.create_task(_publish_again(writer, processes.served[(victim + 1) % 3].url))
            await _acked_after(writer, writer.acked)
            goes_on.cancel()
            await processes.restart(victim)
        await eventually(lambda: all(it.last >= writer.acked for it in readers), "that everybody has everything")
        for it in following:
            it.cancel()
        for served in processes.served:
            await writer.judge(served)
    assert writer.faults == []
    assert [it.faults for it in readers] == [[]] * len(readers)
    assert writer.acked > 0
    assert readers[0].connections > 1, "who was relayed had to resume"


async def _acked_after(writer: Writer, before: int) -> None:
    await eventually(lambda: writer.acked > before, "that it goes on at another node")


async def _publish_again(writer: Writer, url: str) -> None:
    while True:
        await writer.publish(url)
        await asyncio.sleep(0.02)  # until another node has taken the stream over
