"""The streams of a process, by id."""

from __future__ import annotations

import builtins
from bisect import insort
from collections import deque
from collections.abc import Callable, Collection
from itertools import chain, islice
from operator import attrgetter

from deltawire.gateway.streams.callbacks import MessageWatcher, Screen, StreamStore
from deltawire.gateway.streams.durable import DurableStream
from deltawire.gateway.streams.eviction import IdleStreams
from deltawire.gateway.streams.log import Ledger
from deltawire.gateway.streams.mirror import Mirror
from deltawire.gateway.streams.pages import Pages
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.sorted_ids import SortedIds
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.addresses import check_stream_id
from deltawire.protocol.errors import ErrorKind, StreamError
from deltawire.protocol.messages import EndReason

STREAM_OVERHEAD = 3400
"""Bytes a stream in use costs beside its events: 10 000 streams of one event each make CPython 3.11 allocate 35 MB, and
take 39 MB resident."""


PAGES_SHARE = 16
"""Pages of stored events may take a sixteenth of the memory: by default 32 MiB, five hundred readers at once."""

AGED_AT_ONCE = 5_000
"""Streams whose old events are looked for at a time, 2 ms of work: of 50,000 streams, all within 5 s."""

LIMIT_SLACK = 64
"""Where a limit is reached and streams in use have to give, they give a 64th more, so that it is not reached at once
again: all streams are looked at."""


SHRINK_INTERVAL = 1.0
"""Seconds between two looks at all streams where none had anything to give."""


