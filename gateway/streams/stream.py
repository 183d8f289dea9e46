"""A stream: one log, the subscriptions that read it, and the producers that write it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from deltawire.gateway.streams.blocking import Blocking
from deltawire.gateway.streams.callbacks import MessageWatcher, Screen
from deltawire.gateway.streams.coalesce import Kind, kind_of
from deltawire.gateway.streams.cursor import Fork, LogState, plan_subscription
from deltawire.gateway.streams.eviction import IdleStreams
from deltawire.gateway.streams.info import Counters
from deltawire.gateway.streams.latest import LatestMessage
from deltawire.gateway.streams.leases import Leases
from deltawire.gateway.streams.log import Ledger, Log, Retention
from deltawire.gateway.streams.producers import Producers, Writer
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.staging import Staging
from deltawire.gateway.streams.subscription import Subscription
from deltawire.gateway.streams.view import View
from deltawire.protocol.addresses import SubscribeRequest
from deltawire.protocol.codec import JSON, Encoding, encode_event
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import ErrorKind, StreamError, WireError
from deltawire.protocol.events import (
    DELTA_TYPES,
    MAX_SEQ,
    ContentEnd,
    ContentStart,
    Data,
    MessageStart,
    MessageStop,
    TextDelta,
    Thinking,
    ToolDelta,
)
from deltawire.protocol.filters import Filter
from deltawire.protocol.framing import TEXT, header
from deltawire.protocol.messages import EndReason, Policy


class Stream:
    """One stream in one epoch, in memory.

    Args:
        stream_id: its id.
        epoch: of its log.
        settings: its settings.
        now: monotonic seconds.
        ledger: counts its bytes together with those of other streams.
        idle: where it adds itself when its last user has gone.
        held: what its log holds; None for all that it retains.
    """

    __slots__ = (
        "_extra",
        "_filters",
        "_idle",
        "_latest",
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
        "lineage",
        "log",
        "measure_at",
        "producers",
        "publishing",
        "screen",
        "settings",
        "staging",
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
        held: Retention | None = None,
    ) -> None:
        self.id = stream_id
        self.epoch = epoch
        self.lineage: Sequence[Fork] = ()  # the epochs that it continues
        self.settings = settings
        self.log = Log(held or settings.retention, ledger)
        self.producers = Producers()
        self.leases = Leases()
        self._latest = LatestMessage()
        self._idle = idle
        self._filters = 0  # bytes of its consumers' filters
        self._extra = 0  # bytes of producers, leases, the latest message and filters, as last counted
        self.watcher: MessageWatcher | None = None
        self.screen: Screen | None = None
        self.publishing = 0  # publishing connections
        self.consumers = 0  # that follow it
        self.measure_at = 0.0  # monotonic seconds, set by its meters; a message's begin or end sets it to now
        self.counters = Counters()
        self.created_at = now
        self.last_active_at = now
        self.closed_at = 0.0
        self.closed_as: EndReason | None = None  # for producers
        self.end_reason: EndReason | None = None  # for consumers, once everything before is committed
        self.staging: Staging | None = None  # where an engine has to commit events before they are in the log
        self._subscriptions: dict[Subscription, None] = {}
        self.blocking = Blocking(self.log)
        self._views: dict[tuple[Encoding, Filter | None], View] = {}

    @property
    def is_closed(self) -> bool:
        """Whether it no longer takes events."""
        return self.closed_as is not None

    @property
    def is_settled(self) -> bool:
        """Whether everything appended is committed."""
        return True

    @property
    def is_aging(self) -> bool:
        """Whether its events expire."""
        return self.settings.retention.age > 0

    @property
    def floor(self) -> int:
        """Seq of the oldest event that can be read."""
        return self.log.floor

    @property
    def audience(self) -> int:
        """How many consumers follow it, wherever they are."""
        return self.consumers

    def readable_after(self, cursor: int, *, folded: bool) -> int:
        """As `Log.readable_after`, of all that can be read."""
        return self.log.readable_after(cursor, folded=folded)

    def is_stored(self, seq: int) -> bool:  # noqa: ARG002 - others know
        """Whether an event that the log has dropped can be read from a page."""
        return False

    def page_with(self, seq: int) -> Log | None:
        """Return the page with an event that `is_stored`; None if it is being read."""
        raise NotImplementedError

    @property
    def is_recovering(self) -> bool:
        """Whether producers have to wait, for a moment, for the gateway itself: middleware has work."""
        return self.blocking.is_held

    def recover(self) -> None:
        """Begin to read what producers have to wait for, if there is anything."""

    @property
    def full_because(self) -> str:
        """Why there is no room, for a producer that does not want to wait."""
        return "a consumer of policy 'block' is not keeping up: try again"

    def unload(self) -> bool:
        """Drop the events from memory, if they are stored; whether there were any to drop."""
        return False

    def shrink(self) -> bool:
        """Drop from memory what is stored and no policy needs; whether there was anything to drop."""
        return False

    def trim_by_age(self, now: float) -> bool:
        """Drop events older than the retention's age; whether something has to be deleted elsewhere too."""
        self.log.trim_by_age(now)
        return False

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

    def append(
        self,
        data: Data,
        timestamp: str,
        now: float,
        writer: Writer | None = None,
        is_urgent: bool = False,  # noqa: FBT001, FBT002 - a keyword costs more, for each event
    ) -> int:
        """Append an event, whatever the `screen`; while `leases.waiting`, `end_abandoned` has to be called before.

        Args:
            data: of the event.
            timestamp: RFC 3339 with a zone.
            now: monotonic seconds.
            writer: of the connection it came from, if it came from one.
            is_urgent: whether its producer marked it as urgent.

        Returns:
            Its seq.

        Raises:
            StreamError: closed.
        """
        if self.closed_as is not None:
            raise StreamError(ErrorKind.CLOSED, "send", self.id)
        log, staging, latest = self.log, self.staging, self._latest
        seq = (log.head if staging is None else staging.head) + 1
        assert seq <= MAX_SEQ, "2^53 events take three centuries at a million a second"
        self.last_active_at = now
        if isinstance(data, TextDelta):
            if latest.digest.add(data.choice, data.text):
                self._count_extra()
        elif data.type not in DELTA_TYPES:
            data = self._follow(data, seq, writer)
        if latest.blocks.has_special and isinstance(data, (TextDelta, Thinking, ToolDelta)):
            data = latest.blocks.name(data)
        payload = encode_event(data, seq, timestamp, is_urgent)
        frame = header(TEXT, len(payload)) + payload
        kind = kind_of(data, is_urgent)
        return log.append(kind, frame, now) if staging is None else self._stage(data, kind, frame, writer)

    def _follow(self, data: Data, seq: int, writer: Writer | None) -> Data:
        """Record that a message or a block begins or ends; return the data with what the gateway adds to it."""
        match data:
            case MessageStart():
                self._begin(data, seq, writer)
            case MessageStop():
                return self._complete(data, seq, writer)
            case ContentStart() | ContentEnd():
                data = self._latest.blocks.follow(data)
                self._count_extra()
        return data

    def _begin(self, start: MessageStart, seq: int, writer: Writer | None) -> None:
        """Record that a message begins."""
        self.measure_at = 0.0
        if self.staging is None:
            self.log.begin_message()
        self._latest.begin(start, seq, is_sole=self.leases.begin(start.message_id, writer))
        self._count_extra()
        if self.watcher is not None:
            self.watcher.began(self, start, seq)

    def _complete(self, stop: MessageStop, seq: int, writer: Writer | None) -> MessageStop:
        """Record that a message ends; return its stop with the digest."""
        self.measure_at = 0.0
        self.leases.end(stop.message_id, writer)
        self._count_extra()
        stop = self._latest.end(stop)
        if self.watcher is not None:
            self.watcher.ended(self, stop, seq)
        return stop

    def _stage(self, data: Data, kind: Kind, frame: bytes, writer: Writer | None) -> int:
        """Keep an event until an engine has it; returns its seq."""
        raise NotImplementedError

    def pass_over(self, writer: Writer | None) -> None:
        """Record that an event counts as accepted, though nothing of it was appended."""

    @property
    def bytes(self) -> int:
        """What it costs beyond the fixed cost of a stream: its log, its producers, and the messages in progress."""
        return self.log.bytes + self._extra

    @property
    def stored_bytes(self) -> int:
        """What its stored events cost."""
        return 0

    def recount(self) -> None:
        """Count it again, as its leases or its `screen` hold more or less."""
        self._count_extra()

    def _count_extra(self) -> None:
        extra = self.producers.bytes + self.leases.bytes + self._latest.bytes + self._filters
        if self.screen is not None:
            extra += self.screen.bytes
        self.log.ledger.bytes += extra - self._extra
        self._extra = extra

    def clear(self) -> None:
        """Drop the events of a closed stream that nobody can find, and stop counting the rest of it."""
        self.log.clear()
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
        writer = self.producers.open(producer_id, generation)
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
        """Whether producers may continue: no `block` consumer's buffer is full, and middleware has no work."""
        return self.blocking.is_free or self.blocking.has_room(self.settings.buffer_bytes)

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
        limit = self.settings.max_consumers
        if self.audience >= limit:
            raise _crowded(f"this stream has {limit} consumers (max_consumers)")
        policy = request.policy or self.settings.policy
        self.settings.check_policy(policy, request.interval)
        readable_after = partial(self.readable_after, folded=policy is Policy.COALESCE)
        plan = plan_subscription(request, LogState(self.epoch, self.log.head, readable_after, self.lineage))
        key = (codec, request.filter)
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = View(self.log, *key)
            if view.wanted is not None:
                self._filters += view.wanted.bytes
                self._count_extra()
        subscription = Subscription(
            self,
            view,
            plan,
            policy=policy,
            buffer=request.buffer or self.settings.buffer,
            buffer_bytes=self.settings.buffer_bytes,
            interval=request.interval / 1000,
            urgent=request.urgent,
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
            del self._views[view.codec, view.wanted]
            if view.wanted is not None:
                self._filters -= view.wanted.bytes
                if self._extra:  # else its cost is no longer counted
                    self._count_extra()
        self._left(now)

    def close(self, reason: EndReason, now: float) -> None:
        """End the stream; its events can still be read. Closing twice changes nothing."""
        if self.closed_as is None:
            if self.screen is not None:
                self.screen.finish(now)
            self.closed_as = reason
            self.closed_at = now
            if self.staging is None:
                self.end_reason = reason
            else:
                self.staging.end(reason)


def _crowded(what: str) -> WireError:
    return WireError(ProblemCode.OVERLOADED, f"{what}: try again later")
