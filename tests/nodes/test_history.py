"""What was acked is read once, in order, through every node, while nodes are killed and clients move between them."""

from __future__ import annotations

import asyncio
import random
from itertools import repeat

import pytest

from scripts.proof.numbered import KEEPING, Writer
from tests.nodes.roaming import Reader, end_reading, publish_on
from tests.nodes.together import processes_on
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.soaking import lasting
from tests.support.waiting import eventually

pytestmark = needs_redis


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
            other = processes.served[(victim + 1) % 3].url
            goes_on = tasks.create_task(publish_on(writer, repeat(other).__next__))
            await _acked_after(writer, writer.acked)
            goes_on.cancel()
            await processes.restart(victim)
        await end_reading(writer, readers, following, processes.served)
    assert writer.faults == []
    assert [it.faults for it in readers] == [[]] * len(readers)
    assert writer.acked > 0
    assert readers[0].connections > 1, "who was relayed had to resume"


async def _acked_after(writer: Writer, before: int) -> None:
    await eventually(lambda: writer.acked > before, "that it goes on at another node")
