"""Pages of events, and waiting for them, at nodes of which one has yet to learn that it owns a stream no more."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deltawire.gateway.engines.redis import engine as engine_module
from deltawire.gateway.engines.redis import keeping
from deltawire.gateway.engines.redis import session as session_module
from tests.nodes.together import http, is_owner, nodes_on
from tests.support.on_redis import expect_all, read, write
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.waiting import eventually

pytestmark = needs_redis


@pytest.fixture(autouse=True)
def _unaware(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes learn nothing of each other but by asking."""
    for module in (engine_module, session_module):
        monkeypatch.setattr(module, "TTL", 1000.0)
    monkeypatch.setattr(keeping, "RENEWAL", 1000.0)


@pytest.mark.parametrize(("query", "first"), [("after=5", 6), ("after=5&wait=60", 6), ("after=1&epoch=later", 1)])
async def test_a_position_of_the_next_owner_is_judged_by_nobody_but_that_one(
    server: RedisServer, query: str, first: int
) -> None:
    async with nodes_on(server) as (one, two), http(one) as client:
        await write(one, 1, 3)
        node = server.command("HGET", "deltawire:{demo}:state", "owner").split(b"\r\n")[1].decode()
        server.command("DEL", f"deltawire:node:{node}")  # as when its time is over
        await read(two)
        await write(two, 4, 5)
        engine: Any = one.hub._engine
        for owned in engine._committer.owned.values():
            owned.sure_until = 0.0  # that was some time ago
        answer = await client.get(f"/v1/streams/demo/events?{query}")
        assert (answer.status_code, "Retry-After" in answer.headers) == (503, True), answer.text
        await eventually(lambda: not is_owner(one), "that it learns of it")
        await write(one, 6, 6)
        answer = await client.get(f"/v1/streams/demo/events?{query}")
        assert [it["seq"] for it in map(json.loads, answer.text.splitlines())] == list(range(first, 7))
        await expect_all(one, 6)
