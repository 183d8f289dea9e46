"""A stream: one log, the subscriptions that read it, and the producers that write it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeAlias

from msgspec import UNSET
from msgspec.structs import replace

from deltawire.gateway.streams.blocking import Blocking
from deltawire.gateway.streams.coalesce import kind_of
from deltawire.gateway.streams.cursor import LogState, plan_subscription
from deltawire.gateway.streams.eviction import IdleStreams
from deltawire.gateway.streams.info import Counters, StreamInfo
from deltawire.gateway.streams.leases import Leases
from deltawire.gateway.streams.log import Ledger, Log
from deltawire.gateway.streams.producers import Producers, Writer
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.staging import Commit, Staging, StoredState
from deltawire.gateway.streams.subscription import Subscription
from deltawire.gateway.streams.view import View
from deltawire.protocol.addresses import SubscribeRequest
from deltawire.protocol.codec import JSON, Encoding, decode_event, encode_event
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.digest import MessageDigest
from deltawire.protocol.errors import ErrorKind, StreamError, WireError
from deltawire.protocol.events import MAX_SEQ, Data, Error, EventType, MessageStart, MessageStop, TextDelta
from deltawire.protocol.framing import TEXT, header, payload_start
from deltawire.protocol.messages import EndReason, Policy

LOST = "the producer was lost and did not come back within {lease:g} s"
ABANDONED = "the producer connected again and began another message without finishing this one"

ReadFrames: TypeAlias = Callable[[int, int], list[bytes]]
"""Returns the stored frames of the events from one seq to another."""


class MessageWatcher(Protocol):
    """Is told when a message begins and ends, before the event is appended."""

    def began(self, stream: Stream, start: MessageStart, seq: int) -> None:
        """A message begins."""

    def ended(self, stream: Stream, stop: MessageStop, seq: int) -> None:
        """A message ends; `stop` contains its digest."""


class Stream:
    """One stream in one epoch.

    Args:
        stream_id: its id.
        epoch: of its log.
        settings: its settings.
        now: monotonic seconds.
        ledger: counts its bytes together with those of other streams.
        idle: where it adds itself when its last user has gone.
    """

    __slots__ = (
        "_alone",
        "_digest",
        "_extra",
        "_idle",
        "_is_cleared",
        "_stored",
        "_subscriptions",
        "_views",
        "blocking",
        "closed_as",
        "closed_at",
        "consumers",
        "counters",
        "created_at",
        "end_reason",
        "epoch",
        "id",
        "last_active_at",
        "leases",
        "log",
        "measure_at",
        "producers",
        "publishing",
        "settings",
        "staging",
        "trimmed",
        "watcher",
    )

    def __init__(  # noqa: PLR0913, PLR0917 - what a manager knows of it
        self,
        stream_id: str,
        epoch: str,
        settings: StreamSettings,
        now: float,
        ledger: Ledger,
        idle: IdleStreams | None = None,
    ) -> None:
        self.id = stream_id
        self.epoch = epoch
        self.settings = settings
        self.log = Log(settings.retention, ledger)
        self.producers = Producers()
        self.leases = Leases()
        self._digest = MessageDigest()
        self._alone: int | None = None  # hash of the id of the last message, if all text since it began is its own
        self._idle = idle
        self._extra = 0  # bytes of producers, leases and the digest, as last counted
        self.watcher: MessageWatcher | None = None
        self.publishing = 0  # publishing connections
        self.consumers = 0  # that follow it
        self.measure_at = 0.0  # monotonic seconds, set by its meters; a message's begin or end sets it to now
        self.counters = Counters()
        self.created_at = now
        self.last_active_at = now
        self.closed_at = 0.0
        self.closed_as: EndReason | None = None  # for producers
        self.end_reason: EndReason | None = None  # for consumers, once everything before is committed
        self.trimmed = 1  # floor of what the engine holds
        self._stored: ReadFrames | None = None  # reads what is stored and not in the log
        self._is_cleared = False
        self.staging: Staging | None = None  # where an engine has to commit events before they are in the log
        self._subscriptions: dict[Subscription, None] = {}
        self.blocking = Blocking(self.log)
        self._views: dict[tuple[Encoding, frozenset[EventType] | None], View] = {}

    @property
    def is_closed(self) -> bool:
        """Whether it no longer takes events."""
        return self.closed_as is not None

    @property
    def is_settled(self) -> bool:
        """Whether everything appended is committed."""
        return self.staging is None or self.staging.is_settled

    def restore(self, stored: StoredState, read: ReadFrames, now: float, lease: float) -> None:
        """Take over what an engine has stored before a restart. Events are read when somebody needs them.

        Args:
            stored: everything but the events.
            read: returns the frames of the events from one seq to another.
            now: monotonic seconds.
            lease: seconds that the producers of messages in progress have to return.
        """
        self.staging = Staging(stored.head)
        self.trimmed = stored.floor
        self._stored = read if stored.head >= stored.floor else None
        self.log.restore(stored.floor, stored.head)
        self.producers.restore(stored.producers)
        self.leases.restore(stored.messages, now + lease)
        self.closed_as = self.end_reason = stored.end_reason
        self.closed_at = now
        self._count_extra()

    def unload(self, read: ReadFrames) -> bool:
        """Drop the events from memory, until somebody needs them; `read` as for `restore`.

        Returns:
            Whether there were any to drop: not while the stream is in use, or events of it wait for the engine.
        """
        log = self.log
        if self._stored is not None or log.head < log.floor or not self.is_idle or not self.is_settled:
            return False
        log.unload()
        self._digest.begin(1)
        self._alone = None
        self._stored = read
        self._count_extra()
        return True

    def load(self, now: float) -> None:
        """Read the events that are stored and not in the log; once.

        Raises:
            DeltawireError: they can't be read.
        """
        if self._stored is None:
            return
        log = self.log
        frames = self._stored(log.floor, log.head)
        self._stored = None
        log.restore(log.floor, log.floor - 1)
        in_progress = 0
        for frame in frames:
            data = decode_event(frame[payload_start(frame) :])
            if isinstance(data, TextDelta):
                self._digest.add(data.choice, data.text)
            elif isinstance(data, MessageStart):
                self._digest.begin(log.head + 1)
                log.begin_message()
                in_progress += 1
                self._alone = hash(data.message_id) if in_progress == 1 else None
            elif isinstance(data, MessageStop):
                in_progress -= 1
            log.append(kind_of(data), frame, now)
        self._count_extra()
        self._enter_idle()

    @property
    def head(self) -> int:
        """Seq of the newest event, committed or not."""
        return self.log.head if self.staging is None else self.staging.head

    @property
    def is_idle(self) -> bool:
        """Whether nobody reads or writes it now."""
        return not self._subscriptions and not self.publishing

    @property
    def is_evictable(self) -> bool:
        """Whether it may go when memory is short: it is idle and open, or idle and stored."""
        return self.is_idle and (self.staging is not None or not self.is_closed)

    def append(self, data: Data, timestamp: str, now: float, writer: Writer | None = None) -> int:
        """Append an event; while `leases.waiting`, `resume` has to be called before.

        Args:
            data: of the event.
            timestamp: RFC 3339 with a zone.
            now: monotonic seconds.
            writer: of the connection it came from, if it came from one.

        Returns:
            Its seq.

        Raises:
            StreamError: closed.
        """
        if self.closed_as is not None:
            raise StreamError(ErrorKind.CLOSED, "send", self.id)
        log, staging = self.log, self.staging
        seq = (log.head if staging is None else staging.head) + 1
        assert seq <= MAX_SEQ, "2^53 events take three centuries at a million a second"
        self.last_active_at = now
        if isinstance(data, TextDelta):
            if self._digest.add(data.choice, data.text):
                self._count_extra()
        elif isinstance(data, MessageStart):
            self.measure_at = 0.0
            self._digest.begin(seq)
            if staging is None:
                log.begin_message()
            is_alone = self.leases.begin(data.message_id, writer)
            self._alone = hash(data.message_id) if is_alone else None  # a hash, as an id may be as long as a message
            self._count_extra()
            if self.watcher is not None:
                self.watcher.began(self, data, seq)
        elif isinstance(data, MessageStop):
            self.measure_at = 0.0
            self.leases.end(data.message_id, writer)
            self._count_extra()
            digest = self._digest.of(data.choice) if hash(data.message_id) == self._alone else UNSET
            data = replace(data, digest=digest)
            if self.watcher is not None:
                self.watcher.ended(self, data, seq)
        payload = encode_event(data, seq, timestamp)
        frame = header(TEXT, len(payload)) + payload
        return log.append(kind_of(data), frame, now) if staging is None else self._stage(data, frame, writer)

    def _stage(self, data: Data, frame: bytes, writer: Writer | None) -> int:
        assert self.staging is not None, "events are committed by an engine"
        before = self.staging.bytes
        if isinstance(data, MessageStart | MessageStop):
            self.staging.has_new_messages = True
        if writer is not None and not self.producers.is_latest(writer):
            writer = None  # a later connection goes on with its numbers: these must not be stored in their place
        seq = self.staging.add(kind_of(data), frame, writer)
        self.log.ledger.bytes += self.staging.bytes - before
        return seq

    def take_commit(self) -> Commit | None:
        """Return what is staged, for the engine; None if there is nothing."""
        if self.staging is None:
            return None
        return self.staging.take(self.id, self.epoch, self.leases.owners())

    def commit(self, commit: Commit, now: float) -> None:
        """Move a commit that the engine has into the log, where consumers read it."""
        assert self.staging is not None, "it was taken from there"
        log, before = self.log, self.staging.bytes
        self.staging.committed(commit)
        self.producers.committed(commit.producers)
        if commit.end_reason is not None:
            self.end_reason = commit.end_reason
        if self._is_cleared:
            return
        log.ledger.bytes += self.staging.bytes - before
        if self._stored is not None:  # to be read with the others: leases of many streams may end at once
            log.restore(log.floor, log.head + len(commit.frames))
            return
        for kind, frame in zip(commit.kinds, commit.frames, strict=True):
            if kind.type is EventType.MESSAGE_START:
                log.begin_message()
            log.append(kind, frame, now)
        self._enter_idle()

    def end_lost(self, timestamp: str, now: float, lease: float) -> list[str]:
        """End the messages whose producers were lost and did not come back in time.

        Args:
            timestamp: RFC 3339 with a zone.
            now: monotonic seconds.
            lease: seconds they had, for the message to readers.

        Returns:
            The ids of these messages.
        """
        if self.is_closed:
            return []
        lost = self.leases.expire(now)
        self._end_messages(lost, LOST.format(lease=lease), timestamp, now)
        return lost

    def resume(self, data: Data, writer: Writer, timestamp: str, now: float) -> None:
        """End the messages that a returned producer abandons with the event it is about to append.

        Args:
            data: of that event.
            writer: of its connection.
            timestamp: RFC 3339 with a zone, of the events that end these messages.
            now: monotonic seconds.
        """
        if not self.is_closed:
            self._end_messages(self.leases.resume(writer, data), ABANDONED, timestamp, now)

    def _end_messages(self, message_ids: list[str], why: str, timestamp: str, now: float) -> None:
        self._count_extra()
        for message_id in message_ids:
            self.append(Error(error=why, code="producer_lost"), timestamp, now)
            self.append(MessageStop(message_id=message_id, stop_reason="producer_lost"), timestamp, now)

    @property
    def bytes(self) -> int:
        """What it costs beyond the fixed cost of a stream: its log, its producers, and the messages in progress."""
        return self.log.bytes + self._extra

    def _count_extra(self) -> None:
        extra = self.producers.bytes + self.leases.bytes + self._digest.bytes
        self.log.ledger.bytes += extra - self._extra
        self._extra = extra

    def clear(self) -> None:
        """Drop the events of a closed stream that nobody can find, and stop counting the rest of it."""
        if self._stored is not None:
            self.log.restore(self.log.head + 1, self.log.head)
            self._stored = None
        self.log.clear()
        self._is_cleared = True
        if self.staging is not None:  # what waits for the engine comes in no log any more
            self.log.ledger.bytes -= self.staging.bytes
        self.log.ledger.bytes -= self._extra  # the rest still fences connections, and is freed with the last
        self._extra = 0

    def open_producer(self, producer_id: str | None, generation: int) -> Writer:
        """Let a producer publish; `producer_came` follows, and `producer_left` when its connection is gone.

        Args:
            producer_id: None for one without an id.
            generation: its generation.

        Returns:
            What its events are judged by, as `Producers.open`.

        Raises:
            WireError: `fenced`, a newer generation has connected before; `overloaded`, there are `max_producers`.
        """
        limit = self.settings.max_producers
        if self.publishing >= limit:
            raise _crowded(f"this stream has {limit} producers (max_producers)")
        is_newer = self.producers.is_newer(producer_id, generation)
        writer = self.producers.open(producer_id, generation)
        if is_newer and self.staging is not None:
            self.staging.remember(writer)
        self._count_extra()
        return writer

    def producer_came(self) -> None:
        """Record that a connection publishes from now on."""
        self.publishing += 1

    def producer_left(self, now: float) -> None:
        """Record that a connection that published is gone."""
        self.publishing -= 1
        self._left(now)

    def _left(self, now: float) -> None:
        self.last_active_at = now
        self._enter_idle()

    def _enter_idle(self) -> None:
        if self._idle is not None and self.is_evictable:
            self._idle.add(self)

    @property
    def has_room(self) -> bool:
        """Whether producers may continue: no `block` consumer's buffer is full, by events or by bytes."""
        if self.staging is not None and not self.staging.has_room:
            return False
        return not self.blocking.subscriptions or self.blocking.has_room(self.settings.buffer_bytes)

    def subscribe(self, request: SubscribeRequest, codec: Encoding = JSON, *, now: float) -> Subscription:
        """Attach a consumer.

        Args:
            request: its request; the stream's settings decide what it leaves open.
            codec: its encoding.
            now: monotonic seconds.

        Raises:
            WireError: `position_ahead`; `forbidden`, policy `block` where it is not allowed; `bad_request`, an
                interval where the policy folds nothing; `overloaded`, there are `max_consumers`.
        """
        self.load(now)
        limit = self.settings.max_consumers
        if self.consumers >= limit:
            raise _crowded(f"this stream has {limit} consumers (max_consumers)")
        policy = request.policy or self.settings.policy
        self.settings.check_policy(policy)
        if request.interval and policy is not Policy.COALESCE:
            raise WireError(
                ProblemCode.BAD_REQUEST, f"parameter 'interval': this stream's policy, {policy}, folds nothing"
            )
        readable_after = partial(self.log.readable_after, folded=policy is Policy.COALESCE)
        plan = plan_subscription(request, LogState(self.epoch, self.log.head, readable_after))
        key = (codec, request.types)
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = View(self.log, codec, request.types)
        subscription = Subscription(
            self,
            view,
            plan,
            policy=policy,
            buffer=request.buffer or self.settings.buffer,
            buffer_bytes=self.settings.buffer_bytes,
            interval=request.interval / 1000,
        )
        view.readers += 1
        self._subscriptions[subscription] = None
        self.consumers += 1
        if policy is Policy.BLOCK:
            self.blocking.add(subscription)
        self.last_active_at = now
        return subscription

    def unsubscribe(self, subscription: Subscription, now: float) -> None:
        """Detach a consumer; doing it twice changes nothing."""
        if subscription not in self._subscriptions:
            return
        del self._subscriptions[subscription]
        self.consumers -= 1
        self.blocking.remove(subscription)
        view = subscription.view
        view.readers -= 1
        if not view.readers:  # filters are the consumers' choice: a busy stream keeps only those in use
            del self._views[view.codec, view.types]
        self._left(now)

    def close(self, reason: EndReason, now: float) -> None:
        """End the stream; its events can still be read. Closing twice changes nothing."""
        if self.closed_as is None:
            self.closed_as = reason
            self.closed_at = now
            if self.staging is None:
                self.end_reason = reason
            else:
                self.staging.end(reason)

    def info(self, format_time: Callable[[float], str]) -> StreamInfo:
        """Describe the stream at this moment.

        Args:
            format_time: converts monotonic seconds to RFC 3339.
        """
        log = self.log
        return StreamInfo(
            id=self.id,
            epoch=self.epoch,
            head=log.head,
            floor=log.floor,
            events=log.head - log.floor + 1,
            bytes=log.bytes,
            consumers=self.consumers,
            producers=self.publishing,
            closed=self.is_closed,
            created_at=format_time(self.created_at),
            last_active_at=format_time(self.last_active_at),
            counters=replace(self.counters),
        )


def _crowded(what: str) -> WireError:
    return WireError(ProblemCode.OVERLOADED, f"{what}: try again later")
