"""Connections between processes: bytes come late, in order, or not at all."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, Final

from tests.simulation.world import Process, World

Factory = Callable[[], asyncio.BaseProtocol]

GRACE: Final = 1e-6
"""Seconds between two arrivals of one connection, at least."""


class _Options:
    """What stands for a socket: its options change nothing."""

    def setsockopt(self, *_: object) -> None:
        """Take an option."""


class Network:
    """All connections.

    Args:
        world: whose time it is.
        latency: seconds that bytes are under way, usually.

    Attributes:
        spike: how likely some bytes take a hundred times as long.
    """

    def __init__(self, world: World, latency: float) -> None:
        self.world = world
        self.latency = latency
        self.spike = 0.0
        self.listening: dict[tuple[str, int], tuple[Process, Factory]] = {}
        self.connections: list[Connection] = []
        self._cut: set[frozenset[str]] = set()
        self._numbers = count()

    def listen(self, process: Process, port: int, factory: Factory) -> None:
        """Accept connections to a process."""
        self.listening[process.name, port] = process, factory

    def dial(
        self,
        process: Process,
        host: str,
        port: int,
        connected: Callable[[Connection], None],
        refused: Callable[[], None],
    ) -> None:
        """Connect; one of the two functions is called as a step of the process, or, over a cut link, neither."""
        if self.is_cut(process.name, host):
            return

        def arrive() -> None:
            found = self.listening.get((host, port))
            if found is None or found[0].is_gone:
                process.deliver(refused)
                return
            connection = Connection(self, next(self._numbers), process, found[0])
            self.connections.append(connection)
            process.deliver(partial(connected, connection))
            found[0].deliver(partial(connection.far.accept, found[1]))

        self.world.after(self.latency, arrive)

    def is_cut(self, one: str, other: str) -> bool:
        """Whether nothing passes between two machines."""
        return frozenset((one, other)) in self._cut

    def cut(self, one: str, other: str) -> None:
        """Let nothing pass between two machines."""
        self._cut.add(frozenset((one, other)))

    def heal(self, one: str, other: str) -> None:
        """Let pass what waited, and everything from now on."""
        self._cut.discard(frozenset((one, other)))
        for connection in self.between(one, other):
            connection.near.send_rest()
            connection.far.send_rest()

    def between(self, one: str, other: str) -> list[Connection]:
        """The connections of two machines."""
        ends = {one, other}
        return [it for it in self.connections if {it.near.owner.name, it.far.owner.name} == ends]

    def end_all_of(self, process: Process, *, is_told: bool) -> None:
        """Cut off a process that has gone; whether the others are told."""
        for connection in tuple(self.connections):
            for end, other in ((connection.near, connection.far), (connection.far, connection.near)):
                if end.owner is process:
                    end.forget()
                    if is_told:
                        other.break_later()
        self.listening = {key: it for key, it in self.listening.items() if it[0] is not process}


class Connection:
    """Two ends: `near` has asked for it."""

    def __init__(self, network: Network, number: int, near: Process, far: Process) -> None:
        self.network = network
        self.number = number
        self.near, self.far = End(self, near), End(self, far)
        self.near.other, self.far.other = self.far, self.near
        self.near.draws = network.world.draws(f"connection {number} near")
        self.far.draws = network.world.draws(f"connection {number} far")

    def break_off(self) -> None:
        """Reset it at both ends."""
        for end in (self.near, self.far):
            end.break_later()


class End(asyncio.Transport):
    """One end of a connection, for the process that owns it.

    Attributes:
        is_mute: what it sends from now on never arrives, which nobody is told.
    """

    other: End
    draws: Any

    def __init__(self, connection: Connection, owner: Process) -> None:
        super().__init__()
        self.connection = connection
        self.owner = owner
        self.is_mute = False
        self._network = connection.network
        self._protocol: Any = None
        self._incoming: deque[bytes | ConnectionResetError | None] = deque()  # None: no more bytes come
        self._held: deque[bytes | ConnectionResetError | None] = deque()  # by a cut
        self._arrival = 0.0
        self._is_read = True
        self._has_ended = False
        self._is_closing = False
        self._is_lost = False

    # The network's side

    def accept(self, factory: Factory) -> None:
        """Serve the connection."""
        self.connect(factory())

    def connect(self, protocol: Any) -> None:
        """Begin."""
        self._protocol = protocol
        protocol.connection_made(self)
        self._take()

    def forget(self) -> None:
        """The process has gone: nothing reaches it, and it sends nothing."""
        if not self._is_lost and self._protocol is not None:
            self.owner.last_step(partial(self._protocol.connection_lost, ConnectionResetError("gone")))
        self._is_closing = self._is_lost = self.is_mute = True
        self._incoming.clear()
        self._drop()

    def break_later(self) -> None:
        """Its owner is told that the connection is reset."""
        self._network.world.after(
            self._network.latency, partial(self.owner.deliver, partial(self._arrive, ConnectionResetError()))
        )

    def _arrive(self, item: bytes | ConnectionResetError | None) -> None:
        self._incoming.append(item)
        self._take()

    def _take(self) -> None:
        while self._incoming and self._protocol is not None and not self._is_closing:
            if isinstance(self._incoming[0], ConnectionResetError):
                self._lose(ConnectionResetError("reset"))
                return
            if not self._is_read:
                return
            item = self._incoming.popleft()
            if item is None:
                if not self._protocol.eof_received():
                    self.close()
            else:
                self._protocol.data_received(item)

    def _send(self, item: bytes | ConnectionResetError | None) -> None:
        if self.is_mute:
            return
        if self._held or self._network.is_cut(self.owner.name, self.other.owner.name):
            self._held.append(item)
            return
        network = self._network
        delay = network.latency * (0.5 + self.draws.random())
        if self.draws.random() < network.spike:
            delay *= 100
        at = max(self._arrival + GRACE, network.world.now + delay)
        self._arrival = at
        other = self.other
        network.world.after(at - network.world.now, lambda: other.owner.deliver(partial(other._arrive, item)))

    def send_rest(self) -> None:
        """Send what a cut has held."""
        held, self._held = self._held, deque()
        for item in held:
            self._send(item)

    def _lose(self, why: ConnectionResetError | None) -> None:
        if self._is_lost:
            return
        self._is_closing = self._is_lost = True
        protocol, owner = self._protocol, self.owner
        if protocol is not None:
            self._network.world.after(0.0, lambda: owner.deliver(partial(protocol.connection_lost, why)))
        self._drop()

    def _drop(self) -> None:
        if self.other._is_lost and self.connection in self._network.connections:
            self._network.connections.remove(self.connection)

    # The owner's side

    def write(self, data: Any) -> None:
        """Send bytes."""
        if not self._is_closing and not self._has_ended and data:
            self._send(bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        """Send bytes."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """Yes."""
        return True

    def write_eof(self) -> None:
        """Send no more."""
        if not self._has_ended and not self._is_closing:
            self._has_ended = True
            self._send(None)

    def close(self) -> None:
        """End it; the other end gets what was written."""
        if not self._is_closing:
            self.write_eof()
            self._lose(None)

    def abort(self) -> None:
        """Reset it."""
        if not self._is_lost:
            self._send(ConnectionResetError())  # behind what was sent: that may still be under way
            self._lose(None)

    def is_closing(self) -> bool:
        """Whether it ends."""
        return self._is_closing

    def pause_reading(self) -> None:
        """Take nothing."""
        self._is_read = False

    def resume_reading(self) -> None:
        """Take what comes."""
        if not self._is_read:
            self._is_read = True
            self._network.world.after(0.0, lambda: self.owner.deliver(self._take))

    def is_reading(self) -> bool:
        """Whether it takes what comes."""
        return self._is_read

    def get_write_buffer_size(self) -> int:
        """The network takes everything at once."""
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """They are never reached."""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Have another protocol get what comes."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who gets what comes."""
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Addresses, and something like a socket."""
        if name == "socket":
            return _Options() if self is self.connection.near else None  # none is asked for more than it has
        return {"peername": ("127.0.0.1", 50_000), "sockname": ("127.0.0.1", 8765)}.get(name, default)
