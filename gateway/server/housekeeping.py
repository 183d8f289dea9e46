"""Housekeeping, twice a second: dead connections, expired tokens, idle peers, and the memory all connections hold.

Checking one connection takes 3 µs, and 8 µs while others keep the processor's cache busy. Ten thousand would pause
every stream for 80 ms, so a round runs a slice at a time, and others get their turn in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from functools import partial
from typing import Final

from deltawire.gateway.config import Settings
from deltawire.gateway.hub import Hub
from deltawire.gateway.hub.deadlines import MAX_SWEEP_INTERVAL
from deltawire.gateway.hub.fair_queue import FairQueue
from deltawire.gateway.server.accepting.handshakes import Handshakes
from deltawire.gateway.server.admission.auth import AccessControl, end_expired, has_expired
from deltawire.gateway.server.allocator import FreeMemory, resident_bytes, return_free_memory
from deltawire.gateway.server.connection.connection import GatewayConnection
from deltawire.gateway.server.connection.memory import choose, headroom
from deltawire.gateway.server.draining import CLOSES_A_SECOND
from deltawire.protocol.codes import ProblemCode

PER_TURN: Final = 32
"""Connections checked in one turn of the loop: a quarter of a millisecond at most, as events wait for it."""


class Housekeeping:
    """The housekeeping of one gateway.

    Args:
        settings: timeouts.
        hub: its streams, and their memory.
        access: knows the time by which tokens expire.
        handshakes: sockets whose request is not complete.
        connections: the present connections, as they come and go.
    """

    def __init__(
        self,
        settings: Settings,
        hub: Hub,
        access: AccessControl,
        handshakes: Handshakes,
        connections: Collection[GatewayConnection],
    ) -> None:
        self._settings = settings
        self._hub = hub
        self._access = access
        self._handshakes = handshakes
        self._connections = connections
        self._queue = FairQueue(lambda turn: asyncio.get_running_loop().call_soon(turn))
        self._left: list[GatewayConnection] = []  # connections left to check in this round
        self._to_disown = 0  # connections, at most, in this round
        self._free_memory = FreeMemory(resident_bytes())
        self._may_relieve = True
        hub.manager.relieve = self._relieve

    def sweep(self, now: float) -> None:
        """Begin a round, unless one is under way."""
        self._handshakes.sweep(now)
        if not self._left:
            self._left = list(self._connections)
            self._to_disown = int(CLOSES_A_SECOND * MAX_SWEEP_INTERVAL)
            self._continue(now)

    def _continue(self, now: float) -> None:
        doubt = self._hub.doubt
        for _ in range(min(PER_TURN, len(self._left))):
            connection = self._left.pop()
            if connection in self._connections:
                self._look_at(connection, now, doubt)
        if self._left:
            self._queue.enter(partial(self._continue, now))
        else:
            self._shed(now)
            self._return_free_memory()

    def _look_at(self, connection: GatewayConnection, now: float, doubt: str | None) -> None:
        """Ping a quiet connection, abort a dead one; end one whose stream is in doubt, or an idle one."""
        settings = self._settings
        connection.count(connection.held_bytes)
        try:
            if has_expired(connection, self._access.now):
                self._hub.flush()  # acknowledge what came while the token was valid
                end_expired(connection)
            connection.abort_stalled_reply(now, settings.send_timeout)
            if doubt is not None and self._to_disown:
                self._to_disown -= disown(connection, doubt)
            is_alive = connection.keep_alive(now, settings.ping_interval, settings.ping_timeout)
            if is_alive and settings.idle_timeout:
                connection.end_if_idle(now, settings.idle_timeout)
        except Exception:  # noqa: BLE001 - one peer's fault is not another's
            connection.fail()

    def _return_free_memory(self) -> None:
        """Return free memory to the system if it is worth it."""
        manager = self._hub.manager
        is_used = bool(self._connections)
        if self._free_memory.is_due(resident_bytes(), manager.bytes, manager.memory_limit, is_used=is_used):
            return_free_memory()
            self._free_memory.returned(resident_bytes())

    def _relieve(self) -> None:
        """Shed in the same turn in which a connection is found to hold too much.

        The next event of any producer would find no room, and be refused for what others hold.
        """
        if self._may_relieve:
            self._shed(self._hub.now())

    def _shed(self, now: float) -> None:
        """Keep connections within the memory limit: end those that hold most, before the kernel kills the process."""
        manager = self._hub.manager
        spare = headroom(manager.memory_limit)
        self._may_relieve = False  # counting calls for it again; and in vain where those that hold much are ended
        if not manager.make_room(now, spare):
            holdings = []
            for connection in self._connections:
                held = connection.held_bytes
                connection.count(held)
                if connection.may_be_shed:
                    holdings.append((held - connection.cost, connection))
            for connection in choose(holdings, manager.bytes + spare - manager.memory_limit):
                connection.record.log.warning("connection.shed", held=connection.held_bytes, limit=manager.memory_limit)
                connection.shed(
                    f"memory_limit ({manager.memory_limit} bytes) is reached, and this connection holds much of it"
                )
        self._may_relieve = manager.bytes <= manager.memory_limit


def disown(connection: GatewayConnection, why: str) -> bool:
    """Send a peer elsewhere that reads or writes a stream of this gateway; return whether it is told now.

    Args:
        connection: of the peer.
        why: another gateway may have taken the stream over.
    """
    if connection.peer is None:
        connection.respond_now()
        return False
    if connection.mirror is not None or connection.is_finished:
        return False
    connection.peer.end(ProblemCode.SHUTTING_DOWN, why)
    return True
