"""Committing to a cluster: a committer for each of its servers.

    a commit ──► the bucket of its stream ──► the committer that has the bucket ──► its server

Invariants:
1. A bucket is one committer's at a time, and so is everything that is under way or waits of its streams.
2. Only that committer gives it away, and only between two groups: nothing of it is under way then. What was not done
   goes first at the next one.
3. Streams of a bucket that was given away are verified at the next server. After a failover it may have lost events,
   which are appended again from memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress

from redis.exceptions import RedisError

from deltawire.gateway.engines.engine import EVENTS, Memory
from deltawire.gateway.engines.redis.address import Host
from deltawire.gateway.engines.redis.cluster import Layout
from deltawire.gateway.engines.redis.committer import Committer
from deltawire.gateway.engines.redis.health import Health
from deltawire.gateway.engines.redis.keys import Keys
from deltawire.gateway.engines.redis.stored import Owned
from deltawire.gateway.engines.redis.topology import BUCKETS, bucket_of, parse_moved
from deltawire.gateway.engines.redis.work import Work
from deltawire.gateway.metrics.histogram import Histogram


class ClusterCommitter:
    """Commits to all servers of a cluster; a `Committer` to all appearances.

    Args:
        layout: of the cluster.
        keys: in it.
        timeout: as a `Committer` has it.
        replicas: of each server, that must have a commit.

    Attributes:
        owned: the streams of this gateway, by id and epoch.
        leaving: streams that are being deleted, by id.
        health: whether the cluster answers where it is asked for anything else.
        events: in a group.
    """

    def __init__(self, layout: Layout, keys: Keys, timeout: float, replicas: int) -> None:
        self._layout = layout
        self._keys = keys
        self._timeout = timeout
        self._replicas = replicas
        self.owned: dict[tuple[str, str], Owned] = {}
        self.leaving: dict[str, asyncio.Event] = {}
        self.health = Health(str(layout.address), timeout)
        self.events = Histogram(*EVENTS)
        self._lanes: dict[Host, Lane] = {}
        self._by_bucket: list[Lane] = []
        self._tasks: asyncio.TaskGroup | None = None
        self._is_closing = asyncio.Event()

    @property
    def commits(self) -> int:
        """Groups that were committed."""
        return sum(lane.committer.commits for lane in self._lanes.values())

    @property
    def failures(self) -> int:
        """Groups that were not, and were sent again."""
        return sum(lane.committer.failures for lane in self._lanes.values())

    def start(self, node: str, memory: Memory, changed: Callable[[], None]) -> asyncio.Task[None]:
        """Begin, with a layout that is known; arguments as for a `Committer`."""
        self._running = node, memory, changed
        for bucket in range(BUCKETS):
            lane = self._lane_to(self._layout.servers[bucket])
            lane.buckets.add(bucket)
            self._by_bucket.append(lane)
        return asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for lane in self._lanes.values():
                tasks.create_task(lane.committer.run(*self._running))
            await self._is_closing.wait()

    def _lane_to(self, host: Host) -> Lane:
        if (lane := self._lanes.get(host)) is not None:
            return lane
        lane = self._lanes[host] = Lane(host, self._give_away)
        lane.committer = committer = Committer(self._layout.address, self._keys, self._timeout, self._replicas, lane)
        committer.owned, committer.leaving, committer.events = self.owned, self.leaving, self.events
        committer.health = Health(str(host), self._timeout)
        if self._tasks is not None:
            self._tasks.create_task(committer.run(*self._running))
        if self._is_closing.is_set():
            committer.close()
        return lane

    def failure(self, now: float) -> str | None:
        """Why nothing can be committed at some server; None while it can, or has not failed for long."""
        lanes = (lane.committer.failure(now) for lane in self._lanes.values() if lane.is_used)
        return next(filter(None, (self.health.failure(now), *lanes)), None)

    def work(self, stream: str, epoch: str) -> Work:
        """Return what waits of a stream, to be added to in this turn."""
        return self._by_bucket[bucket_of(stream)].committer.work(stream, epoch)

    @property
    def is_verified(self) -> bool:
        """Whether all servers have said what they have since that was asked for last."""
        return all(lane.committer.is_verified for lane in self._lanes.values())

    def verify(self) -> None:
        """Ask whether the servers have everything, and append again what they have not."""
        for lane in self._lanes.values():
            lane.committer.verify()

    async def give_up(self, streams: Collection[tuple[str, str]]) -> None:
        """Give streams up; as a `Committer`."""
        await asyncio.gather(
            *(it.committer.give_up([key for key in streams if it.has(key[0])]) for it in self._lanes.values())
        )

    def close(self) -> None:
        """Commit what waits, give all streams up, and end the tasks."""
        self._is_closing.set()
        for lane in self._lanes.values():
            lane.committer.close()

    async def disconnect(self) -> None:
        """End the connections, after the task."""
        for lane in self._lanes.values():
            await lane.committer.disconnect()

    async def _give_away(self, lane: Lane, left: list[Work], refusals: Sequence[str]) -> list[Work]:
        """Give buckets to the committers of the servers that have them now; returns what of the work stays."""
        told = dict(filter(None, (parse_moved(text, lane.host) for text in refusals)))
        for bucket, host in told.items():
            self._layout.moved(bucket, host)
        if not refusals:
            with suppress(RedisError, OSError):  # it is looked for again
                await self._layout.look()
        servers = self._layout.servers
        concerned = told.keys() & lane.buckets if refusals else lane.buckets  # who serves does not ask others
        moved = {bucket for bucket in concerned if servers[bucket] != lane.host}
        if not moved:
            return left
        if not refusals:
            self._running[2]()  # a replica has taken over: it may have an older state
        waiting = lane.committer.withdraw(lambda stream: bucket_of(stream) in moved)
        lane.buckets -= moved
        for bucket in moved:
            self._by_bucket[bucket] = self._lane_to(servers[bucket])
            self._by_bucket[bucket].buckets.add(bucket)
        for key in self.owned:
            if (bucket := bucket_of(key[0])) in moved:
                self._by_bucket[bucket].committer.take((), (key,))
        gone = [work for work in left if bucket_of(work.stream) in moved]
        for work in (*waiting, *gone):  # each goes before what is there
            self._by_bucket[bucket_of(work.stream)].committer.take((work,))
        return [work for work in left if bucket_of(work.stream) not in moved]


class Lane:
    """One server, and what is there; a `Place`.

    Args:
        host: where it is.
        give_away: called with what is left to be done; returns what of it stays.

    Attributes:
        committer: to it.
        buckets: that it has.
    """

    committer: Committer

    def __init__(
        self, host: Host, give_away: Callable[[Lane, list[Work], Sequence[str]], Awaitable[list[Work]]]
    ) -> None:
        self.host = host
        self.buckets: set[int] = set()
        self._give_away = give_away

    @property
    def is_used(self) -> bool:
        """Whether it has any streams."""
        return bool(self.buckets)

    def has(self, stream: str) -> bool:
        """Whether it has a stream, by its id."""
        return bucket_of(stream) in self.buckets

    async def find(self) -> Host:
        """Return where it is."""
        return self.host

    async def refused(self, left: list[Work], refusals: Sequence[str]) -> list[Work]:
        """Give away what is not to be done there any more; as a `Place`."""
        return await self._give_away(self, left, refusals)