class StreamManager:
    """Creates, finds, closes and forgets streams.

    Args:
        settings: defaults of new streams.
        make_epoch: returns a unique epoch for each stream.
        memory_limit: bytes that all streams and everything counted by `elsewhere` may cost together.
        max_streams: the most streams, including closed ones that can still be read.
        closed_retention: seconds a closed stream can still be read.
        data_limit: bytes that the stored events of all streams may cost; 0 for no limit.
        data_age: seconds that events are stored at most, whatever the retention of their stream; 0 for no limit.

    Attributes:
        store: told of streams that come and go; None keeps them in memory alone.
        pages: stored events in memory, for readers who are behind what the logs hold.
        relieve: called when `elsewhere` grows over the limit, to make it less at once.
    """

    def __init__(  # noqa: PLR0913 - limits, all named
        self,
        settings: StreamSettings,
        make_epoch: Callable[[], str],
        *,
        memory_limit: int = 512 * 1024 * 1024,
        max_streams: int = 50_000,
        closed_retention: float = 600.0,
        data_limit: int = 0,
        data_age: float = 0.0,
    ) -> None:
        self.settings = settings
        self._memory_limit = memory_limit
        self.max_streams = max_streams
        self.closed_retention = closed_retention
        self._make_epoch = make_epoch
        self._streams: dict[str, Stream] = {}
        self._mirrors: dict[Mirror, None] = {}  # of streams of other gateways; nobody finds them by their ids
        self._names = SortedIds()
        self._aging: deque[Stream] = deque()  # streams whose events expire, the one to be looked at first
        self._closed: deque[Stream] = deque()  # in the order they were closed
        self._idle = IdleStreams()
        self.ledger = Ledger()
        self.store: StreamStore | None = None
        self.pages = Pages(memory_limit // PAGES_SHARE, self.ledger)
        self.data_limit = data_limit
        self.data_age = data_age
        self.watcher: MessageWatcher | None = None  # given to the streams created from now on
        self.make_screen: Callable[[Stream], Screen | None] | None = None  # likewise
        self._next_shrink = 0.0
        self.relieve: Callable[[], object] | None = None
        self._elsewhere = 0
        self.events_limit = memory_limit  # bytes on the ledger above which room has to be made

    @property
    def memory_limit(self) -> int:
        """Bytes that all streams and everything counted by `elsewhere` may cost together."""
        return self._memory_limit

    @memory_limit.setter
    def memory_limit(self, limit: int) -> None:
        self._memory_limit = limit
        self.pages.limit = limit // PAGES_SHARE
        self._measure()

    @property
    def elsewhere(self) -> int:
        """Bytes held beside streams, mostly by connections: they count towards the limit too."""
        return self._elsewhere

    @elsewhere.setter
    def elsewhere(self, held: int) -> None:
        has_grown = held > self._elsewhere
        self._elsewhere = max(held, 0)  # bytes may be given back that were counted as fewer or more
        self._measure()
        if has_grown and self.relieve is not None and self.ledger.bytes > self.events_limit:
            self.relieve()

    def _measure(self) -> None:
        """Update `events_limit` after a change of anything but events, so that no append has to add up `bytes`."""
        self.events_limit = self._memory_limit - self._places * STREAM_OVERHEAD - self._elsewhere

    @property
    def _places(self) -> int:
        """Streams and mirrors: both count towards the limits."""
        return len(self._streams) + len(self._mirrors)

    @property
    def bytes(self) -> int:
        """Bytes that count towards the limit: of all streams and mirrors, and `elsewhere`."""
        return self.ledger.bytes + self._places * STREAM_OVERHEAD + self._elsewhere

    @property
    def appended(self) -> int:
        """Events ever appended."""
        return self.ledger.appended + sum(stream.log.head for stream in self._streams.values())

    def create(self, stream_id: str, now: float, settings: StreamSettings | None = None) -> Stream:
        """Create a stream.

        Raises:
            StreamError: invalid, the id is malformed or taken; full, `memory_limit` or `max_streams` is reached.
        """
        if stream_id in self._streams:
            raise StreamError(ErrorKind.INVALID, "create", stream_id, "the stream exists already")
        stream = self._make(stream_id, now, settings or self.settings)
        self.keep(stream, now)
        return stream

    def _make(self, stream_id: str, now: float, settings: StreamSettings) -> Stream:
        try:
            check_stream_id(stream_id)
        except ValueError as error:
            raise StreamError(ErrorKind.INVALID, "create", stream_id, str(error)) from None
        if self.store is not None:
            return self.make_stored(stream_id, self._make_epoch(), settings, now)
        stream = Stream(stream_id, self._make_epoch(), settings, now, self.ledger, self._idle)
        self._equip(stream)
        return stream

    def _equip(self, stream: Stream) -> None:
        stream.watcher = self.watcher
        if self.make_screen is not None:
            stream.screen = self.make_screen(stream)

    def make_stored(self, stream_id: str, epoch: str, settings: StreamSettings, now: float) -> DurableStream:
        """Return a stream that is stored; one from before a restart is to be filled and given to `restore`."""
        stream = DurableStream(stream_id, epoch, settings, now, self.ledger, self.pages, self.data_age, self._idle)
        self._equip(stream)
        return stream

    def restore(self, stored: DurableStream) -> None:
        """Register a stream from before a restart."""
        self._streams[stored.id] = stored
        self._names.add(stored.id)
        if stored.is_aging:
            self._aging.append(stored)
        self._measure()
        if stored.is_closed:
            insort(self._closed, stored, key=attrgetter("closed_at"))
        elif not stored.head:
            self._idle.add(stored)  # others take no memory until they are used

    def open(self, stream_id: str, now: float) -> Stream:
        """Return the stream with this id, or a new one that nobody else finds before `keep`.

        A request that is refused in between leaves no stream behind.

        Raises:
            StreamError: invalid, the id is malformed.
        """
        return self._streams.get(stream_id) or self._make(stream_id, now, self.settings)

    def keep(self, stream: Stream, now: float) -> None:
        """Register a stream returned by `open`, so that it is found by its id.

        Raises:
            StreamError: full, `memory_limit` or `max_streams` is reached.
        """
        if stream.id in self._streams:
            return
        if not self.make_room(now, STREAM_OVERHEAD, streams=1):
            raise self.out_of_room("create", stream.id)
        if self.store is not None and self.store.failure is not None:
            raise StreamError(ErrorKind.FULL, "create", stream.id, f"nothing can be stored now: {self.store.failure}")
        self._streams[stream.id] = stream
        self._names.add(stream.id)
        if stream.is_aging:
            self._aging.append(stream)
        self._measure()
        self._idle.add(stream)
        if self.store is not None and isinstance(stream, DurableStream):
            self.store.created(stream)

    def keep_mirror(self, mirror: Mirror, now: float) -> None:
        """Count a mirror towards the limits.

        Raises:
            StreamError: full, `memory_limit` or `max_streams` is reached.
        """
        if not self.make_room(now, STREAM_OVERHEAD, streams=1):
            raise self.out_of_room("mirror", mirror.id)
        self._mirrors[mirror] = None
        self._measure()

    def drop_mirror(self, mirror: Mirror) -> None:
        """Forget a mirror, and what it holds."""
        mirror.clear()
        if mirror in self._mirrors:
            del self._mirrors[mirror]
            self._measure()

    @property
    def mirrors(self) -> int:
        """Number of mirrors."""
        return len(self._mirrors)

    def has(self, stream_id: str) -> bool:
        """Whether `get` would find a stream."""
        return stream_id in self._streams

    def get(self, stream_id: str, operation: str = "get") -> Stream:
        """Return an existing stream, open or closed.

        Args:
            stream_id: its id.
            operation: that needs it, for the error.

        Raises:
            StreamError: not found.
        """
        try:
            return self._streams[stream_id]
        except KeyError:
            raise StreamError(ErrorKind.NOT_FOUND, operation, stream_id) from None

    def get_or_create(self, stream_id: str, now: float) -> Stream:
        """Return the stream with this id; create it if there is none.

        Raises:
            StreamError: as `create`.
        """
        return self._streams.get(stream_id) or self.create(stream_id, now)

    def close(self, stream_id: str, now: float, reason: EndReason = "closed") -> Stream:
        """End a stream; its events can be read until its retention ends. Closing twice changes nothing.

        Raises:
            StreamError: not found.
        """
        stream = self.get(stream_id, "close")
        self.end(stream, now, reason)
        return stream

    def end(self, stream: Stream, now: float, reason: EndReason = "closed") -> None:
        """Like `close`, for a caller that has the stream itself: its id may belong to another stream by now."""
        if not stream.is_closed:
            stream.close(reason, now)
            self._idle.discard(stream)
            self._closed.append(stream)

    def close_all(self, now: float, reason: EndReason = "closed") -> list[Stream]:
        """End every open stream; returns those that were open."""
        return [self.close(stream.id, now, reason) for stream in self.list() if not stream.is_closed]

    def cleanup_inactive(self, threshold: float, now: float) -> list[Stream]:
        """End every open stream that saw no event, and no consumer or producer come or go, for `threshold` seconds."""
        return [
            self.close(stream.id, now, "inactive")
            for stream in self.list()
            if not stream.is_closed and now - stream.last_active_at >= threshold
        ]

    def list(self) -> list[Stream]:
        """All streams, oldest first, including closed ones that can still be read."""
        return list(self._streams.values())

    def count(self) -> int:
        """Number of streams in `list`."""
        return len(self._streams)

    def page(self, exact: Collection[str], prefixes: Collection[str], after: str, limit: int) -> builtins.list[Stream]:
        """Return some streams in the order of their ids.

        Args:
            exact: ids to include; those without a stream are skipped.
            prefixes: include ids that begin with one of these; the empty prefix matches all.
            after: only ids that follow this one; empty starts with the first.
            limit: the most streams to return.
        """
        return [self._streams[name] for name in islice(self._names.matching(exact, prefixes, after), limit)]

    def expire(self, now: float) -> None:
        """Forget closed streams whose retention is over, and events that are too old, or too many to be stored."""
        while self._closed and now - self._closed[0].closed_at >= self.closed_retention:
            self._forget(self._closed.popleft())
        for _ in range(min(len(self._aging), AGED_AT_ONCE)):
            stream = self._aging.popleft()
            if self._streams.get(stream.id) is not stream:  # it was forgotten meanwhile
                continue
            self._aging.append(stream)
            if stream.trim_by_age(now):
                self._trimmed(stream)
        if self.data_limit and self.ledger.stored > self.data_limit:
            self._limit_data(now)

    def _trimmed(self, stream: Stream) -> None:
        if self.store is not None and isinstance(stream, DurableStream):
            self.store.trimmed(stream)

    def _limit_data(self, now: float) -> None:
        """Get under `data_limit`: forget closed and unused streams, oldest first; drop the oldest events of others."""
        enough = self.data_limit - self.data_limit // LIMIT_SLACK
        while self.ledger.stored > enough and self._closed:
            self._forget(self._closed.popleft())
        unused = [stream for stream in self._streams.values() if stream.is_idle]
        for stream in sorted(unused, key=attrgetter("last_active_at")):
            if self.ledger.stored <= enough:
                return
            stream.close("inactive", now)
            self._forget(stream)
        used = [stream for stream in self._streams.values() if isinstance(stream, DurableStream)]
        for stream in sorted(used, key=attrgetter("stored_bytes"), reverse=True):
            if self.ledger.stored <= enough:
                return
            if stream.trim_to(max(stream.stored_bytes - (self.ledger.stored - enough), 0)):
                self._trimmed(stream)

    def make_room(self, now: float, needed: int = 0, streams: int = 0) -> bool:
        """Get under the limits by forgetting streams: idle ones without any event, closed ones, then other idle ones.

        Where streams are stored, those with events stay, and closed ones go only where there are too many. Too little
        memory unloads idle ones, which are found as before. Of each kind the oldest goes first; the cost of finding it
        does not grow with the number of streams.

        Args:
            now: monotonic seconds.
            needed: bytes to keep free under `memory_limit`.
            streams: places to keep free under `max_streams`.

        Returns:
            Whether there is room.
        """
        if self.store is not None and not self._unload(now, needed):
            return False
        while self.bytes + needed > self.memory_limit or self._places + streams > self.max_streams:
            stream = self._next_to_go()
            if stream is None:
                return False
            self._let_go(stream, now)
        return True

    def _let_go(self, stream: Stream, now: float) -> None:
        """Forget a stream that nobody uses: the oldest closed one, or an open one."""
        if stream.is_closed:
            self._closed.popleft()
        else:
            stream.close("inactive", now)  # whoever still holds it must not append to a stream nobody can find
        self._forget(stream)

    def _unload(self, now: float, needed: int) -> bool:
        """Make room in memory: of pages, idle streams without events, events of other idle streams, of all others."""
        if (excess := self.bytes + needed - self.memory_limit) > 0:
            self.pages.shrink(max(self.pages.bytes - excess, 0))
        while self.bytes + needed > self.memory_limit:
            stream = self._idle.first()
            if stream is None:
                return self._shrink(now, needed)
            if not stream.head:
                self._let_go(stream, now)
                continue
            stream.unload()
            self._idle.discard(stream)  # until what waits for the engine is committed, or its next user has left
        return True

    def _shrink(self, now: float, needed: int) -> bool:
        """Drop the oldest events of streams in use, which are stored, from memory, of mirrors all if need be.

        Returns:
            Whether there is room then.
        """
        if now < self._next_shrink:
            return False
        enough = self.memory_limit - needed - self.memory_limit // LIMIT_SLACK
        used = chain(self._streams.values(), self._mirrors)
        for stream in sorted(used, key=attrgetter("bytes"), reverse=True):
            if self.bytes <= enough or not stream.shrink():
                break
        for mirror in sorted(self._mirrors, key=attrgetter("bytes"), reverse=True):
            mirror.give_back(max(self.bytes - enough, 0))
        has_room = self.bytes + needed <= self.memory_limit
        if not has_room:
            self._next_shrink = now + SHRINK_INTERVAL
        return has_room

    def _next_to_go(self) -> Stream | None:
        idle = self._idle.first()
        if idle is not None and not idle.head:
            return idle
        if self._closed:
            return self._closed[0]
        return idle if self.store is None else None

    def out_of_room(self, operation: str, stream_id: str) -> StreamError:
        """Return the error to raise when `make_room` has found no room."""
        if self.bytes > self.memory_limit - STREAM_OVERHEAD:
            reached = f"memory_limit ({self.memory_limit} bytes)"
        else:
            reached = f"max_streams ({self.max_streams})"
        used = "in use" if self.store is None else "in use or stored"
        detail = f"{reached} is reached and every stream is {used}: try again later"
        return StreamError(ErrorKind.FULL, operation, stream_id, detail)

    def lose(self, stream: Stream, now: float) -> None:
        """Drop a stream that lives elsewhere from now on; what is stored of it stays."""
        self.give_up(stream)
        if not stream.is_closed:
            stream.close("shutdown", now)  # whoever still holds it must not append
        stream.clear()

    def give_up(self, stream: Stream) -> None:
        """No longer find a stream; whoever has it reads what there is, and if nobody does, memory drops that."""
        if stream in self._closed:
            self._closed.remove(stream)
        self._unlist(stream)
        stream.unload()

    def _forget(self, stream: Stream) -> None:
        stream.clear()
        if self._unlist(stream) and self.store is not None and isinstance(stream, DurableStream):
            self.store.forgotten(stream)

    def _unlist(self, stream: Stream) -> bool:
        self._idle.discard(stream)
        if self._streams.get(stream.id) is not stream:
            return False
        self.ledger.appended += stream.log.head
        del self._streams[stream.id]
        self._names.remove(stream.id)
        self._measure()
        return True
