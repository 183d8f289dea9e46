"""Batches: items come in their order, and what waits of one never costs many times its payload."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import Raw

from deltawire.gateway.hub.fair_queue import FairQueue
from deltawire.gateway.server import Gateway
from deltawire.gateway.server.connection.backlog import STEP
from deltawire.gateway.server.connection.batch import ITEM_COST, MAX_TOLD, SHORTEST, Batch
from deltawire.gateway.server.connection.connection import GatewayConnection
from deltawire.protocol.codec import JSON, MSGPACK
from deltawire.protocol.messages import Ping
from tests.support.peers import producer, text_delta


def split(*items: bytes) -> Batch:
    """A batch of these items in JSON."""
    payload = b"[" + b",".join(items) + b"]"
    return Batch(msgspec.json.decode(payload, type=list[Raw]), len(payload))


def take_all(batch: Batch) -> list[tuple[int, bytes]]:
    """What is left of it."""
    return [(index, bytes(item)) for index, item in (batch.take() for _ in range(len(batch)))]


def test_items_come_in_their_order_with_their_indexes() -> None:
    items = [b'"%011d"' % number for number in range(200)]
    batch = split(*items)
    assert take_all(batch) == list(enumerate(items))
    assert not batch.untold


def test_items_too_short_for_a_message_are_only_counted_where_they_are_many() -> None:
    items = [b'"%011d"' % number if number % 9 == 0 else b"%d" % number for number in range(200)]
    batch = split(*items)
    taken = take_all(batch)
    assert taken == [(at, it) for at, it in enumerate(items) if len(it) >= SHORTEST or at < MAX_TOLD]
    assert batch.untold == len(items) - len(taken)


def test_no_message_is_shorter_than_the_shortest() -> None:
    assert min(len(codec.encode(Ping())) for codec in (JSON, MSGPACK)) == SHORTEST


@pytest.mark.parametrize("item", [b"0", b"[]", b'"12345678"'], ids=lambda it: it.decode())
def test_a_batch_of_nothing_costs_little_beside_its_payload(item: bytes) -> None:
    batch = split(*[item] * 20_000)
    assert batch.held_bytes < len(item) * 20_000 + 20_000 * 10 + MAX_TOLD * ITEM_COST


async def test_the_rest_of_a_batch_is_counted_while_it_waits(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once: hundreds may come before the next round of housekeeping."""
    counted: list[int] = []
    count = GatewayConnection.count

    def note(connection: GatewayConnection, held: int) -> None:
        counted.append(held - connection.cost)
        count(connection, held)

    monkeypatch.setattr(FairQueue, "has_time", lambda *_: False)
    monkeypatch.setattr(GatewayConnection, "count", note)
    gateway.hub.deadlines.remove(gateway._housekeeping)
    events = [text_delta("x")] * STEP * 10
    async with producer(gateway) as writing:
        await writing.say(events)
        await writing.read_until("ack", seq=len(events))
    assert max(counted) >= (len(events) - STEP) * ITEM_COST
    assert counted[-1] < ITEM_COST, "and no longer"
