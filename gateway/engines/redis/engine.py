"""The engine on a Redis or Valkey server, which several gateways may use: each stream is one's at a time.

One task commits, over a connection of its own (`committer`); one renews the session. Reads and claims go over others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import suppress
from itertools import count
from math import inf
from secrets import token_hex
from typing import Any, Final

from redis.exceptions import RedisError, ResponseError

from deltawire.gateway.engines.engine import (
    Done,
    Elsewhere,
    EngineError,
    EngineMetrics,
    Memory,
    Part,
    StoredStream,
)
from deltawire.gateway.engines.redis.address import parse_address
from deltawire.gateway.engines.redis.claiming import claim, claim_unserved
from deltawire.gateway.engines.redis.client import Client, make_client
from deltawire.gateway.engines.redis.cluster import ClusterClient, Layout
from deltawire.gateway.engines.redis.clustered import ClusterCommitter
from deltawire.gateway.engines.redis.committer import SURE, Committer
from deltawire.gateway.engines.redis.identity import own_identity
from deltawire.gateway.engines.redis.keeping import SessionKeeper
from deltawire.gateway.engines.redis.keys import Keys
from deltawire.gateway.engines.redis.library import call
from deltawire.gateway.engines.redis.server import (
    Server,
    asked,
    check_server,
    eviction,
    in_words,
    is_about_keys,
    load_functions,
)
from deltawire.gateway.engines.redis.session import TTL, Session
from deltawire.gateway.engines.redis.stored import Claimed, UnreadableError, parse_page
from deltawire.gateway.logs import get_logger
from deltawire.gateway.streams.pages import StoredPage, Wanted
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.staging import Commit

RETRY: Final = 0.2
"""Seconds between two tries of a read."""

log = get_logger()


class RedisEngine:
    """An engine on a server.

    Args:
        url: `engine_url`.
        prefix: of all keys.
        timeout: seconds that commits wait before the engine counts as failing.
        replicas: of the server, that must have a commit.
        advertised: where clients reach this gateway.
        part: of its streams that this process has; None for all.

    Attributes:
        reads_at_once: the answer of one may take long; pages that come in one turn of the loop hold it up.
        key: of this gateway, which its session has.
        merge: none, as the server finds entries in memory, many at a time.

    Raises:
        EngineError: the URL is malformed.
    """

    reads_at_once = 4
    merge = None

    def __init__(  # noqa: PLR0913 - the settings
        self,
        url: str,
        *,
        prefix: str = "deltawire",
        timeout: float = 5.0,
        replicas: int = 0,
        advertised: str = "",
        part: Part | None = None,
    ) -> None:
        self._address = parse_address(url)
        self._keys = Keys(prefix, self._address.is_cluster)
        self._layout = Layout(self._address, timeout)
        self._timeout = timeout
        self._doubt = (
            f"{self._address} has not confirmed for over {TTL:g} s that this gateway still has its streams: "
            "connect elsewhere, or try again later"
        )
        self._advertised = advertised
        self._owns, self.key = part or Part(lambda _: True, token_hex(16))
        self._replicas = replicas
        self._committer: Committer | ClusterCommitter = (
            ClusterCommitter(self._layout, self._keys, timeout, replicas)
            if self._address.is_cluster
            else Committer(self._address, self._keys, timeout, replicas)
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._commits = count()
        self._asking: set[asyncio.Task[None]] = set()  # for pages, and for streams that nobody serves
        self._server = Server("", "", 0)
        self._next_search = inf  # for streams that nobody serves; monotonic seconds
        self._elsewhere = 0
        self._unreadable: set[str] = set()  # streams, as each is told once
        self._is_evicting = False
        self._is_leaving = False
        self._is_closing = asyncio.Event()

    def _make_client(self) -> Client:
        if self._address.is_cluster:
            return ClusterClient(self._layout)
        return make_client(self._address, self._timeout)

    # The interface

    @property
    def failure(self) -> str | None:
        """Why nothing can be committed now; None if it can."""
        now = time.monotonic()  # looked at in each turn with events
        return self._committer.failure(now) or (self._doubt if self._keeper.is_in_doubt(now) else None)

    @property
    def doubt(self) -> str | None:
        """Why this gateway's streams may be another one's by now: its session is over, as far as it knows."""
        return self._doubt if self._keeper.is_in_doubt(time.monotonic()) else None

    def metrics(self) -> EngineMetrics:
        """Return its counts; the bytes are all that the server holds."""
        it = self._committer
        return EngineMetrics(it.commits, it.failures, it.events, self._session.used_memory)

    async def check(self) -> None:
        """Check whether the server can be used, without changing anything there.

        Raises:
            EngineError: it can't.
        """
        client = self._make_client()
        try:
            await check_server(client, self._address)
        finally:
            await client.close()

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
        self._client = client = self._make_client()
        listed: list[StoredStream] = []
        try:
            self._server = await check_server(client, self._address)
            await load_functions(client, self._keys, self._address, waits=self._replicas > 0)
            self._session = Session(client, self._keys, own_identity(self._advertised, self.key))
            try:
                await asked(self._session.renew(), self._address, "SET")
                await asked(self._session.begin(), self._address, "SET")
                self._keeper = SessionKeeper(self._session, self._committer, self._renewed)
                self._tasks = [asyncio.create_task(self._keeper.run(self._is_closing))]  # claims may take long
                await asked(self._claim_unserved(listed.append), self._address, "claims")
            except BaseException:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)
                with suppress(RedisError, OSError):
                    await self._session.end()  # which gives back what was claimed
                raise
        except BaseException:
            await client.close()
            raise
        assert memory is not None, "what the server loses is appended again from there"
        self._memory = memory
        self._next_search = time.monotonic() + TTL
        self._tasks.append(self._committer.start(self._session.node, memory, self._session.hold_claims))
        return listed

    def describe(self) -> dict[str, Any]:
        """What was found at the start, for the log."""
        return {
            "server": f"{self._server.name} at {self._address}",
            "persistence": self._server.persistence or "none",
            "replicas": self._server.replicas,
            "node": self._session.node,
            "elsewhere": self._elsewhere,
        }

    async def _claim_unserved(self, found: Callable[[StoredStream], None]) -> None:
        def claimed(it: Claimed) -> None:
            self._committer.owned[it.stream.id, it.stream.epoch] = it.owned
            found(it.stream)

        self._elsewhere = await claim_unserved(self._client, self._keys, self._session, self._owns, claimed, self._skip)

    def _skip(self, error: UnreadableError) -> str:
        """Log that a stream can't be served, once; returns why."""
        why = self._keys.tell_foreign(error.stream, error.why)
        if error.stream not in self._unreadable:
            self._unreadable.add(error.stream)
            log.error("storage.stream_skipped", stream=error.stream, detail=why)
        return why

    def locate(self, stream: str) -> Awaitable[StoredStream | Elsewhere | None]:
        """Find a stream that is not here, and take it over if its gateway is gone.

        Raises:
            EngineError: the server can't be asked.
        """
        return self._locate(stream)

    async def _locate(self, stream: str) -> StoredStream | Elsewhere | None:
        if self._is_leaving:
            return Elsewhere("the gateway is shutting down: connect elsewhere, or later")
        try:
            async with asyncio.timeout(self._timeout):
                if (leaving := self._committer.leaving.get(stream)) is not None:
                    await leaving.wait()
                found = await claim(self._client, self._keys, self._session, stream)
        except (RedisError, OSError) as error:
            raise EngineError(f"{self._address}: {str(error) or 'no answer'}") from None
        except UnreadableError as error:
            return Elsewhere(self._skip(error))
        self._unreadable.discard(stream)
        if isinstance(found, Claimed):
            self._committer.owned[stream, found.stream.epoch] = found.owned
            found.owned.sure_until = time.monotonic() + SURE
            return found.stream
        return found

    async def others(self) -> list[Elsewhere]:
        """The other gateways that are there and say where.

        Raises:
            EngineError: the server can't be asked.
        """
        try:
            async with asyncio.timeout(self._timeout):
                peers = await self._session.find_peers()
        except (RedisError, OSError) as error:
            raise EngineError(f"{self._address}: {str(error) or 'no answer'}") from None
        found = {Elsewhere("", peer.url, peer.key): None for peer in peers if peer.url and peer.key != self.key}
        return [it for it in found if it.key]  # once each, however many processes it has

    def is_sure(self, stream: str, epoch: str) -> bool:
        """Whether a stream was certainly this gateway's within the last second; if not, the server is asked."""
        owned = self._committer.owned.get((stream, epoch))
        is_sure = owned is None or time.monotonic() < owned.sure_until  # of a new one, it was asked just now
        if not is_sure:
            self._committer.work(stream, epoch).is_asked = True
        return is_sure

    def create(self, stream: str, epoch: str, settings: StreamSettings) -> None:
        """Store a new stream, before its first commit."""
        self._committer.work(stream, epoch).settings = settings

    def commit(self, commits: Sequence[Commit], done: Done) -> None:
        """Store commits, each as a whole; nothing of streams that were forgotten or lost meanwhile.

        Args:
            commits: in the order in which they were taken.
            done: called with the indexes of those that are committed.
        """
        now, number = time.time(), next(self._commits)
        for index, commit in enumerate(commits):
            self._committer.work(commit.stream, commit.epoch).add(commit, (number, done, index), now)

    def trim(self, stream: str, epoch: str, floor: int) -> None:
        """Delete the events of a stream before a seq, as far as whole entries reach."""
        self._committer.work(stream, epoch).floor = floor

    def forget(self, stream: str, epoch: str) -> None:
        """Delete a stream."""
        self._committer.work(stream, epoch).is_gone = True
        self._committer.leaving[stream] = asyncio.Event()

    def read(self, stream: str, epoch: str, wanted: Wanted, done: Callable[[StoredPage], None]) -> None:
        """Read events, once the server answers.

        Args:
            stream: its id.
            epoch: of its log.
            wanted: which events.
            done: called with the answer.
        """
        self._ask(self._read(stream, epoch, wanted, done))

    def _ask(self, asking: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(asking)
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _read(self, stream: str, epoch: str, wanted: Wanted, done: Callable[[StoredPage], None]) -> None:
        try:
            page = await self._read_page(stream, epoch, wanted)
        except Exception as error:  # noqa: BLE001 - whatever is there, it is told, and others' pages must not wait for it
            page = StoredPage(wanted.last, (), f"events {wanted.first} to {wanted.last}: {error}")
        done(page)

    async def _read_page(self, stream: str, epoch: str, wanted: Wanted) -> StoredPage:
        command = call("read", self._keys.of_stream(stream), wanted.first, wanted.last, wanted.size)
        is_told = False
        while (stream, epoch) in self._committer.owned or self._is_leaving:
            try:
                return parse_page(await self._client.execute(command), wanted)
            except ResponseError as error:
                if is_about_keys(str(error)):
                    raise UnreadableError(stream, in_words(str(error))) from None
                if not is_told:  # the events are there still, once it is allowed again
                    log.warning("storage.read_refused", stream=stream, detail=str(error))
                    is_told = True
            except (RedisError, OSError):  # what is only away is not told as lost
                pass
            await asyncio.sleep(RETRY)
        return StoredPage(wanted.last, (), "the stream was forgotten")

    async def give_up(self, streams: Collection[tuple[str, str]]) -> None:
        """Leave streams to whoever is asked for them; what the server does not take in time is tried at the end.

        Args:
            streams: their ids and epochs; all of each is committed, and nothing more of it is handed over.
        """
        self._is_leaving = True
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout):
                await self._committer.give_up(streams)

    async def close(self) -> None:
        """Commit what was handed over, give all streams up, and end; what the server does not take in time is left."""
        self._committer.close()
        self._is_closing.set()
        keeping, committing = self._tasks
        with suppress(TimeoutError, RedisError, OSError):
            async with asyncio.timeout(self._timeout):
                await keeping  # not cancelled: it may be about to renew the session, which is to end now
                await committing
                await self._session.end()
        tasks = [committing, keeping, *self._asking]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._committer.disconnect()
        await self._client.close()

    def _renewed(self) -> None:
        """Look at what the server said when the session was renewed, and for streams that nobody serves."""
        evicting = eviction(self._session.policy, self._address)
        if evicting and not self._is_evicting:
            log.warning("storage.eviction_enabled", detail=evicting)
        self._is_evicting = bool(evicting)
        self._search()

    # Streams that nobody serves

    def _search(self) -> None:
        """Look for streams of gateways that have gone, though nobody asks for them: messages may have to end."""
        if self._session.has_peers and time.monotonic() >= self._next_search:
            self._next_search = inf
            self._ask(self._take_over_unserved())  # which may take longer than a session lasts

    async def _take_over_unserved(self) -> None:
        if not self._is_leaving and self._session.held_for <= 0:
            with suppress(RedisError, OSError):
                await self._claim_unserved(self._memory.found)
        self._next_search = time.monotonic() + TTL
