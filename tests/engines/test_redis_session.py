"""Who else is there on a server."""

from __future__ import annotations

from functools import partial

import pytest
from structlog.testing import capture_logs

from deltawire.gateway.engines.redis import keeping
from deltawire.gateway.engines.redis.address import parse_address
from deltawire.gateway.engines.redis.client import make_client
from deltawire.gateway.engines.redis.identity import Identity
from deltawire.gateway.engines.redis.keys import Keys
from deltawire.gateway.engines.redis.session import Session
from tests.support.on_redis import gateway_on
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.waiting import eventually

pytestmark = needs_redis


async def test_workers_of_one_gateway_are_no_peers_of_each_other(server: RedisServer) -> None:
    client = make_client(parse_address(server.url), 5.0)
    sessions = [Session(client, Keys("deltawire"), Identity(key=key)) for key in ("one", "one")]
    for session in (*sessions, *sessions):
        await session.renew()
    assert [it.has_peers for it in sessions] == [False, False]
    assert len({it.node for it in sessions}) == 2
    await Session(client, Keys("deltawire"), Identity(key="two")).renew()
    for session in sessions:
        await session.renew()
    assert [it.has_peers for it in sessions] == [True, True]
    await client.close()


async def test_a_server_that_begins_to_evict_is_told_each_time_it_does(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "RENEWAL", 0.01)
    async with gateway_on(server) as gateway:
        session = gateway.hub._engine._session  # type: ignore[union-attr]

        def is_renewed(since: float) -> bool:
            return bool(session.lasts_until > since)

        async def look_again() -> None:
            for _ in range(3):
                await eventually(partial(is_renewed, session.lasts_until))

        with capture_logs() as logs:
            for policy in ("allkeys-lru", "noeviction", "volatile-ttl"):
                server.command("CONFIG", "SET", "maxmemory-policy", policy)
                await look_again()
        where = f"maxmemory-policy of 127.0.0.1:{server.port} is"
        assert [it["detail"] for it in logs if it["event"] == "storage.eviction_enabled"] == [
            f"{where} {policy}, which evicts stored events: set it to noeviction"
            for policy in ("allkeys-lru", "volatile-ttl")
        ]
