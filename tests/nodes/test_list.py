"""The list of streams, which speaks for all nodes."""

from __future__ import annotations

from pathlib import Path

from tests.nodes.together import http, node_on, nodes_on
from tests.support.minting import bearer, everything, token, write_secret
from tests.support.on_redis import gateway_on, write
from tests.support.redis_server import RedisServer, needs_redis

pytestmark = needs_redis


async def test_any_node_lists_the_streams_of_all_in_pages(server: RedisServer) -> None:
    async with nodes_on(server, 3) as nodes:
        for number, node in enumerate(nodes):
            for name in "ab":
                await write(node, 1, 1, stream=f"{name}{number}")
        for node in nodes:
            async with http(node) as client:
                listed = (await client.get("/v1/streams")).json()
                assert [it["id"] for it in listed] == ["a0", "a1", "a2", "b0", "b1", "b2"]
                page = (await client.get("/v1/streams?limit=2&after=a1")).json()
                assert [it["id"] for it in page] == ["a2", "b0"]
                assert (await client.head("/v1/streams")).status_code == 200


async def test_a_list_has_what_the_client_may_see_on_every_node(server: RedisServer, tmp_path: Path) -> None:
    async with nodes_on(server, auth_key=write_secret(tmp_path)) as (one, two), http(one) as near, http(two) as far:
        for client, name in ((near, "mine-1"), (far, "mine-2"), (near, "other-1"), (far, "other-2")):
            await client.put(f"/v1/streams/{name}", headers=bearer(everything()))
        for client in (near, far):
            listed = await client.get("/v1/streams", headers=bearer(token(subscribe=["mine-*"])))
            assert [it["id"] for it in listed.json()] == ["mine-1", "mine-2"]
            assert (await client.get("/v1/streams")).status_code == 401


async def test_a_node_that_does_not_answer_makes_the_list_a_503_and_one_that_has_left_does_not(
    server: RedisServer,
) -> None:
    async with node_on(server) as one, http(one) as client:
        async with gateway_on(server, advertise_url="ws://127.0.0.1:1"):
            refused = await client.get("/v1/streams")
            assert (refused.status_code, "ws://127.0.0.1:1 does not answer" in refused.text) == (503, True)
            assert "retry-after" in refused.headers
        assert (await client.get("/v1/streams")).json() == []
