"""The session of a gateway on a server: while it lasts, the others leave its streams to it."""

from __future__ import annotations

import time
from secrets import token_hex
from typing import Final

import msgspec
from redis.asyncio import Redis

from deltawire.gateway.engines.redis.identity import decode_identity, encode_identity, is_certainly_gone, own_identity
from deltawire.gateway.engines.redis.keys import Keys

TTL: Final = 10.0
"""Seconds after which a gateway that does not renew its session has lost it: three renewals may fail."""

RENEWAL: Final = 3.0
"""Seconds between two renewals."""

SEEN_WITHIN: Final = 60.0
"""Seconds within which other gateways must have been there to be reckoned with after the server lost everything."""


class Session:
    """The session of this process.

    Args:
        client: of the server.
        keys: on it.
        advertised: where clients reach this gateway.

    Attributes:
        node: its name.
        has_peers: whether other gateways were there lately.
        used_memory: bytes, of the server.
    """

    def __init__(self, client: Redis, keys: Keys, advertised: str) -> None:
        self._client = client
        self._keys = keys
        self._value = encode_identity(own_identity(advertised))
        self.node = token_hex(8)
        self.has_peers = False
        self.used_memory = 0

    async def renew(self) -> bool:
        """Begin it, or have it last for another TTL; whether it was there.

        Raises:
            RedisError: the server can't be asked.
        """
        key, ttl, now = self._keys.of_node(self.node), int(TTL * 1000), time.time()
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.set(key, self._value, px=ttl, xx=True)
            pipe.zadd(self._keys.nodes, {self.node: now})
            pipe.zremrangebyscore(self._keys.nodes, 0, now - SEEN_WITHIN)
            pipe.zcard(self._keys.nodes)
            pipe.info("memory")
            replies = await pipe.execute(raise_on_error=False)  # older versions name the command, and no reason
        if (refusal := next((it for it in replies if isinstance(it, Exception)), None)) is not None:
            raise refusal
        renewed, _, _, count, memory = replies
        self.has_peers = count > 1
        self.used_memory = int(memory.get("used_memory", 0))
        if not renewed:
            await self._client.set(key, self._value, px=ttl)
        return bool(renewed)

    async def find(self, node: str) -> str | None:
        """Return the address that another gateway advertises, which may be empty; None if that gateway is gone.

        Raises:
            RedisError: the server can't be asked.
        """
        value = await self._client.get(self._keys.of_node(node))
        if value is None:
            return None
        try:
            other = decode_identity(value)
        except msgspec.MsgspecError:  # of another version
            return ""
        return None if is_certainly_gone(other) else other.url

    async def end(self) -> None:
        """End it.

        Raises:
            RedisError: the server can't be asked.
        """
        await self._client.delete(self._keys.of_node(self.node))
        await self._client.zrem(self._keys.nodes, self.node)
