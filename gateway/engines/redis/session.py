"""The session of a gateway on a server: while it lasts, the others leave its streams to it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from hashlib import sha256
from secrets import token_hex
from typing import Any, Final

import msgspec

from deltawire.gateway.engines.redis.client import Client
from deltawire.gateway.engines.redis.identity import Identity, decode_identity, encode_identity, is_certainly_gone
from deltawire.gateway.engines.redis.keys import Keys
from deltawire.gateway.engines.redis.library import call
from deltawire.gateway.engines.redis.server import NO_EVICTION

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
        is_full: whether it refuses writes, as its memory is full; in a cluster, whether one server does.
        policy: what it does when its memory is full (`maxmemory-policy`); of a cluster, the first that evicts.
        lasts_until: monotonic seconds before which it certainly lasts.
    """

    def __init__(self, client: Client, keys: Keys, identity: Identity) -> None:
        self._client = client
        self._keys = keys
        self._value = encode_identity(identity)
        self._peers_until = 0.0  # monotonic seconds: an emptied server knows of none
        self._held_until = 0.0  # likewise
        shared = sha256(identity.key.encode()).hexdigest()
        self._gateway = shared[:8]  # workers of one gateway have one key, but not each other's streams
        self.node = f"{self._gateway}-{token_hex(8)}"
        self.used_memory = 0
        self.is_full = False
        self.policy = NO_EVICTION
        self.lasts_until = 0.0

    @property
    def has_peers(self) -> bool:
        """Whether other gateways were there lately, this one's other workers aside."""
        return time.monotonic() < self._peers_until

    async def begin(self) -> None:
        """Begin it.

        Raises:
            RedisError: the server can't be asked.
        """
        began = time.monotonic()
        await self._client.execute(call("begin", (self._keys.of_node(self.node),), self._value, int(TTL * 1000)))
        self.lasts_until = began + TTL

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
        is_there = await self._client.execute(("GET", self._keys.of_node(self.node))) is not None
        return is_there and self.held_for <= 0  # in this order: it is there again as soon as claims are held

    async def renew(self) -> bool:
        """Have it last for another TTL; returns whether it was there: if not, it has to `begin`.

        Raises:
            RedisError: the server can't be asked.
        """
        began = time.monotonic()
        names = self._keys.of_node(self.node), self._keys.nodes
        renewed, nodes = await self._client.execute(call("renew", names, self.node, int(TTL * 1000), int(SEEN_WITHIN)))
        if any(not node.decode().startswith(self._gateway) for node in nodes):
            self._peers_until = time.monotonic() + SEEN_WITHIN
        if renewed:
            self.lasts_until = began + TTL
        return bool(renewed)

    async def look(self) -> None:
        """Note how much memory servers use, whether that is all there is, and whether they evict.

        Raises:
            RedisError: one of them can't be asked.
        """
        self.is_full = False  # nor is it known to be, if it can't be asked
        found = await self._client.everywhere(("INFO", "memory"))
        self.used_memory = sum(int(it.get("used_memory", 0)) for it in found)
        policies = (it.get("maxmemory_policy", NO_EVICTION) for it in found)
        self.policy = next((it for it in policies if it != NO_EVICTION), NO_EVICTION)
        self.is_full = any(map(takes_no_more, found))

    async def find(self, node: str) -> Identity | None:
        """Return who another gateway is, as far as it says; None if that gateway is gone.

        Raises:
            RedisError: the server can't be asked.
        """
        value = await self._client.execute(("GET", self._keys.of_node(node)))
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
        names: list[bytes] = await self._client.execute(("ZRANGE", self._keys.nodes, 0, -1))
        found = [await self.find(name) for name in (it.decode() for it in names) if name != self.node]
        return [it for it in found if it is not None]

    async def end(self) -> None:
        """End it.

        Raises:
            RedisError: the server can't be asked.
        """
        await self._client.execute(("DEL", self._keys.of_node(self.node)))
        await self._client.execute(("ZREM", self._keys.nodes, self.node))


def takes_no_more(memory: Mapping[str, Any]) -> bool:
    """Whether a server refuses writes, as it is full and evicts nothing, by its `INFO memory`."""
    if memory.get("maxmemory_policy", NO_EVICTION) != NO_EVICTION:
        return False
    limit = int(memory.get("maxmemory", 0))
    return 0 < limit < int(memory.get("used_memory", 0)) - int(memory.get("mem_not_counted_for_evict", 0))
