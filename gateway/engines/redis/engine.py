"""The engine on a Redis or Valkey server, which several gateways may use: each stream is one's at a time.

    commits ──► waiting, by stream ──► a group: one append a stream ──► answered ──► the next group

One task commits, over a connection of its own; one renews the session. While the server is away, both try again until
it is back; then whatever it has lost meanwhile is appended again from memory (`refilling`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import hiredis
from redis.exceptions import RedisError

from deltawire.gateway.engines.engine import (
    Done,
    Elsewhere,
    EngineError,
    EngineMetrics,
    Memory,
    StoredStream,
)
from deltawire.gateway.engines.redis.address import parse_address
from deltawire.gateway.engines.redis.claiming import claim, claim_unserved
from deltawire.gateway.engines.redis.health import Health
from deltawire.gateway.engines.redis.keys import Keys, call
from deltawire.gateway.engines.redis.link import Command, Link, LinkError, connect, incarnation_of
from deltawire.gateway.engines.redis.refilling import Refill
from deltawire.gateway.engines.redis.server import SOURCE, Server, asked, check_server, load_functions, make_client
from deltawire.gateway.engines.redis.session import RENEWAL, TTL, Session
from deltawire.gateway.engines.redis.stored import Claimed, Owned, flat, new_fields, parse_claim, parse_page
from deltawire.gateway.engines.redis.work import Verdict, Work, judge, seen_term
from deltawire.gateway.metrics.histogram import Histogram
from deltawire.gateway.streams.pages import StoredPage, Wanted
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.staging import Commit

EVENTS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
"""Buckets of the number of events in a group."""

RETRY: Final = 0.2
"""Seconds between two tries."""

PASSING: Final = ("LOADING", "READONLY", "NOAUTH", "MASTERDOWN", "BUSY")
"""How refusals begin that are a matter of time, or of the connection."""

_Key = tuple[str, str]


class ServerError(Exception):
    """The server has refused something; it may accept it later."""


class RedisEngine:
    """An engine on a server.

    Args:
        url: `engine_url`.
        prefix: of all keys.
        timeout: seconds that commits wait before the engine counts as failing.
        replicas: of the server, that must have a commit.
        advertised: where clients reach this gateway.

    Raises:
        EngineError: the URL is malformed.
    """

    def __init__(
        self, url: str, *, prefix: str = "deltawire", timeout: float = 5.0, replicas: int = 0, advertised: str = ""
    ) -> None:
        self._address = parse_address(url)
        self._keys = Keys(prefix)
        self._timeout = timeout
        self._replicas = replicas
        self._advertised = advertised
        self._owned: dict[_Key, Owned] = {}
        self._waiting: dict[_Key, Work] = {}
        self._wake = asyncio.Event()
        self._health = Health(str(self._address), timeout)
        self._commits = self._failures = 0
        self._events = Histogram(*EVENTS)
        self._link: Link | None = None
        self._incarnation: bytes = b""
        self._must_verify = False
        self._claims_from = 0.0  # loop time
        self._tasks: list[asyncio.Task[None]] = []
        self._readings: set[asyncio.Task[None]] = set()
        self._is_closing = False
        self._leaving: dict[str, asyncio.Event] = {}  # streams that are being deleted
        self._server = Server("", "", 0)
        self._elsewhere = 0

    # The interface

    @property
    def failure(self) -> str | None:
        """Why nothing can be committed now; None if it can."""
        return self._health.failure(time.monotonic())

    def metrics(self) -> EngineMetrics:
        """Return its counts; the bytes are all that the server holds."""
        return EngineMetrics(self._commits, self._failures, self._events, self._session.used_memory)

    async def check(self) -> None:
        """Check whether the server can be used, without changing anything there.

        Raises:
            EngineError: it can't.
        """
        async with make_client(self._address, self._timeout) as client:
            await check_server(client, self._address)

    async def open(
        self,
        call_soon: Callable[[Callable[[], None]], object],  # noqa: ARG002 - it lives on the loop itself
        memory: Memory | None = None,
    ) -> list[StoredStream]:
        """Begin, and take over the streams that no gateway serves.

        Args:
            call_soon: not needed.
            memory: of the gateway.

        Raises:
            EngineError: the server can't be used.
        """
        self._client = client = make_client(self._address, self._timeout)
        try:
            self._server = await check_server(client, self._address)
            await load_functions(client, self._keys, self._address)
            self._session = Session(client, self._keys, self._advertised)
            await asked(self._session.renew(), self._address, "SET")
            claimed = await asked(self._claim_unserved(), self._address, "claims")
        except BaseException:
            await client.aclose()
            raise
        self._memory = memory
        self._next_search = time.monotonic() + TTL
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._keep_session())]
        return [it.stream for it in claimed]

    def describe(self) -> dict[str, Any]:
        """What was found at the start, for the log."""
        return {
            "server": f"{self._server.name} at {self._address}",
            "persistence": self._server.persistence or "none",
            "node": self._session.node,
            "elsewhere": self._elsewhere,
        }

    async def _claim_unserved(self) -> list[Claimed]:
        try:
            claimed, self._elsewhere = await claim_unserved(self._client, self._keys, self._session)
        except (ValueError, LookupError) as error:
            raise EngineError(
                f"engine_url: {self._address} has streams under the prefix {self._keys.prefix!r} that can't be read: "
                f"{error}; choose another engine_prefix"
            ) from None
        for it in claimed:
            self._owned[it.stream.id, it.stream.epoch] = it.owned
        return claimed

    def locate(self, stream: str) -> Awaitable[StoredStream | Elsewhere | None]:
        """Find a stream that is not here, and take it over if its gateway is gone.

        Raises:
            EngineError: the server can't be asked.
        """
        return self._locate(stream)

    async def _locate(self, stream: str) -> StoredStream | Elsewhere | None:
        wait = self._claims_from - asyncio.get_running_loop().time()
        if wait > 0:
            return Elsewhere(f"gateways settle who serves which stream after a fault: try again in {wait:.0f} s")
        try:
            if stream in self._leaving:
                await asyncio.wait_for(self._leaving[stream].wait(), self._timeout)
            found = await claim(self._client, self._keys, self._session, stream)
        except (RedisError, OSError) as error:
            raise EngineError(f"{self._address}: {str(error) or 'no answer'}") from None
        except (ValueError, LookupError) as error:
            raise EngineError(f"stream {stream!r} can't be read: {error}") from None
        if isinstance(found, Claimed):
            self._owned[stream, found.stream.epoch] = found.owned
            return found.stream
        return found

    def create(self, stream: str, epoch: str, settings: StreamSettings) -> None:
        """Store a new stream, before its first commit."""
        self._work(stream, epoch).settings = settings

    def commit(self, commits: Sequence[Commit], done: Done) -> None:
        """Store commits, each as a whole; nothing of streams that were forgotten or lost meanwhile.

        Args:
            commits: in the order in which they were taken.
            done: called with the indexes of those that are committed.
        """
        now = time.time()
        for index, commit in enumerate(commits):
            self._work(commit.stream, commit.epoch).add(commit, done, index, now)

    def trim(self, stream: str, epoch: str, floor: int) -> None:
        """Delete the events of a stream before a seq, as far as whole entries reach."""
        self._work(stream, epoch).floor = floor

    def merge(self, stream: str, epoch: str, first: int, frames: Sequence[bytes]) -> None:
        """Do nothing: the server finds entries in memory, many at a time."""

    def forget(self, stream: str, epoch: str) -> None:
        """Delete a stream."""
        self._work(stream, epoch).is_gone = True
        self._leaving[stream] = asyncio.Event()

    def _work(self, stream: str, epoch: str) -> Work:
        work = self._waiting.get((stream, epoch))
        if work is None:
            work = self._waiting[stream, epoch] = Work(stream, epoch)
            self._wake.set()
        return work

    def read(self, stream: str, epoch: str, wanted: Wanted, done: Callable[[StoredPage], None]) -> None:
        """Read events, once the server answers.

        Args:
            stream: its id.
            epoch: of its log.
            wanted: which events.
            done: called with the answer.
        """
        task = asyncio.create_task(self._read(stream, epoch, wanted, done))
        self._readings.add(task)
        task.add_done_callback(self._readings.discard)

    async def _read(self, stream: str, epoch: str, wanted: Wanted, done: Callable[[StoredPage], None]) -> None:
        command = call("read", self._keys.of_stream(stream), wanted.first, wanted.last, wanted.size)
        while (stream, epoch) in self._owned:
            try:
                reply = await self._client.execute_command(*command)
            except (RedisError, OSError):  # what is only away is not told as lost
                await asyncio.sleep(RETRY)
            else:
                done(parse_page(reply, wanted))
                return
        done(StoredPage(wanted.last, (), "the stream was forgotten"))

    async def close(self) -> None:
        """Commit what was handed over, give all streams up, and end; what the server does not take in time is left."""
        self._is_closing = True
        self._wake.set()
        committing, keeping = self._tasks
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout):
                await committing
                await self._session.end()
        tasks = [committing, keeping, *self._readings]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._link is not None:
            await self._link.close()
        await self._client.aclose()

    # Committing

    async def _run(self) -> None:
        try:
            await self._commit_all()
        except Exception as error:  # noqa: BLE001 - nothing that failed may be taken for stored
            self._health.failed(f"a fault of this gateway, which has to be restarted: {error!r}", 0.0, is_told=True)

    async def _commit_all(self) -> None:
        while True:
            if not (self._waiting or self._must_verify or self._is_closing):
                self._wake.clear()
                await self._wake.wait()
            group, self._waiting = self._waiting, {}
            await self._settle(list(group.values()))
            if self._is_closing and not self._waiting:
                await self._give_up_all()
                return

    async def _settle(self, group: list[Work]) -> None:
        """Commit a group, however long it takes."""
        left = group
        while left or self._must_verify:
            began = time.monotonic()
            self._health.asking_since = began
            try:
                async with asyncio.timeout(self._timeout):
                    left = await self._commit(left)
            except (LinkError, ServerError, TimeoutError) as error:
                self._failures += 1
                self._health.failed(str(error), began, is_told=isinstance(error, ServerError))
                if self._link is not None and not isinstance(error, ServerError):
                    await self._link.close()
                    self._link = None
                await asyncio.sleep(RETRY)
            else:
                self._health.answered()
        if group:
            self._commits += 1
            self._events.observe(sum(len(work.frames) for work in group))

    async def _commit(self, group: list[Work]) -> list[Work]:
        """Send a group; returns what of it must be sent again."""
        link = await self._connected(group)
        commands: list[Command] = []
        sent: list[tuple[Work, Owned | None, int]] = []
        now = time.time()
        for work in group:
            owned = self._owned.get((work.stream, work.epoch))
            some = self._commands(work, owned, now)
            commands += some
            sent.append((work, owned, len(some)))
        if self._replicas and commands:
            commands.append(("WAIT", self._replicas, int(self._timeout * 500)))  # before the whole group times out
        replies = await self._call(link, commands) if commands else []
        if self._replicas and commands and (count := replies.pop()) < self._replicas:
            raise ServerError(f"{count} of {self._replicas} replicas have the events (engine_replicas)")
        left: list[Work] = []
        told: dict[Done, list[int]] = {}
        at = 0
        for work, owned, count in sent:
            if self._judge(work, owned, replies[at : at + count]):
                for done, index in work.waiting:
                    told.setdefault(done, []).append(index)
            else:
                left.append(work)
            at += count
        for done, indexes in told.items():
            done(indexes)
        for work in left:
            owned = self._owned.get((work.stream, work.epoch))
            if owned is not None and work.needs_repair is not None:
                await self._repair(link, work.stream, work.epoch, owned, work.needs_repair)
                work.needs_repair = None
        return left

    def _commands(self, work: Work, owned: Owned | None, now: float) -> list[Command]:
        """What has to be sent for the work on a stream; nothing for a stream that is another's."""
        names = self._keys.of_stream(work.stream)
        if owned is None:
            if work.settings is None or work.is_gone:
                return []
            fields = flat(new_fields(work.settings, now))
            return [
                ("ZADD", self._keys.streams, int(now * 1000), work.stream),
                call("claim", names, self._session.node, b"", work.epoch, *fields),
            ]
        commands: list[Command] = []
        if work.is_gone:
            commands.append(call("release", names, owned.term, "delete"))
            commands.append(("ZREM", self._keys.streams, work.stream))
            return commands
        if work.floor:
            commands.append(work.trim(self._keys, owned))
        if work.has_changes:
            commands.append(work.append(self._keys, owned, now))
        return commands

    def _judge(self, work: Work, owned: Owned | None, replies: Sequence[Any]) -> bool:
        """Act on the replies to the work on a stream; whether it is done."""
        key = work.stream, work.epoch
        if work.is_gone:
            self._owned.pop(key, None)
            if work.stream in self._leaving:
                self._leaving.pop(work.stream).set()
            return True
        if not replies:
            return True
        if owned is None:
            if isinstance(replies[1], bytes):
                self._lose(work.stream, work.epoch)
                return True
            claimed = parse_claim(work.stream, replies[1], b"")
            self._owned[key] = claimed.owned
            return not (work.has_changes or work.floor)
        if not work.has_changes:
            return True
        verdict = judge(replies[-1], owned, max(work.last, owned.head))
        if verdict is Verdict.LOST:
            self._lose(work.stream, work.epoch)
        elif verdict is Verdict.REPAIR:
            work.needs_repair = seen_term(replies[-1])
        return verdict in {Verdict.IN, Verdict.LOST}

    def _lose(self, stream: str, epoch: str) -> None:
        self._owned.pop((stream, epoch), None)
        if self._memory is not None:
            self._memory.lost(stream, epoch, f"another gateway serves stream {stream!r} now: reconnect to resume there")

    def _refill(self, link: Link) -> Refill:
        return Refill(self._keys, self._session.node, self._memory, lambda commands: self._call(link, commands))

    async def _connected(self, group: Sequence[Work]) -> Link:
        """Return the connection; after a new one was made, or all was lost, what the server has is verified."""
        if self._link is None or not self._link.is_open:
            self._link = None
            self._link = link = await connect(self._address, self._lost_link)
            self._must_verify = True
            incarnation = await incarnation_of(link)
            if incarnation != self._incarnation and self._incarnation:
                self._hold_claims()
            self._incarnation = incarnation
        if self._must_verify:
            await self._verify(self._link, group)
            self._must_verify = False
        return self._link

    def _lost_link(self) -> None:
        self._must_verify = True
        self._wake.set()

    def _hold_claims(self) -> None:
        """Leave the streams of other gateways to them for a while, as their sessions may be lost while they are not."""
        if self._session.has_peers:
            self._claims_from = asyncio.get_running_loop().time() + TTL

    async def _verify(self, link: Link, group: Sequence[Work]) -> None:
        """Append again what the server has lost of any stream."""
        reached = {(work.stream, work.epoch): work.last for work in group if work.has_changes}
        refill = self._refill(link)
        for (stream, epoch), owned, reply in await refill.confirm(self._owned):
            verdict = judge(reply, owned, max(owned.head, reached.get((stream, epoch), 0)))
            if verdict is Verdict.LOST:
                self._lose(stream, epoch)
            elif verdict is Verdict.REPAIR:
                await self._repair(link, stream, epoch, owned, seen_term(reply))

    async def _repair(self, link: Link, stream: str, epoch: str, owned: Owned, seen: bytes) -> None:
        if not await self._refill(link).repair(stream, epoch, owned, seen):
            self._owned.pop((stream, epoch), None)  # it was forgotten here meanwhile

    async def _call(self, link: Link, commands: Sequence[Command]) -> list[Any]:
        """Send commands; none of them may fail.

        Raises:
            LinkError: the connection is gone, or leads to a server that can't be written to any more.
            ServerError: the server refuses something.
        """
        replies = await link.call(commands)
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                text = str(reply)
                if "Function not found" in text:
                    await link.call([("FUNCTION", "LOAD", "REPLACE", SOURCE)])
                    raise LinkError(text)
                raise (LinkError if text.startswith(PASSING) else ServerError)(text)
        return replies

    async def _give_up_all(self) -> None:
        commands = [
            call("release", self._keys.of_stream(stream), owned.term, "leave")
            for (stream, _), owned in self._owned.items()
        ]
        with suppress(LinkError, ServerError):
            if commands:
                await self._call(await self._connected(()), commands)

    # The session

    async def _keep_session(self) -> None:
        while True:
            await asyncio.sleep(RENEWAL)
            began = time.monotonic()
            try:
                was_there = await self._session.renew()
            except (RedisError, OSError) as error:
                self._health.failed(str(error), began)
                continue
            if self._health.asking_since is None:
                self._health.answered()
            if not was_there:
                self._hold_claims()
                self._must_verify = True
                self._wake.set()
            elif self._session.has_peers and time.monotonic() >= self._next_search:
                await self._take_over_unserved()

    async def _take_over_unserved(self) -> None:
        """Take over the streams of gateways that have gone, though nobody asks for them: messages may have to end."""
        self._next_search = time.monotonic() + TTL
        if asyncio.get_running_loop().time() < self._claims_from:
            return
        with suppress(RedisError, OSError, EngineError):
            for it in await self._claim_unserved():
                if self._memory is not None:
                    self._memory.found(it.stream)
