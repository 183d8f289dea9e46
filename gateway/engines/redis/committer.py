"""Committing: what waits of all streams, sent to a server as one group after the other.

    waiting, by stream ──► a group: one append a stream ──► answered ──► the next group

While the server is away, the same group is sent again until it is answered. One that it refuses is sent again with what
has come since. After each new connection the server is asked whether it has what was committed; what it has lost is
appended again from memory (`refilling`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

import hiredis
from redis.exceptions import RedisError

from deltawire.gateway.engines.engine import EVENTS, Memory
from deltawire.gateway.engines.redis.address import Address
from deltawire.gateway.engines.redis.calling import Caller, ServerError
from deltawire.gateway.engines.redis.health import Health
from deltawire.gateway.engines.redis.keys import Keys
from deltawire.gateway.engines.redis.library import call
from deltawire.gateway.engines.redis.link import Command, LinkError
from deltawire.gateway.engines.redis.place import Place, Primary
from deltawire.gateway.engines.redis.refilling import Refill
from deltawire.gateway.engines.redis.server import in_words
from deltawire.gateway.engines.redis.stored import Owned, parse_claim
from deltawire.gateway.engines.redis.topology import is_redirection
from deltawire.gateway.engines.redis.work import Verdict, Work, answers, judge, seen_term
from deltawire.gateway.metrics.histogram import Histogram

RETRY: Final = 0.2
"""Seconds between two tries."""

SURE: Final = 1.0
"""Seconds for which a stream is taken for this gateway's after the server has said so to who doubted it."""

PAUSE: Final = 0.02
"""Seconds until a server of a cluster is asked again that is just giving away what it was asked for."""

_Key = tuple[str, str]


