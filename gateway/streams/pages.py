"""Pages: stored events that were read back for readers who are behind what memory holds. Pure.

    reader ──► wanted ──► read by the engine ──► page ──► read by all who are there ──► dropped, the oldest first

A page is a log of its own, so that it is read as any log: raw, folded, filtered. A reader whose page was dropped before
it took everything wants it again, from where it is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from deltawire.gateway.streams.coalesce import kind_of
from deltawire.gateway.streams.log import Ledger, Log, Retention
from deltawire.protocol.codec import decode_relayed
from deltawire.protocol.events import MAX_SEQ
from deltawire.protocol.framing import payload_start

if TYPE_CHECKING:
    from deltawire.gateway.streams.durable import DurableStream

PAGE_BYTES: Final = 64 * 1024
"""Bytes of frames in a page, about, a millisecond of work: as many as a reader takes at a time."""

_UNLIMITED: Final = Retention(events=MAX_SEQ, bytes=MAX_SEQ)


class Wanted(NamedTuple):
    """What an engine is asked for.

    Attributes:
        first: seq of the first event.
        last: seq of the newest event that is committed.
        size: bytes of frames after which to stop, though not before the first event.
    """

    first: int
    last: int
    size: int = PAGE_BYTES


class StoredPage(NamedTuple):
    """What an engine answers when it is asked for a page.

    Attributes:
        last: seq of the last event that the answer is about.
        frames: of the events, in order; empty if these can't be read.
        fault: why not.
    """

    last: int
    frames: Sequence[bytes]
    fault: str = ""


class Page:
    """A page in memory, or a hole: events that can't be read.

    Attributes:
        first: seq of the first event.
        last: seq of the last event.
        log: the events; None for a hole.
    """

    __slots__ = ("first", "last", "log", "stream")

    def __init__(self, stream: DurableStream, first: int, last: int, log: Log | None) -> None:
        self.stream = stream
        self.first = first
        self.last = last
        self.log = log

    @property
    def bytes(self) -> int:
        """What it costs; a hole as much as a full page, so that it is forgotten as soon and tried again."""
        return PAGE_BYTES if self.log is None else self.log.bytes


_first = attrgetter("first")


class Pages:
    """The pages of all streams, in the order they were last read.

    Args:
        limit: bytes that they may cost together.
        ledger: counts them.

    Attributes:
        fetch: reads a page that begins with a seq of a stream, and passes it to `add`.
    """

    def __init__(self, limit: int, ledger: Ledger) -> None:
        self.limit = limit
        self.bytes = 0
        self.fetch: Callable[[DurableStream, int], None] = lambda _stream, _first: None
        self._ledger = ledger
        self._pages: dict[Page, None] = {}  # that read last at the end

    def find(self, stream: DurableStream, seq: int) -> Page | None:
        """Return the page with an event; None if there is none in memory."""
        index = bisect_right(stream.held_pages, seq, key=_first) - 1
        if index < 0 or stream.held_pages[index].last < seq:
            return None
        page = stream.held_pages[index]
        self._pages[page] = self._pages.pop(page)
        return page

    def get(self, stream: DurableStream, seq: int) -> Page | None:
        """Like `find`; a page that is not in memory is fetched."""
        page = self.find(stream, seq)
        if page is None and seq not in stream.wanted_pages:
            stream.wanted_pages.add(seq)
            self.fetch(stream, seq)
        return page

    def add(self, stream: DurableStream, first: int, stored: StoredPage, now: float) -> None:
        """Add what an engine has read, and drop the pages that there is no room for.

        Args:
            stream: it is of.
            first: seq of the first event, as it was wanted.
            stored: the answer.
            now: monotonic seconds.
        """
        stream.wanted_pages.discard(first)
        if first < stream.history.floor or self.find(stream, first) is not None:
            return  # dropped, or read by way of another page meanwhile
        log = None
        if stored.frames:
            log = Log(_UNLIMITED, self._ledger)
            log.restore(first, first - 1)
            for frame in stored.frames:
                event = decode_relayed(frame[payload_start(frame) :])
                log.append(kind_of(event.data, event.urgent is True), frame, now)
        page = Page(stream, first, stored.last, log)
        stream.held_pages.insert(bisect_right(stream.held_pages, first, key=_first), page)
        self._pages[page] = None
        self.bytes += page.bytes
        self.shrink(self.limit, but=page)

    def shrink(self, limit: int, but: Page | None = None) -> None:
        """Drop pages, those read longest ago first, until the rest costs at most `limit` bytes.

        Args:
            limit: bytes.
            but: the page to keep in any case.
        """
        while self.bytes > limit:
            page = next(iter(self._pages))
            if page is but:
                return
            self._drop(page)

    def drop_all_of(self, stream: DurableStream) -> None:
        """Drop all pages of a stream."""
        for page in tuple(stream.held_pages):
            self._drop(page)

    def _drop(self, page: Page) -> None:
        del self._pages[page]
        page.stream.held_pages.remove(page)
        self.bytes -= page.bytes
        if page.log is not None:
            page.log.clear()
