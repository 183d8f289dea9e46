"""A Redis server in memory: it can be paused, restarted, emptied, and put back to an older state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import hiredis

from deltawire.gateway.engines.redis.library import LIBRARY
from tests.simulation import functions
from tests.simulation.network import Network
from tests.simulation.store import RefusedError, Reply, Status, Store
from tests.simulation.world import Process, World

PORT: Final = 6379

Monitor = Callable[[str, str, Sequence[bytes], Reply], None]
"""Told of each call that concerns a stream: the function's name without the library's, the stream, arguments, reply."""


class Server(Process):
    """The server.

    Args:
        world: where it lives.
        network: where it listens.
        monitor: told of each call.
        renewed: told of the session, by its name, that a node has begun or renewed.

    Attributes:
        store: what it has.
    """

    def __init__(self, world: World, network: Network, monitor: Monitor, renewed: Callable[[str], None]) -> None:
        super().__init__(world, "redis")
        self._network = network
        self._monitor = monitor
        self._renewed = renewed
        self.store = Store(self.wall, self._info)
        self._has_functions = False
        self._run, self._replication = self._token(), self._token()
        network.listen(self, PORT, lambda: _Served(self))

    def _token(self) -> str:
        return f"{self.random.getrandbits(160):040x}"

    def _info(self) -> bytes:
        return (
            f"redis_version:7.2.0\r\nrun_id:{self._run}\r\nrole:master\r\nmaster_replid:{self._replication}\r\n"
            "maxmemory_policy:noeviction\r\naof_enabled:1\r\nused_memory:1000\r\n"
            f"server_time_usec:{int(self.wall() * 1e6)}\r\n"
        ).encode()

    # Faults

    def restart(self, state: Any = None, *, is_promotion: bool = False, is_bare: bool = False) -> None:
        """Begin anew.

        Args:
            state: an older one that it has now; None for that of this moment.
            is_promotion: it is another machine's, which was a replica.
            is_bare: it has lost everything, functions too.
        """
        self._run = self._token()
        if is_promotion:
            self._replication = self._token()
        if is_bare:
            self.store.restore(({}, {}))
            self._has_functions = False
        elif state is not None:
            self.store.restore(state)
        for connection in tuple(self._network.connections):
            if connection.far.owner is self:
                connection.far.forget()
                connection.near.break_later()

    # Commands

    def execute(self, command: Sequence[bytes]) -> Reply:
        """Execute a command.

        Raises:
            RefusedError: it can't be.
        """
        name = command[0].upper()
        if name in (b"FCALL", b"FCALL_RO"):
            return self._call_function(command[1:])
        match name:
            case b"FUNCTION":
                self._has_functions = True
                return LIBRARY.encode()
            case b"CLIENT" | b"SELECT":
                return Status(b"OK")
            case b"WAIT":
                return 0
            case _:
                return self.store.execute(*command)

    def _call_function(self, args: Sequence[bytes]) -> Reply:
        if not self._has_functions:
            raise RefusedError("ERR Function not found")
        count = int(args[1])
        keys, rest = args[2 : 2 + count], args[2 + count :]
        reply = functions.functions().call(self.store, args[0].decode(), keys, rest)
        function = args[0].decode().removeprefix(f"{LIBRARY}_")
        if function in {"begin", "renew"}:
            self._renewed(keys[0].decode().rpartition(":")[2])
        else:
            self._monitor(function, keys[0].partition(b"{")[2].rpartition(b"}")[0].decode(), rest, reply)
        return reply


class _Served(asyncio.Protocol):
    """A connection."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._reader = hiredis.Reader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        replies = []
        while (command := self._reader.gets()) is not False:
            try:
                replies.append(encode(self._server.execute(cast("list[bytes]", command))))
            except RefusedError as error:
                replies.append(b"-%s\r\n" % str(error).encode())
        self._transport.write(b"".join(replies))


def encode(reply: Reply) -> bytes:
    """A reply as it is sent."""
    match reply:
        case None:
            return b"$-1\r\n"
        case int():
            return b":%d\r\n" % reply
        case Status():
            return b"+%s\r\n" % reply
        case list():
            return b"*%d\r\n" % len(reply) + b"".join(map(encode, reply))
        case _:
            return b"$%d\r\n%s\r\n" % (len(reply), reply)
