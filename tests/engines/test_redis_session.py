"""Who else is there on a server."""

from __future__ import annotations

from deltawire.gateway.engines.redis.address import parse_address
from deltawire.gateway.engines.redis.client import make_client
from deltawire.gateway.engines.redis.identity import Identity
from deltawire.gateway.engines.redis.keys import Keys
from deltawire.gateway.engines.redis.session import Session
from tests.support.redis_server import RedisServer, needs_redis

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
