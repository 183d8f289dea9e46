"""Limits on connections: in all, per address and per token. Pure.

A connection is counted under keys: all connections, its address, its token. It takes a place under each key as soon as
that is known, and gives all places back when it is gone, whatever became of it.
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
"""Addresses whose rate is remembered: about 3 MiB, and more than a flooder can use up while a burst lasts."""

ALL: Final = "all"
"""The key under which every connection is counted."""


class Counts:
    """How often each key is held, and by whom."""

    def __init__(self) -> None:
        self._counts: dict[Hashable, int] = {}
        self._held: dict[object, list[Hashable]] = {}

    def __getitem__(self, key: Hashable) -> int:
        """How often a key is held."""
        return self._counts.get(key, 0)

    def __len__(self) -> int:
        """Number of keys held."""
        return len(self._counts)

    def take(self, holder: object, key: Hashable, limit: int) -> bool:
        """Hold a key once more; return False, and change nothing, if it is held `limit` times already."""
        count = self._counts.get(key, 0)
        if count >= limit:
            return False
        self._counts[key] = count + 1
        self._held.setdefault(holder, []).append(key)
        return True

    def give_back(self, holder: object) -> None:
        """Release every key of a holder; doing it twice changes nothing."""
        for key in self._held.pop(holder, ()):
            self._release(key)

    def release(self, holder: object, key: Hashable) -> None:
        """Release one key of a holder, if it holds that."""
        held = self._held.get(holder, [])
        if key in held:
            held.remove(key)
            self._release(key)

    def _release(self, key: Hashable) -> None:
        count = self._counts[key] - 1
        if count:
            self._counts[key] = count
        else:
            del self._counts[key]


class Limits:
    """The limits on connections of one gateway.

    Args:
        settings: how many there may be.
        counts: of connections; None counts those of this process alone.
        rates: of addresses; likewise.
    """

    def __init__(self, settings: Settings, counts: Counts | None = None, rates: RateTable | None = None) -> None:
        self._settings = settings
        self._counts = Counts() if counts is None else counts
        self._rates = (
            RateTable(settings.connection_rate, settings.connection_burst, ADDRESSES_REMEMBERED)
            if rates is None
            else rates
        )

    @property
    def connections(self) -> int:
        """Number of connections counted."""
        return self._counts[ALL]

    @property
    def is_unused(self) -> bool:
        """Whether nothing is counted."""
        return not len(self._counts)

    def come(self, holder: object) -> Refusal | None:
        """Count a new connection; return a refusal if there are too many in all."""
        limit = self._settings.max_connections
        if self._counts.take(holder, ALL, limit):
            return None
        return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, f"the gateway has {limit} connections (max_connections)")

    def identify(self, holder: object, address: str, now: float) -> Refusal | None:
        """Count a connection under its address; return a refusal if it exceeds a rate or a limit.

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
        return self.settle(holder, address)

    def take_back(self, holder: object, address: str, now: float) -> None:
        """Undo `identify`, as the connection is somebody else's than that address's.

        Args:
            holder: the connection.
            address: as `limited_address` gives it.
            now: monotonic seconds.
        """
        self._rates.give_back(address, now)
        self._counts.release(holder, ("address", address))

    def settle(self, holder: object, address: str) -> Refusal | None:
        """Count a connection under its address, whatever its rate; return a refusal if it exceeds the limit.

        Args:
            holder: the connection.
            address: as `limited_address` gives it.
        """
        limit = self._settings.max_connections_per_address
        if self._counts.take(holder, ("address", address), limit):
            return None
        detail = f"{address} has {limit} connections (max_connections_per_address)"
        return Refusal(HTTPStatus.TOO_MANY_REQUESTS, detail)

    def authenticate(self, holder: object, token: str) -> Refusal | None:
        """Count a connection under its token; return a refusal if it exceeds the limit.

        Args:
            holder: the connection.
            token: tells token holders apart; empty without authentication.
        """
        limit = self._settings.max_connections_per_token
        if not token or self._counts.take(holder, ("token", token), limit):
            return None
        detail = f"this token has {limit} connections (max_connections_per_token)"
        return Refusal(HTTPStatus.TOO_MANY_REQUESTS, detail)

    def leave(self, holder: object) -> None:
        """Give back the places of a connection; doing it twice changes nothing."""
        self._counts.give_back(holder)
