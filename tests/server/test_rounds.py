"""Rounds of the connections: everybody is looked at once, and nobody waits for it."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from gateway.server import Gateway, rounds
from gateway.server.connection import GatewayConnection
from tests.server.peers import consumer
from tests.server.waiting import turn


async def test_a_round_is_made_in_slices_and_looks_at_every_connection_once(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[GatewayConnection] = []

    def note(connection: GatewayConnection, *_: float) -> bool:
        looked_at.append(connection)
        return True

    async with AsyncExitStack() as stack:
        for _ in range(5):
            await stack.enter_async_context(consumer(gateway))
        gateway.hub.stop_sweeping(gateway._rounds)
        monkeypatch.setattr(rounds, "SLICE", 2)
        monkeypatch.setattr(GatewayConnection, "keep_alive", note)
        gateway._rounds.sweep(gateway.hub.now())
        assert len(looked_at) == 2, "the others wait for the next turn"
        gateway._rounds.sweep(gateway.hub.now())
        assert len(looked_at) == 2, "there is one round at a time"
        gateway.hub.manager.elsewhere = 0
        await turn()
        assert set(looked_at) == gateway._connections
        assert len(looked_at) == 5
        assert gateway.hub.manager.elsewhere >= sum(it.held_bytes for it in looked_at)
