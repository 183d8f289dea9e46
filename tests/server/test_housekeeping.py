"""Rounds of the connections: everybody is looked at once, and nobody waits for it."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from deltawire.gateway.server import Gateway, housekeeping
from deltawire.gateway.server.connection.connection import GatewayConnection
from tests.support.peers import consumer
from tests.support.waiting import eventually, turn

MANY = 1_000_000
"""Bytes."""


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
        gateway.hub.deadlines.remove(gateway._housekeeping)
        monkeypatch.setattr(housekeeping, "PER_TURN", 2)
        monkeypatch.setattr(GatewayConnection, "keep_alive", note)
        gateway._housekeeping.sweep(gateway.hub.now())
        assert len(looked_at) == 2, "the others wait for the next turn"
        gateway._housekeeping.sweep(gateway.hub.now())
        assert len(looked_at) == 2, "there is one round at a time"
        manager = gateway.hub.manager
        first = looked_at[0]
        counted = manager.elsewhere - first.held_bytes + first.cost
        first.occupy(first.cost, MANY)
        assert manager.elsewhere == counted + MANY, "at once"
        await turn()
        assert set(looked_at) == set(gateway._connections)
        assert len(looked_at) == 5
        assert manager.elsewhere >= counted + MANY, "nor is it forgotten when the round ends"
        first.occupy(first.cost)
        gateway._housekeeping.sweep(gateway.hub.now())
        await eventually(lambda: not gateway._housekeeping._left, "that the round is over")
        assert manager.elsewhere == sum(it.held_bytes for it in gateway._connections)


async def test_free_memory_is_returned_when_all_have_gone_and_again_when_less_is_kept(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    returned: list[int] = []
    manager = gateway.hub.manager
    monkeypatch.setattr(housekeeping, "return_free_memory", lambda: returned.append(manager.bytes))
    gateway.hub.deadlines.remove(gateway._housekeeping)
    gateway.hub.create("kept")
    kept = manager.bytes
    async with consumer(gateway):
        gateway._housekeeping.sweep(gateway.hub.now())
        assert not returned, "somebody is there"
    await eventually(lambda: not gateway._connections and not manager.elsewhere, "that it has gone")
    for _ in range(2):
        gateway._housekeeping.sweep(gateway.hub.now())
    assert len(returned) == 1, "once"
    assert returned[0] >= kept
    manager.close("kept", gateway.hub.now())
    manager.expire(gateway.hub.now() + gateway.settings.closed_retention + 1)
    gateway._housekeeping.sweep(gateway.hub.now())
    assert manager.bytes < returned[0]
    assert len(returned) == 2


async def test_nothing_is_counted_for_who_has_gone_however_late_its_request_is_judged(gateway: Gateway) -> None:
    async with consumer(gateway):
        (connection,) = gateway._connections
    await eventually(lambda: not gateway.hub.manager.elsewhere, "that it is counted no more")
    connection.occupy(MANY)
    assert gateway.hub.manager.elsewhere == 0
