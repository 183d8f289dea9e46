"""A stream whose events an engine commits before anyone sees them.

    append ──► staged ──► commit ──► in the history, and in the log while memory lasts
                                       │
    after a restart, or behind the log └──► pages

The log holds the newest events; the engine holds all that the retention covers. A reader whose position the log has
dropped reads pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from deltawire.gateway.streams.coalesce import Kind
from deltawire.gateway.streams.eviction import IdleStreams
from deltawire.gateway.streams.history import History
from deltawire.gateway.streams.log import Ledger, Log, Retention
from deltawire.gateway.streams.pages import Page, Pages, StoredPage
from deltawire.gateway.streams.producers import Writer
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.staging import Commit, OpenMessage, Recalled, Staging, StoredState
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.codec import decode_event
from deltawire.protocol.events import (
    Data,
    EventType,
    MessageStart,
    MessageStop,
)
from deltawire.protocol.framing import payload_start

HELD: Final = Retention()
"""The most of a stored stream that memory holds: as much as a stream retains by default."""


def held_of(retention: Retention) -> Retention:
    """How much of a stream memory holds, where the rest is elsewhere and age is looked at there."""
    return Retention(events=min(retention.events, HELD.events), bytes=min(retention.bytes, HELD.bytes))


class _Unread(NamedTuple):
    """Events whose text is needed for the digest of a message that is alone on its stream."""

    first: int
    last: int
    message: int  # hash of its id


class DurableStream(Stream):
    """One stream in one epoch, in an engine.

    Args:
        stream_id: its id.
        epoch: of its log.
        settings: its settings.
        now: monotonic seconds.
        ledger: counts its bytes together with those of other streams.
        pages: of all streams.
        max_age: seconds that its events are stored at most, whatever its retention; 0 for no limit.
        idle: where it adds itself when its last user has gone.

    Attributes:
        history: what the engine has.
        held_pages: its pages in memory, by their first seq.
        wanted_pages: first seqs of the pages that are being read.
        is_leaving: nothing is appended any more, as another gateway is to take it over.
        is_lost: another gateway has taken it over, or may: nothing of it is committed any more.
    """

    __slots__ = (
        "_has_ended_message",
        "_is_cleared",
        "_pages",
        "_unread",
        "held_pages",
        "history",
        "is_leaving",
        "is_lost",
        "wanted_pages",
    )

    staging: Staging

    def __init__(  # noqa: PLR0913, PLR0917 - what a manager knows of it
        self,
        stream_id: str,
        epoch: str,
        settings: StreamSettings,
        now: float,
        ledger: Ledger,
        pages: Pages,
        max_age: float = 0.0,
        idle: IdleStreams | None = None,
    ) -> None:
        retention = settings.retention.within(max_age)
        super().__init__(stream_id, epoch, settings, now, ledger, idle, held_of(retention))
        self.staging = Staging(0)
        self.history = History(retention)
        self.history.count_on(ledger, 0.0)
        self._pages = pages
        self.held_pages: list[Page] = []
        self.wanted_pages: set[int] = set()
        self._unread: _Unread | None = None  # to be read before producers continue a message
        self._has_ended_message = False
        self._is_cleared = False
        self.is_leaving = self.is_lost = False

    def restore(self, stored: StoredState, now: float, lease: float, offset: float) -> None:
        """Take over what an engine has stored before a restart.

        Args:
            stored: everything but the events.
            now: monotonic seconds.
            lease: seconds that the producers of messages in progress have to return.
            offset: seconds to add to the times of the history.
        """
        stored.history.limit(self.history.retention)
        self.history = stored.history
        self.history.count_on(self.log.ledger, offset)
        head = stored.history.last
        self.staging = Staging(head)
        self.log.restore(head + 1, head)
        self.producers.restore(stored.producers)
        self.leases.restore([(it.id, it.producer) for it in stored.messages], now + lease)
        self.closed_as = self.end_reason = stored.end_reason
        self.closed_at = now
        for it in stored.messages:
            if it.digest_from >= max(self.history.floor, 1):
                self._unread = _Unread(it.digest_from, head, hash(it.id))
                self._latest.digest.begin(it.digest_from)
                self.log.message_start = it.digest_from
        self._count_extra()

    def recall(self) -> Recalled:
        """What memory holds of what is committed."""
        log = self.log
        frames = log.frames(log.floor - 1, log.head) if log.floor <= log.head else ()
        return Recalled(
            first=log.floor,
            head=log.head,
            frames=frames,
            producers=self.producers.states(),
            messages=self._open_messages(),
            end_reason=self.end_reason,
        )

    # What can be read

    @property
    def is_settled(self) -> bool:
        """Whether everything appended is committed."""
        return self.staging.is_settled

    @property
    def floor(self) -> int:
        """Seq of the oldest event that can be read."""
        return self.history.floor

    @property
    def stored_bytes(self) -> int:
        """What its stored events cost."""
        return self.history.bytes

    @property
    def is_aging(self) -> bool:
        """Whether its events expire."""
        return self.history.retention.age > 0

    def is_stored(self, seq: int) -> bool:
        """Whether an event that the log has dropped can be read from a page."""
        return seq >= self.history.floor

    def readable_after(self, cursor: int, *, folded: bool) -> int:
        """As `Log.readable_after`, of all that can be read."""
        if cursor >= self.log.floor - 1:
            return cursor
        if cursor < self.history.floor - 1:
            return min(self.log.readable_after(cursor, folded=folded), self.history.floor - 1)
        page = self._pages.find(self, cursor + 1)
        return cursor if page is None or page.log is not None else page.last

    def page_with(self, seq: int) -> Log | None:
        """Return the page with an event that `is_stored`; None if it is being read."""
        page = self._pages.get(self, seq)
        return None if page is None else page.log

    def add_page(self, first: int, stored: StoredPage, now: float) -> None:
        """Add a page that was wanted.

        Args:
            first: seq of the first event that was wanted.
            stored: what the engine answered.
            now: monotonic seconds.
        """
        self._pages.add(self, first, stored, now)

    # Events

    def _stage(self, data: Data, kind: Kind, frame: bytes, writer: Writer | None) -> int:
        self._unread = None  # nobody waited for the text before: the message has no digest
        before = self.staging.bytes
        if isinstance(data, MessageStart | MessageStop):
            self.staging.has_new_messages = True
        if writer is not None and not self.producers.is_latest(writer):
            writer = None  # a later connection goes on with its numbers: these must not be stored in their place
        seq = self.staging.add(kind, frame, writer)
        self.log.ledger.bytes += self.staging.bytes - before
        return seq

    def pass_over(self, writer: Writer | None) -> None:
        """Record that an event counts as accepted; a producer's number is stored, so that it is not sent again."""
        if writer is not None and writer.id is not None and self.producers.is_latest(writer):
            self.staging.remember(writer)

    def take_commit(self) -> Commit | None:
        """Return what is staged, for the engine; None if there is nothing."""
        return self.staging.take(self.id, self.epoch, self._open_messages)

    @property
    def no_commit(self) -> Commit:
        """A commit of nothing, which is answered after those before it."""
        return Commit(self.id, self.epoch, self.staging.head + 1, (), (), (), None, None)

    def _open_messages(self) -> list[OpenMessage]:
        """The messages in progress."""
        return [
            OpenMessage(message_id, producer, self._latest.digest_from(message_id))
            for message_id, producer in self.leases.owners()
        ]

    def commit(self, commit: Commit, now: float) -> None:
        """Move a commit that the engine has into the log, where consumers read it."""
        log = self.log
        self.staging.committed(commit)
        if commit.producers:
            self.producers.committed(commit.producers)
        if commit.end_reason is not None:
            self.end_reason = commit.end_reason
            self.history.has_news = True
        if self._is_cleared:
            return
        log.ledger.bytes -= commit.cost
        if commit.frames:
            assert commit.first == log.head + 1, "an engine answers for the commits of a stream in order"
            self.history.add(log.head + len(commit.frames), commit.cost, now)
        for kind, frame in zip(commit.kinds, commit.frames, strict=True):
            if kind.type is EventType.MESSAGE_START:
                log.begin_message()
            elif kind.type is EventType.MESSAGE_STOP:
                self._has_ended_message = self.history.has_news = True
            log.append(kind, frame, now)
        if self._idle is not None and not self._subscriptions and not self.publishing:
            self._enter_idle()

    def take_piece(self) -> Sequence[bytes]:
        """Return the frames, up to the head, that the engine should store again as one piece; empty if none."""
        history, log = self.history, self.log
        is_complete, self._has_ended_message = self._has_ended_message or self.is_closed, False
        if not history.is_worth_a_piece(is_complete=is_complete):
            return ()
        frames = log.frames(max(history.loose, log.floor) - 1, log.head)
        history.begin_piece()
        return frames

    def clear(self) -> None:
        """Drop the events of a closed stream that nobody can find, and stop counting the rest of it."""
        self._is_cleared = True
        self._pages.drop_all_of(self)
        self.history.clear()
        self.log.ledger.bytes -= self.staging.bytes  # what waits for the engine comes in no log any more
        super().clear()

    # Memory

    def unload(self) -> bool:
        """Drop the events from memory, until somebody needs them.

        Returns:
            Whether there were any to drop: not while the stream is in use, or events of it wait for the engine.
        """
        log = self.log
        if log.head < log.floor or not self.is_idle or not self.is_settled:
            return False
        self._drop_prefix()
        log.unload()
        return True

    def shrink(self) -> bool:
        """Drop from memory what no policy needs; whether there was anything to drop."""
        before = self.log.bytes
        if before > self.settings.buffer_bytes:
            self._drop_prefix()
            self.log.shrink(self.settings.buffer_bytes)
        return self.log.bytes < before

    def _drop_prefix(self) -> None:
        """Drop the beginning of the message in progress, unless it is stored nowhere else."""
        if self.history.floor <= self.log.prefix.start:
            self.log.drop_prefix()

    def trim(self, now: float) -> bool:
        """Drop what the retention does not cover; whether the engine has anything to delete."""
        if not self.history.trim(now):
            return False
        self.log.trim_to(self.history.floor)
        return True

    def trim_by_age(self, now: float) -> bool:
        """Likewise."""
        return self.trim(now)

    def trim_to(self, size: int) -> bool:
        """Drop the oldest stored events until the rest costs at most `size` bytes; result as for `trim`."""
        if not self.history.trim_to(size):
            return False
        self.log.trim_to(self.history.floor)
        return True

    # Producers

    @property
    def has_room(self) -> bool:
        """Whether producers may continue: also, not too much waits for the engine, and nothing has to be read."""
        if self.is_leaving or self._unread is not None or not self.staging.has_room:
            return False
        return self.blocking.is_free or super().has_room

    def open_producer(self, producer_id: str | None, generation: int) -> Writer:
        """As `Stream.open_producer`; a newer generation is stored at once."""
        is_newer = self.producers.is_newer(producer_id, generation)
        writer = super().open_producer(producer_id, generation)
        if is_newer:
            self.staging.remember(writer)
        return writer

    @property
    def full_because(self) -> str:
        """Why there is no room, for a producer that does not want to wait."""
        if self.is_leaving:
            return "the gateway is shutting down: connect elsewhere"
        if not self.staging.has_room:
            return f"{self.staging.bytes} bytes of this stream wait to be stored: try again"
        return super().full_because

    @property
    def is_recovering(self) -> bool:
        """Whether producers have to wait: also, until the text of their message before a restart is read."""
        return self._unread is not None or super().is_recovering

    def recover(self) -> None:
        """Take that text from the pages in memory, and want the next page; to be called again when it is there."""
        while self._unread is not None:
            first, last, message = self._unread
            page = self._pages.get(self, first)
            if page is None:
                return
            if page.log is None or first < self.history.floor:  # some of the text is lost
                self._unread = None
                return
            for frame in page.log.frames(first - 1, min(page.last, last)):
                self._latest.read(decode_event(frame[payload_start(frame) :]))
            if page.last >= last:
                self._latest.is_read(message)
                self._unread = None
            else:
                self._unread = _Unread(page.last + 1, last, message)
            self._count_extra()
