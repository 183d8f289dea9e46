"""Calling a server: over a connection that is made again once it is lost, and with refusals told apart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import hiredis

from deltawire.gateway.engines.redis.address import Address
from deltawire.gateway.engines.redis.library import LOAD, is_unloaded
from deltawire.gateway.engines.redis.link import Command, Link, LinkError, connect, incarnation_of
from deltawire.gateway.engines.redis.place import Place
from deltawire.gateway.engines.redis.server import is_about_keys
from deltawire.gateway.engines.redis.topology import is_redirection

PASSING: Final = ("LOADING", "READONLY", "NOAUTH", "MASTERDOWN", "BUSY", "CLUSTERDOWN")
"""How refusals begin that are a matter of time, or of the connection."""


class ServerError(Exception):
    """The server has refused something; it may accept it later."""


class Caller:
    """Calls one server. Used by one task.

    Args:
        address: of the server.
        place: where it is now.
        timeout: seconds that an answer may take.
        lost: called when a connection is gone.

    Attributes:
        refusals: of servers that did not have some streams, until they are cleared.
    """

    def __init__(self, address: Address, place: Place, timeout: float, lost: Callable[[], None]) -> None:
        self._address = address
        self._place = place
        self._timeout = timeout
        self._lost = lost
        self._link: Link | None = None
        self._incarnation = b""
        self.refusals: list[str] = []

    @property
    def is_connected(self) -> bool:
        """Whether it can be called."""
        return self._link is not None and self._link.is_open

    async def connect(self) -> bool:
        """Connect.

        Returns:
            Whether the server has run on since the last connection; True for the first.

        Raises:
            LinkError: that failed.
            RedisError: no sentinel knows where the server is.
            TimeoutError: it took too long.
        """
        self._link = None
        async with asyncio.timeout(self._timeout):
            host = await self._place.find()
            self._link = link = await connect(self._address, host, self._lost, self._timeout)
            incarnation = await incarnation_of(link, self._timeout)
        before, self._incarnation = self._incarnation, incarnation
        return not before or before == incarnation

    async def call(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands, once connected; none of them may fail but for what is stored of one stream.

        Each call has the whole timeout: a server that answers is given the time that many streams take.

        Raises:
            LinkError: the connection is gone, or leads to a server that can't be written to any more.
            ServerError: the server refuses something.
            TimeoutError: it does not answer.
        """
        assert self._link is not None, "`connect` comes first"
        replies = await self._link.call(commands, self._timeout)
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                text = str(reply)
                if is_unloaded(reply):
                    [loaded] = await self._link.call([LOAD], self._timeout)
                    raise LinkError(str(loaded) if isinstance(loaded, hiredis.ReplyError) else text)
                if is_redirection(reply):
                    self.refusals.append(text)
                    continue
                if is_about_keys(text):
                    continue
                raise (LinkError if text.startswith(PASSING) else ServerError)(text)
        return replies

    async def close(self) -> None:
        """End the connection, if there is one."""
        if self._link is not None:
            await self._link.close()
            self._link = None
