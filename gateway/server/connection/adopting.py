"""Sockets that another worker has accepted."""

from __future__ import annotations

import asyncio
from typing import cast

from deltawire.gateway.server.accepting.routing import Handed
from deltawire.gateway.server.connection.connection import GatewayConnection


class Adopting(asyncio.Protocol):
    """Passes the transport of a socket that another worker accepted to its connection.

    Args:
        connection: serves it.
        handed: what the other worker knows of it.
    """

    def __init__(self, connection: GatewayConnection, handed: Handed) -> None:
        self._connection = connection
        self._handed = handed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Pass it on."""
        self._connection.adopt(cast("asyncio.Transport", transport), self._handed)
