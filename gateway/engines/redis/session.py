"""The session of a gateway on a server: while it lasts, the others leave its streams to it."""

from __future__ import annotations

import time
from secrets import token_hex
from typing import Final, cast

import msgspec
from redis.asyncio import Redis

from deltawire.gateway.engines.redis.identity import Identity, decode_identity, encode_identity, is_certainly_gone
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
        identity: of this gateway.

    Attributes:
        node: its name.
        used_memory: bytes, of the server.
    """

    def __init__(self, client: Redis, keys: Keys, identity: Identity) -> None:
        self._client = client
        self._keys = keys
        self._value = encode_identity(identity)
        self._peers_until = 0.0  # monotonic seconds: an emptied server knows of none
        self._held_until = 0.0  # likewise
        self.node = token_hex(8)
        self.used_memory = 0

    @property
    def has_peers(self) -> bool:
        """Whether other gateways were there lately."""
        return time.monotonic() < self._peers_until

    async def begin(self) -> None:
        """Begin it.

        Raises:
            RedisError: the server can't be asked.
        """
        await self._client.set(self._keys.of_node(self.node), self._value, px=int(TTL * 1000))

    def hold_claims(self) -> None:
        """Leave the streams of other gateways to them for a while, as their sessions may be lost while they are not."""
        if self.has_peers:
            self._held_until = time.monotonic() + TTL

    @property
    def held_for(self) -> float:
        """Seconds for which no stream may be claimed; negative if one may be."""
        return self._held_until - time.monotonic()

    async def may_claim(self) -> bool:
        """Whether a gateway that is not found is gone: not if the server may have lost the sessions of all.

        Raises:
            RedisError: the server can't be asked.
        """
        is_there = await self._client.get(self._keys.of_node(self.node)) is not None
        return is_there and self.held_for <= 0  # in this order: it is there again as soon as claims are held

    async def renew(self) -> bool:
        """Have it last for another TTL; returns whether it was there: if not, it has to `begin`.

        Raises:
            RedisError: the server can't be asked.
        """
        now, _ = await self._client.time()  # of the server: the clocks of gateways differ
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.set(self._keys.of_node(self.node), self._value, px=int(TTL * 1000), xx=True)
            pipe.zadd(self._keys.nodes, {self.node: now})
            pipe.zremrangebyscore(self._keys.nodes, 0, now - SEEN_WITHIN)
            pipe.zcard(self._keys.nodes)
            pipe.info("memory")
            replies = await pipe.execute(raise_on_error=False)  # older versions name the command, and no reason
        if (refusal := next((it for it in replies if isinstance(it, Exception)), None)) is not None:
            raise refusal
        renewed, _, _, count, memory = replies
        if count > 1:
            self._peers_until = time.monotonic() + SEEN_WITHIN
        self.used_memory = int(memory.get("used_memory", 0))
        return bool(renewed)

    async def find(self, node: str) -> Identity | None:
        """Return who another gateway is, as far as it says; None if that gateway is gone.

        Raises:
            RedisError: the server can't be asked.
        """
        value = await self._client.get(self._keys.of_node(node))
        if value is None:
            return None
        try:
            other = decode_identity(value)
        except msgspec.MsgspecError:  # of another version
            return Identity()
        return None if is_certainly_gone(other) else other

    async def find_peers(self) -> list[Identity]:
        """Return who the other gateways are that are there.

        Raises:
            RedisError: the server can't be asked.
        """
        names = cast("list[bytes]", await self._client.zrange(self._keys.nodes, 0, -1))
        found = [await self.find(name) for name in (it.decode() for it in names) if name != self.node]
        return [it for it in found if it is not None]

    async def end(self) -> None:
        """End it.

        Raises:
            RedisError: the server can't be asked.
        """
        await self._client.delete(self._keys.of_node(self.node))
        await self._client.zrem(self._keys.nodes, self.node)
