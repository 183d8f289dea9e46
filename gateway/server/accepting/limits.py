"""How many connections there may be, in all and of one kind, and who is one too many. Pure.

What a connection takes up is counted under keys: all connections, those of an address, those of a token. It is taken
key by key, as each becomes known, and given back at once when the connection is gone, whatever became of it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from http import HTTPStatus
from typing import Final

from deltawire.gateway.config import Settings
from deltawire.gateway.server.accepting.rate import RateTable
from deltawire.gateway.server.responses import Refusal

ADDRESSES_REMEMBERED: Final = 16_384
"""Addresses whose rate is remembered: about 3 MiB, and more than a flooder can use up in the time a burst lasts."""

_ALL: Final = "all"


class Counts:
    """How often each key is held, and by whom."""

    def __init__(self) -> None:
        self._counts: dict[Hashable, int] = {}
        self._held: dict[object, list[Hashable]] = {}

    def __getitem__(self, key: Hashable) -> int:
        """How often a key is held."""
        return self._counts.get(key, 0)

    def __len__(self) -> int:
        """Keys held at all."""
        return len(self._counts)

    def take(self, holder: object, key: Hashable, limit: int) -> bool:
        """Hold a key once more; False, and nothing changes, where it is held as often as it may."""
        count = self._counts.get(key, 0)
        if count >= limit:
            return False
        self._counts[key] = count + 1
        self._held.setdefault(holder, []).append(key)
        return True

    def give_back(self, holder: object) -> None:
        """Hold nothing any more; twice changes nothing."""
        for key in self._held.pop(holder, ()):
            count = self._counts[key] - 1
            if count:
                self._counts[key] = count
            else:
                del self._counts[key]


class Limits:
    """The limits on connections of one gateway.

    Args:
        settings: how many there may be.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._counts = Counts()
        self._rates = RateTable(settings.connection_rate, settings.connection_burst, ADDRESSES_REMEMBERED)

    @property
    def connections(self) -> int:
        """Connections that hold a place."""
        return self._counts[_ALL]

    @property
    def is_unused(self) -> bool:
        """Whether nobody holds anything."""
        return not len(self._counts)

    def come(self, holder: object) -> Refusal | None:
        """A connection came: one of all there may be."""
        limit = self._settings.max_connections
        if self._counts.take(holder, _ALL, limit):
            return None
        return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, f"the gateway has {limit} connections (max_connections)")

    def identify(self, holder: object, address: str, now: float) -> Refusal | None:
        """The address of a connection is known.

        Args:
            holder: the connection.
            address: as `limited_address` gives it.
            now: monotonic seconds.
        """
        wait = self._rates.take(address, now)
        if wait:
            rate = self._settings.connection_rate
            detail = f"{address} connects more than {rate:g} times a second (connection_rate)"
            return Refusal(HTTPStatus.TOO_MANY_REQUESTS, detail, math.ceil(wait))
        limit = self._settings.max_connections_per_address
        if self._counts.take(holder, ("address", address), limit):
            return None
        detail = f"{address} has {limit} connections (max_connections_per_address)"
        return Refusal(HTTPStatus.TOO_MANY_REQUESTS, detail)

    def authenticate(self, holder: object, token: str) -> Refusal | None:
        """The token of a connection is known.

        Args:
            holder: the connection.
            token: what tells holders of tokens apart; empty without authentication.
        """
        limit = self._settings.max_connections_per_token
        if not token or self._counts.take(holder, ("token", token), limit):
            return None
        detail = f"this token has {limit} connections (max_connections_per_token)"
        return Refusal(HTTPStatus.TOO_MANY_REQUESTS, detail)

    def leave(self, holder: object) -> None:
        """A connection is gone; twice changes nothing."""
        self._counts.give_back(holder)
