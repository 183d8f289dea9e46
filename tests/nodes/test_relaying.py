"""Any node takes any producer and consumer: what another node owns is relayed there."""

from __future__ import annotations

import pytest

from tests.engines.on_redis import expect_all, write
from tests.nodes.together import is_owner, nodes_on
from tests.support.peers import consumer, producer, publish, text_delta
from tests.support.redis_server import RedisServer, needs_redis

pytestmark = needs_redis


async def test_a_stream_is_written_and_read_through_any_node(server: RedisServer) -> None:
    async with nodes_on(server, 3) as (one, two, three):
        await write(one, 1, 5)
        await write(two, 6, 10)
        await write(three, 11, 15)
        for node in (one, two, three):
            await expect_all(node, 15)
        assert [is_owner(node) for node in (one, two, three)] == [True, False, False]