class Committer:
    """Commits what waits, in a task.

    Args:
        address: of the server.
        keys: on it.
        timeout: seconds that an answer may take before a group is sent again.
        replicas: of the server, that must have a commit.
        place: where it is, in a cluster.

    Attributes:
        owned: the streams of this gateway, by id and epoch.
        leaving: streams that are being deleted, by id.
        health: whether the server answers.
        commits: groups that were committed.
        failures: groups that were not, and were sent again.
        events: in a group.
    """

    def __init__(self, address: Address, keys: Keys, timeout: float, replicas: int, place: Place | None = None) -> None:
        self._keys = keys
        self._timeout = timeout
        self._replicas = replicas
        self._place = place or Primary(address, timeout)
        self._caller = Caller(address, self._place, timeout, self.verify)
        self.owned: dict[_Key, Owned] = {}
        self.leaving: dict[str, asyncio.Event] = {}
        self.health = Health(str(address), timeout)
        self.commits = self.failures = 0
        self.events = Histogram(*EVENTS)
        self._waiting: dict[_Key, Work] = {}
        self._wake = asyncio.Event()
        self._must_verify = False
        self._unverified: set[_Key] = set()
        self._is_verifying = False
        self._is_closing = False
        self._giving_up: Collection[_Key] = ()
        self._gave_up = asyncio.Event()

    def start(self, node: str, memory: Memory, changed: Callable[[], None]) -> asyncio.Task[None]:
        """Begin; arguments as for `run`.

        Returns:
            The task, which ends after `close`.
        """
        return asyncio.create_task(self.run(node, memory, changed))

    async def run(self, node: str, memory: Memory, changed: Callable[[], None]) -> None:
        """Commit until `close`.

        Args:
            node: name of this gateway on the server.
            memory: of the gateway.
            changed: called when the server may have an older state than before.
        """
        self._node = node
        self._memory = memory
        self._changed = changed
        self._refill = Refill(node, memory, self._caller.call)
        try:
            await self._commit_all()
        except Exception as error:  # noqa: BLE001 - nothing that failed may be taken for stored
            self.health.failed(f"a fault of this gateway, which has to be restarted: {error!r}", 0.0, is_told=True)

    def failure(self, now: float) -> str | None:
        """Why nothing can be committed; None while it can, or has not failed for long."""
        return self.health.failure(now)

    def work(self, stream: str, epoch: str) -> Work:
        """Return what waits of a stream, to be added to in this turn."""
        work = self._waiting.get((stream, epoch))
        if work is None:
            if not self._waiting:
                self._wake.set()
            work = Work(stream, epoch)
            self._waiting[work.key] = work
        return work

    def take(self, works: Iterable[Work], unverified: Iterable[_Key] = ()) -> None:
        """Have works wait before what has come since for the same streams.

        Args:
            works: that others had, or that could not be done.
            unverified: streams of which it has to be asked whether they are there.
        """
        for work in works:
            if (newer := self._waiting.pop(work.key, None)) is not None:
                work.extend(newer)
            self._waiting[work.key] = work
        self._unverified.update(unverified)
        self._wake.set()

    def withdraw(self, concerns: Callable[[str], bool]) -> list[Work]:
        """Return what waits of some streams, by their ids; it does not wait here any more."""
        found = [work for work in self._waiting.values() if concerns(work.stream)]
        for work in found:
            del self._waiting[work.key]
        return found

    @property
    def is_verified(self) -> bool:
        """Whether the server has said what it has since that was asked for last."""
        return not (self._doubts or self._is_verifying)

    def verify(self) -> None:
        """Ask whether the server has everything, and append again what it has not."""
        self._must_verify = True
        self._wake.set()

    async def give_up(self, streams: Collection[_Key]) -> None:
        """Give streams up of which nothing waits any more; returns when that was tried once."""
        if not streams:
            return
        self._giving_up = streams
        self._gave_up.clear()
        self._wake.set()
        await self._gave_up.wait()

    def close(self) -> None:
        """Commit what waits, give all streams up, and end the task."""
        self._is_closing = True
        self._wake.set()

    async def disconnect(self) -> None:
        """End the connection, after the task."""
        await self._caller.close()

    async def _commit_all(self) -> None:
        while True:
            if not (self._waiting or self._doubts or self._giving_up or self._is_closing):
                self._wake.clear()
                await self._wake.wait()
            group, self._waiting = self._waiting, {}
            await self._settle(list(group.values()))
            if self._giving_up:
                streams, self._giving_up = self._giving_up, ()
                await self._release(streams)
                self._gave_up.set()
            if self._is_closing and not self._waiting:
                await self._release(self._own())
                return

    @property
    def _doubts(self) -> bool:
        """Whether the server has to be asked what it has."""
        return (self._must_verify or bool(self._unverified)) and self._place.is_used

    async def _settle(self, group: list[Work]) -> None:
        """Commit a group, however long it takes."""
        left = group
        while left or self._doubts:
            began = time.monotonic()
            self.health.asking_since = began
            self._caller.refusals.clear()
            try:
                left = await self._commit(left)
            except (LinkError, ServerError, RedisError, TimeoutError) as error:  # RedisError: of sentinels
                self.failures += 1
                self.health.failed(str(error), began, is_told=isinstance(error, ServerError))
                if not isinstance(error, ServerError):
                    await self._caller.close()
                await asyncio.sleep(RETRY)
                if isinstance(error, ServerError):  # it may take what waits meanwhile: deletions make room
                    self.take(left)
                    return
                left = await self._place.refused(left, ())
                if not self._place.is_used:
                    self.health.answered()
            else:
                if refusals := self._caller.refusals:  # others are not held up by streams that are being moved
                    await asyncio.sleep(PAUSE)
                    left = await self._place.refused(left, refusals)
                    if left or self._doubts:
                        self.health.failed(refusals[-1], began)
                    else:
                        self.health.answered()
                    self.take(left)
                    return
                self.health.answered()
        if group:
            self.commits += 1
            self.events.observe(sum([len(work.frames) for work in group]))

    async def _commit(self, group: list[Work]) -> list[Work]:
        """Send a group; returns what of it must be sent again."""
        await self._connect(group)
        for work in group:
            if work.needs_repair is not None and (owned := self.owned.get(work.key)) is not None:
                await self._repair(work.stream, work.epoch, owned, work.needs_repair)
                work.needs_repair = None
        commands: list[Command] = []
        sent: list[tuple[Work, Owned | None, int]] = []
        now = time.time()
        for work in group:
            owned = self.owned.get(work.key)
            wanted = work.commands(self._keys, self._node, owned, now)
            commands += wanted
            sent.append((work, owned, len(wanted)))
        if self._replicas and commands:
            commands.append(("WAIT", self._replicas, int(self._timeout * 500)))  # before it times out
        replies = await self._caller.call(commands) if commands else []
        if self._replicas and commands and (count := replies.pop()) < self._replicas:
            raise ServerError(f"{count} of {self._replicas} replicas have the events (engine_replicas)")
        left: list[Work] = []
        finished: list[Work] = []
        at = 0
        for work, owned, count in sent:
            begin, at = at, at + count
            if owned is not None and count == 1 and work.only_appends and isinstance(replies[begin], int):
                owned.head = replies[begin]  # as almost always: `judge` says the same
                finished.append(work)
                continue
            some = replies[begin:at]
            is_done = not (self._caller.refusals and any(map(is_redirection, some))) and self._judge(work, owned, some)
            (finished if is_done else left).append(work)
        for done, indexes in answers(finished):
            done(indexes)
        return left  # nothing after `done` may fail: it would be called again

    def _judge(self, work: Work, owned: Owned | None, replies: Sequence[Any]) -> bool:
        """Act on the replies to the work on a stream; whether it is done."""
        if work.is_gone:
            self.owned.pop(work.key, None)
            if work.stream in self.leaving:
                self.leaving.pop(work.stream).set()
            return True
        if not replies:
            return True
        if owned is None:
            if not isinstance(replies[0], list):
                self._lose(work.stream, work.epoch, replies[0])
                return True
            claimed = parse_claim(work.stream, self._keys.of_stream(work.stream), replies[0][0], (), b"")
            self.owned[work.key] = claimed.owned
            claimed.owned.sure_until = time.monotonic() + SURE
            return not (work.has_changes or work.floor)
        if not (work.has_changes or work.is_asked):
            return True
        verdict = judge(replies[-1], owned, max(work.last, owned.head))
        if verdict is Verdict.LOST:
            self._lose(work.stream, work.epoch, replies[-1])
        elif verdict is Verdict.REPAIR:
            work.needs_repair = seen_term(replies[-1])
        elif work.is_asked:
            owned.sure_until = time.monotonic() + SURE
        return verdict is Verdict.IN or verdict is Verdict.LOST

    def _lose(self, stream: str, epoch: str, reply: Any) -> None:
        self.owned.pop((stream, epoch), None)
        why = f"another gateway serves stream {stream!r} now: reconnect to resume there"
        if isinstance(reply, hiredis.ReplyError):
            why = self._keys.tell_foreign(stream, in_words(str(reply)))
        self._memory.lost(stream, epoch, why)

    async def _connect(self, group: Sequence[Work]) -> None:
        """Connect if needed; after a new connection, or if all was lost, what the server has is verified."""
        if not self._caller.is_connected:
            is_same = await self._caller.connect()
            self._must_verify = True
            if not is_same:
                self._changed()
        if self._must_verify or self._unverified:
            doubted = self._own() if self._must_verify else self._own(self._unverified)
            self._must_verify, self._unverified = False, set()  # before, as more may have to be verified meanwhile
            self._is_verifying = True
            try:
                await self._verify(group, doubted)
            except BaseException:
                self._must_verify = True
                raise
            finally:
                self._is_verifying = False

    def _own(self, keys: Iterable[_Key] | None = None) -> dict[_Key, Owned]:
        """Those of some streams that are here and stored there; of all, if none are named."""
        return {
            key: self.owned[key]
            for key in (self.owned if keys is None else keys)
            if key in self.owned and self._place.has(key[0])
        }

    async def _verify(self, group: Sequence[Work], doubted: dict[_Key, Owned]) -> None:
        """Append again what the server has lost of some streams."""
        taken = (*group, *self._waiting.values())  # what another committer has sent may be there, and waits here now
        reached = {work.key: work.last for work in taken if work.has_changes}
        for (stream, epoch), owned, reply in await self._refill.confirm(doubted):
            refusals = len(self._caller.refusals)
            if is_redirection(reply):
                self._unverified.add((stream, epoch))
                continue
            verdict = judge(reply, owned, max(owned.head, reached.get((stream, epoch), 0)))
            if verdict is Verdict.LOST:
                self._lose(stream, epoch, reply)
            elif verdict is Verdict.REPAIR:
                await self._repair(stream, epoch, owned, seen_term(reply))
            elif not isinstance(reply, int):  # it has more than was known: an answer was lost
                await self._refill.confirm({(stream, epoch): owned})
            if len(self._caller.refusals) > refusals:
                self._unverified.add((stream, epoch))

    async def _repair(self, stream: str, epoch: str, owned: Owned, seen: bytes) -> None:
        if not await self._refill.repair(stream, epoch, owned, seen):
            self.owned.pop((stream, epoch), None)  # it was forgotten here meanwhile

    async def _release(self, streams: Collection[_Key]) -> None:
        """Give streams up, if they are owned, and the server takes them back now."""
        owned = self._own(streams)
        commands = [call("release", it.names, it.term, "leave") for it in owned.values()]
        with suppress(LinkError, ServerError, RedisError, TimeoutError):
            if commands:
                await self._connect(())
                replies = await self._caller.call(commands)
                for key, reply in zip(owned, replies, strict=True):
                    if not is_redirection(reply):
                        self.owned.pop(key, None)
