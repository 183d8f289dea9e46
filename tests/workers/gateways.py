"""A gateway of several processes, and streams of which it is known where they live."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import NamedTuple

from deltawire.gateway.workers.shards import worker_of
from tests.support.processes import Served
from tests.support.rawpeer import RawPeer
from tests.support.waiting import DEADLINE


class Many(NamedTuple):
    """A gateway of several workers.

    Attributes:
        served: its supervisor.
        pids: of its workers, in the order of their numbers.
        peers: connections made here, to be closed in the end.
    """

    served: Served
    pids: Sequence[int]
    peers: list[RawPeer]

    @property
    def port(self) -> int:
        return int(self.served.started["port"])

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def supervisor(self) -> int:
        return self.served.process.pid

    @contextmanager
    def stopped(self, worker: int) -> Iterator[None]:
        """Have a worker do nothing for a while: all connections are accepted by the other one."""
        os.kill(self.pids[worker], signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pids[worker], signal.SIGCONT)

    async def connect(self, accepted_by: int) -> RawPeer:
        """Open a connection that one worker of two accepts.

        It has when it answers another one: connections are accepted in their order.
        """
        with self.stopped(1 - accepted_by):
            peer, probe = await self.open(), await self.open()
            await probe.send(b"GET /livez HTTP/1.1\r\n\r\n")
            assert b" 200 " in await probe.read_head()
        return peer

    async def open(self, source: str = "") -> RawPeer:
        """Open a connection that any worker accepts, from an address of its own where one is given."""
        peer = await RawPeer.connect(self.port, source=source)
        self.peers.append(peer)
        return peer

    async def wait_room(self, stream: str, query: str = "") -> None:
        """Try to connect to a stream until it is possible: a place is free when the gateway has seen a socket go."""
        async with asyncio.timeout(DEADLINE):
            while b" 101 " not in await (await self.open()).upgrade(f"/v1/streams/{stream}/subscribe{query}"):
                pass

    async def subscribe(self, stream: str, query: str = "") -> RawPeer:
        """Follow a stream, up to where it is live."""
        peer = await self.open()
        assert b" 101 " in await peer.upgrade(f"/v1/streams/{stream}/subscribe{query}")
        await peer.read_until("caught_up")
        return peer

    async def publish(self, stream: str, query: str = "") -> RawPeer:
        """Begin to publish to a stream."""
        peer = await self.open()
        assert b" 101 " in await peer.upgrade(f"/v1/streams/{stream}/publish{query}")
        await peer.read_until("ready")
        return peer


StartWorkers = Callable[..., Awaitable[Many]]


def children_of(pid: int) -> list[int]:
    """The processes that a process has forked, oldest first."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def streams_of(worker: int, workers: int = 2, prefix: str = "s") -> Iterator[str]:
    """Yield ids of streams that live in a worker."""
    return (name for name in (f"{prefix}{number}" for number in count()) if worker_of(name, workers) == worker)
