"""Where the server of a committer is: one for all streams, or one of a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from deltawire.gateway.engines.redis.address import Address, Host
from deltawire.gateway.engines.redis.client import find_primary
from deltawire.gateway.engines.redis.work import Work


class Place(Protocol):
    """Where the server of a committer is, and what it has there."""

    @property
    def is_used(self) -> bool:
        """Whether any streams are there."""

    def has(self, stream: str) -> bool:
        """Whether a stream is there, by its id."""

    async def find(self) -> Host:
        """Return where the server is now; raises `RedisError`."""

    async def refused(self, left: list[Work], refusals: Sequence[str]) -> list[Work]:
        """Have other committers do what is not to be done there any more.

        Args:
            left: what is to be done next; nothing of it is under way.
            refusals: of servers that did not have some streams; none if the server can't be asked.

        Returns:
            What is left to be done there.
        """


class Primary:
    """The one place there is without a cluster.

    Args:
        address: of the server.
        timeout: seconds that sentinels have for an answer.
    """

    is_used = True

    def __init__(self, address: Address, timeout: float) -> None:
        self._address = address
        self._timeout = timeout

    def has(self, stream: str) -> bool:  # noqa: ARG002 - a `Place`
        """As a `Place`: it has all."""
        return True

    async def find(self) -> Host:
        """As a `Place`: sentinels may know of another one than before."""
        return await find_primary(self._address, self._timeout)

    async def refused(self, left: list[Work], refusals: Sequence[str]) -> list[Work]:  # noqa: ARG002 - likewise
        """As a `Place`: there is no other."""
        return left
