"""One consumer stands still: whatever its policy, its healthy neighbours miss nothing (SPEC §6)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from deltawire.protocol.messages import Policy
from tests.server.conftest import StartGateway
from tests.server.stalling import stalled
from tests.support.peers import Peer, consumer, producer, publish, ranges_of, text_delta, text_of

HEALTHY = 20
EVENTS = 500

TEXT = [f"{number} " for number in range(EVENTS)]


async def read_all(reader: Peer, policy: Policy, last: int) -> None:
    """Follow to the last event; each one is there by itself, and the text is whole."""
    messages = await reader.read_until("text_delta", seq=last)
    assert ranges_of(messages) == [("text_delta", seq, seq) for seq in range(1, last + 1)], policy
    assert text_of(messages).replace("#", "") == "".join(TEXT), policy


@pytest.mark.parametrize("stopped", Policy)
async def test_a_stopped_consumer_of_any_policy_costs_healthy_ones_nothing(
    start_gateway: StartGateway, stopped: Policy
) -> None:
    gateway = await start_gateway(block_timeout=0.2)
    async with AsyncExitStack() as stack:
        healthy = [
            (await stack.enter_async_context(consumer(gateway, f"policy={policy}&buffer=1000")), policy)
            for policy in Policy
            for _ in range(HEALTHY // len(Policy))
        ]
        slow = await stack.enter_async_context(stalled(gateway, f"policy={stopped}&buffer=10"))
        writing = await stack.enter_async_context(producer(gateway))
        last = slow.cursor + EVENTS
        async with asyncio.TaskGroup() as tasks:
            for reader, policy in healthy:
                tasks.create_task(read_all(reader, policy, last))
            tasks.create_task(publish(writing, *(text_delta(word) for word in TEXT), upto=last))
