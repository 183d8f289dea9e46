"""A gateway on a machine of its own: all of it is real, but the loop's time and what it is connected to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any

from deltawire.gateway.config import ConfigError, Settings
from deltawire.gateway.server import Gateway
from tests.simulation.network import Connection, Factory, Network
from tests.simulation.world import Process, World
from tests.support.loop import Listener, VirtualLoop

PORT = 8765


class NodeLoop(VirtualLoop):
    """The event loop of a node."""

    def __init__(self, node: Node, network: Network) -> None:
        super().__init__()
        self._node = node
        self._network = network

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        if self._node.is_gone:
            raise ConnectionRefusedError("gone")
        answer: asyncio.Future[Connection] = self.create_future()

        def connected(connection: Connection) -> None:
            if answer.done():
                connection.near.abort()
            else:
                answer.set_result(connection)

        def refused() -> None:
            if not answer.done():
                answer.set_exception(ConnectionRefusedError("refused"))

        self._network.dial(self._node, host, port, connected, refused)
        try:
            connection = await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                answer.result().near.abort()
            raise
        protocol = protocol_factory()
        connection.near.connect(protocol)
        return connection.near, protocol

    async def create_server(self, protocol_factory: Any, *_: Any, **__: Any) -> Any:
        factory: Factory = protocol_factory
        self._network.listen(self._node, PORT, factory)
        return Listener(self)


class Node(Process):
    """A gateway process.

    Args:
        world: where it lives.
        network: that it is on.
        name: of its machine.
        ended: called when it ends by itself, with an error or None.
        settings: of the gateway.
    """

    def __init__(
        self,
        world: World,
        network: Network,
        name: str,
        ended: Callable[[BaseException | None], None],
        **settings: Any,
    ) -> None:
        super().__init__(world, name)
        self._network = network
        self._ended = ended
        self._loop = NodeLoop(self, network)
        self._settings = Settings(advertise_url=f"ws://{name}:{PORT}", **settings)
        self._leaving = asyncio.Event()
        self.gateway: Gateway | None = None
        world.processes.append(self)
        self.deliver(self._start)

    @property
    def next_timer(self) -> float:
        """When its loop has something to do."""
        at = self._loop.next_timer
        return inf if at is None else at

    @property
    def failures(self) -> list[BaseException | str]:
        """Exceptions nobody caught."""
        return self._loop.failures

    def take(self, step: Callable[[], None]) -> None:
        """Take a step on the loop."""
        self._loop.call_soon(step)
        self.wake()

    def last_step(self, step: Callable[[], None]) -> None:
        """Take a step when its loop is unwound."""
        self._loop.call_soon(step)

    def wake(self) -> None:
        """Run the loop until there is nothing to do at this moment."""
        self._loop.advance_to(self.world.now)

    def _start(self) -> None:
        self._task = self._loop.create_task(self._serve())
        self._task.add_done_callback(self._conclude)

    async def _serve(self) -> None:
        async with Gateway(self._settings) as self.gateway:
            await self._leaving.wait()

    def _conclude(self, task: asyncio.Task[None]) -> None:
        if self.is_gone or task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, ConfigError):
            self._loop.failures.append(error)
        self.world.after(0.0, partial(self._ended, error))

    def leave(self) -> None:
        """Have it end as it should."""
        self.deliver(self._leaving.set)

    def crash(self, *, is_told: bool) -> None:
        """End it at once; whether others notice."""
        self.is_gone = True
        self.world.processes.remove(self)
        self._network.end_all_of(self, is_told=is_told)
        self._loop.failures.clear()  # what comes from here on is of no interest
        told = len(self.world.history)
        unwinding = self._loop.create_task(self._unwind())
        while not unwinding.done():
            self._loop.advance(0.1)
        unwinding.result()
        self._loop.close()
        del self.world.history[told:]  # nobody hears it, and asyncio has the tasks of a loop in no order

    async def _unwind(self) -> None:
        """Let everything come to its end, so that Python has nothing to warn of."""
        self._task.cancel()
        await asyncio.wait({self._task}, timeout=100.0)
        while left := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in left:
                task.cancel()
            await asyncio.wait(left, timeout=1.0)
