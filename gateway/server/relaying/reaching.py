"""Connecting to other nodes."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from functools import cached_property
from typing import TypeVar

from deltawire.gateway.engines.engine import Elsewhere
from deltawire.gateway.logs import get_logger
from deltawire.gateway.metrics.tally import Tally
from deltawire.gateway.server.accepting.listening import RECEIVE_BUFFER, SEND_BUFFER
from deltawire.gateway.server.relaying.fields import Node, parse_node
from deltawire.protocol.errors import DeltawireError

P = TypeVar("P", bound=asyncio.Protocol)

log = get_logger()


class UnreachableError(DeltawireError):
    """Another node can't be reached; the message says it for a client, and may be retried."""


class Reach:
    """Connects to other nodes.

    Args:
        timeout: seconds for a node to be reached.
        tally: counts failures.
    """

    def __init__(self, timeout: float, tally: Tally) -> None:
        self.timeout = timeout
        self._tally = tally
        self._failing: set[str] = set()  # URLs of nodes; each is logged once

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """Trusts what the system does."""
        return ssl.create_default_context()

    def tls_of(self, node: Node) -> ssl.SSLContext | None:
        """What a connection to a node is encrypted with, if it is to be."""
        return self._tls if node.has_tls else None

    async def connect(self, elsewhere: Elsewhere, make: Callable[[], P]) -> tuple[Node, asyncio.Transport, P]:
        """Connect to a node.

        Args:
            elsewhere: the node.
            make: makes the protocol of the connection.

        Raises:
            UnreachableError: it can't be reached, not in time, or is not who it should be.
        """
        try:
            node = parse_node(elsewhere.url)
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(self.timeout):
                transport, protocol = await loop.create_connection(make, node.host, node.port, ssl=self.tls_of(node))
        except (OSError, ValueError) as error:
            self.failed(elsewhere.url, error)
            raise UnreachableError(f"{elsewhere.why} (it can't be reached from here now)") from None
        self._failing.discard(elsewhere.url)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        return node, transport, protocol

    def failed(self, url: str, error: Exception) -> None:
        """Count that a node could not be reached, and log it once."""
        self._tally.relay_failures += 1
        if url not in self._failing:
            self._failing.add(url)
            log.warning("node.lost", url=url, detail=str(error) or "no answer within engine_timeout")
