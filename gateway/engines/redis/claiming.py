"""Taking over streams that no gateway serves."""

from __future__ import annotations

from collections.abc import Sequence
from secrets import token_hex
from typing import cast

from redis.asyncio import Redis

from deltawire.gateway.engines.engine import Elsewhere
from deltawire.gateway.engines.redis.keys import Keys, call
from deltawire.gateway.engines.redis.server import execute
from deltawire.gateway.engines.redis.session import Session
from deltawire.gateway.engines.redis.stored import Claimed, parse_claim

MANY = 200
"""Streams asked for at a time."""


async def claim_unserved(client: Redis, keys: Keys, session: Session) -> tuple[list[Claimed], int]:
    """Claim every stream whose gateway is gone.

    Returns:
        These, oldest first, and how many other gateways serve.

    Raises:
        RedisError: the server can't be asked.
        ValueError: a stream is not what a gateway writes.
        LookupError: likewise.
    """
    ids = [bytes(id_).decode() for id_ in cast("list[bytes]", await client.zrange(keys.streams, 0, -1))]
    gone = {session.node: False, "": True}  # by node
    claimed: list[Claimed] = []
    elsewhere = 0
    for at in range(0, len(ids), MANY):
        some = ids[at : at + MANY]
        free: list[tuple[str, bytes]] = []
        for stream, (owner, term) in zip(some, await _owners(client, keys, some), strict=True):
            if term is None:
                await client.zrem(keys.streams, stream)
                continue
            node = owner.decode()
            if node not in gone:
                gone[node] = await session.find(node) is None
            if gone[node]:
                free.append((stream, term))
            else:
                elsewhere += 1
        async with client.pipeline(transaction=False) as pipe:
            for stream, term in free:
                pipe.execute_command(*call("claim", keys.of_stream(stream), session.node, term, token_hex(8)))
            replies = await pipe.execute() if free else []
        for (stream, term), reply in zip(free, replies, strict=True):
            if isinstance(reply, bytes):  # BUSY: another was quicker
                elsewhere += 1
            else:
                claimed.append(parse_claim(stream, reply, term))
    return claimed, elsewhere


async def _owners(client: Redis, keys: Keys, streams: Sequence[str]) -> list[tuple[bytes, bytes | None]]:
    """Owner and term of streams; no term for those that are not there, or were deleted."""
    async with client.pipeline(transaction=False) as pipe:
        for stream in streams:
            pipe.hmget(keys.of_stream(stream)[0], "owner", "term")
        return [(owner or b"", None if owner is None else term) for owner, term in await pipe.execute()]


async def claim(client: Redis, keys: Keys, session: Session, stream: str) -> Claimed | Elsewhere | None:
    """Claim a stream, if its gateway is gone; None if there is no such stream.

    Raises:
        RedisError: the server can't be asked.
        ValueError: the stream is not what a gateway writes.
        LookupError: likewise.
    """
    [(owner, term)] = await _owners(client, keys, [stream])
    if term is None:
        return None
    node = owner.decode()
    if node and node != session.node:
        url = await session.find(node)
        if url is not None:
            return served_elsewhere(stream, url)
    reply = await execute(client, call("claim", keys.of_stream(stream), session.node, term, token_hex(8)))
    return served_elsewhere(stream, "") if isinstance(reply, bytes) else parse_claim(stream, reply, term)


def served_elsewhere(stream: str, url: str) -> Elsewhere:
    """The answer for a stream of another gateway.

    Args:
        stream: its id.
        url: where that is reached; empty if it does not say.
    """
    where = f" at {url}" if url else ""
    return Elsewhere(f"another gateway serves stream {stream!r}{where}: connect there, or try again later", url)
