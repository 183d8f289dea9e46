"""The session of a gateway on a server: while it lasts, the others leave its streams to it."""

from __future__ import annotations

import time
from contextlib import suppress
from hashlib import sha256
from secrets import token_hex
from typing import Final

import msgspec
from redis.exceptions import RedisError

from deltawire.gateway.engines.redis.client import Client, replies_to
from deltawire.gateway.engines.redis.identity import Identity, decode_identity, encode_identity, is_certainly_gone
from deltawire.gateway.engines.redis.keys import Keys
from deltawire.gateway.engines.redis.link import Command

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
        has_peers: whether other gateways were there lately, this one's other workers aside.
        used_memory: bytes, of the server.
    """

    def __init__(self, client: Client, keys: Keys, identity: Identity) -> None:
        self._client = client
        self._keys = keys
        self._value = encode_identity(identity)
        self._gateway = sha256(identity.key.encode()).hexdigest()[
            :8
        ]  # its workers have one key, but not each other's streams
        self.node = f"{self._gateway}-{token_hex(8)}"
        self.has_peers = False
        self.used_memory = 0

    async def renew(self) -> bool:
        """Begin it, or have it last for another TTL; whether it was there.

        Raises:
            RedisError: the server can't be asked.
        """
        key, ttl, now = self._keys.of_node(self.node), int(TTL * 1000), time.time()
        commands: list[Command] = [
            ("SET", key, self._value, "PX", ttl, "XX"),
            ("ZADD", self._keys.nodes, repr(now), self.node),
            ("ZREMRANGEBYSCORE", self._keys.nodes, 0, repr(now - SEEN_WITHIN)),
            ("ZRANGE", self._keys.nodes, 0, -1),
        ]
        renewed, _, _, nodes = await replies_to(self._client, commands)
        self.has_peers = any(not node.decode().startswith(self._gateway) for node in nodes)
        if not renewed:
            await self._client.execute(("SET", key, self._value, "PX", ttl))
        with suppress(RedisError, OSError):  # it is a figure alone
            memory = await self._client.everywhere(("INFO", "memory"))
            self.used_memory = sum(int(it.get("used_memory", 0)) for it in memory)
        return bool(renewed)

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
