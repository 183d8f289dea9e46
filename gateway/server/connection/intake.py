"""What a producer sends: validate, number, append (SPEC §7).

    message ──► judged, appended ──► acknowledged
                   │       ▲
      a turn's work│       │its turn comes,
           is done,│       │or there is room
      or no room   ▼       │
                 the rest waits

While something waits, nothing more is read. Messages of the same read wait behind it, in the connection.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from msgspec import UNSET, Raw

from deltawire.gateway.hub.fair_queue import FairQueue
from deltawire.gateway.hub.hub import Hub
from deltawire.gateway.server.accepting.rate import TokenBucket
from deltawire.gateway.server.connection.backlog import REFUSAL, SPLIT, STEP, UNIT, Backlog
from deltawire.gateway.server.connection.batch import Batch
from deltawire.gateway.server.connection.connection import GatewayConnection
from deltawire.gateway.server.connection.containment import contained
from deltawire.gateway.server.connection.sending import Hold
from deltawire.gateway.streams.producers import Writer
from deltawire.gateway.streams.publication import Publication
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.addresses import PublishRequest
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import StreamError, WireError, is_closed
from deltawire.protocol.events import Event, EventType
from deltawire.protocol.messages import CloseStream, Message, Ping, Pong, Token

_OBJECT = b"{"  # nearly every message begins with it, and no array: looking costs less than a call

_MESSAGE_STOP = EventType.MESSAGE_STOP  # looking up an enum member costs more than comparing it


class Intake(ABC):
    """Processes what one producer sends, a turn's work at a time."""

    __slots__ = (
        "_allowance",
        "_backlog",
        "_connection",
        "_hub",
        "_is_queued",
        "_max_message",
        "_publication",
        "_queue",
        "_rejects",
        "channel",
        "is_busy",
        "stream",
    )

    def __init__(  # noqa: PLR0913, PLR0917 - what a gateway knows of it
        self,
        hub: Hub,
        connection: GatewayConnection,
        stream: Stream,
        writer: Writer,
        request: PublishRequest,
        queue: FairQueue,
    ) -> None:
        self._hub = hub
        self._connection = connection
        self._publication = Publication(stream, writer)
        self._max_message = hub.settings.max_message
        self._rejects = request.on_full == "reject"
        self._queue = queue
        self._backlog = Backlog()
        self._is_queued = False  # in the fair queue
        self.is_busy = False  # something waits, and nothing behind it may be processed
        self._allowance: TokenBucket | None = None
        self.stream = stream
        self.channel = hub.dispatcher.attach(stream, self)

    @property
    def held_bytes(self) -> int:
        """Bytes, about, of what waits for room or for its turn."""
        return self._backlog.held_bytes

    def _begin_read(self) -> None:
        """Allow for what is processed before it looks for time: nothing if more urgent streams may have to wait."""
        self._backlog.left = STEP if self.channel.rank <= self._queue.presence.top else 0

    # Turns

    def receive(self, payload: bytes, *, is_text: bool) -> None:
        """Handle a message of the producer: an event, an array of them, `close_stream` or `token`."""
        connection, backlog = self._connection, self._backlog
        codec, size = connection.codec, len(payload)
        if (size > self._max_message or is_text is not codec.is_text) and not self._fits(payload, is_text=is_text):
            return
        backlog.left -= 1 + size // UNIT
        if backlog.left < 0 and not self._has_time():
            backlog.keep(payload)
            self._wait_for_turn()
        elif payload[:1] == _OBJECT or not codec.is_batch(payload):
            self._take(None, payload)
        else:
            self._begin_batch(payload)
            self._take_all()
        if connection.paused and not self.is_busy:
            self._wait_for_turn()

    def _fits(self, payload: bytes, *, is_text: bool) -> bool:
        """Whether a message has the right size and kind of frame; report it otherwise."""
        try:
            self._connection.check_frame(payload, ProblemCode.INVALID_EVENT, is_text=is_text, limit=self._max_message)
        except WireError as error:
            self._report(error)
            return False
        return True

    def _report(self, error: WireError) -> None:
        self._backlog.left -= REFUSAL
        self._connection.report(error.code, error.message)

    def _begin_batch(self, payload: bytes) -> None:
        """Split a batch into its items; the flood guard has counted the first one as a message."""
        try:
            items = self._connection.codec.split_batch(payload)
        except WireError as error:
            self._report(error)
            return
        if len(items) > 1 and (why := self._connection.judge_events(len(items) - 1)):
            self.end(ProblemCode.RATE_LIMITED, why)
            return
        self._backlog.left -= len(items) // SPLIT
        self._backlog.begin_batch(Batch(items, len(payload)))

    def _take_all(self) -> None:
        """Process what was received, until all is done or something has to wait."""
        backlog, connection = self._backlog, self._connection
        if (kept := backlog.take_kept()) is not None and not self._take_kept(*kept):
            return
        while backlog.has_items and not connection.is_finished:
            if (backlog.left <= 0 and not self._has_time()) or connection.paused:
                self._wait_for_turn()
                return
            if not self._take(*backlog.take_item()):
                return
        if untold := backlog.end_batch():
            connection.report(ProblemCode.INVALID_EVENT, f"{untold} more items of this batch are refused")
        self.is_busy = False

    def _take_kept(self, place: int | None, item: bytes | Event) -> bool:
        """Process what was kept; return False if it has to wait for room."""
        if isinstance(item, bytes) and self._connection.codec.is_batch(item):
            self._begin_batch(item)
            return True
        return self._take(place, item)

    def _has_time(self) -> bool:
        """Whether another step's work may be done in this turn."""
        if not self._queue.has_time(self.channel.rank):
            return False
        self._backlog.left = STEP
        return True

    def _wait_for_turn(self) -> None:
        """Continue after others had their turn; nothing further is processed meanwhile."""
        self._hold()
        if not self._is_queued:
            self._is_queued = True
            self._queue.enter(self._take_turn, self.channel.rank)

    def _hold(self) -> None:
        """Process nothing further, and read nothing, until `_go_on`; what waits is counted."""
        self.is_busy = True
        self._connection.hold_reading(Hold.BUSY)
        self._connection.count(self._connection.held_bytes)

    @contained
    def _take_turn(self) -> None:
        self._is_queued = False
        if self._connection.paused or not self.is_busy:
            return  # either its peer reads no answers, and `resume` continues; or it has ended meanwhile
        self._backlog.left = STEP
        self._go_on()

    @contained
    def on_room(self) -> None:
        """Continue, as there is room again."""
        self._backlog.left = STEP
        self._go_on()

    def _go_on(self) -> None:
        """Process what is left and what came behind it, until something has to wait again."""
        self._take_all()
        self._connection.receive_deferred()
        self.received()
        if not self.is_busy:
            self._connection.release_reading(Hold.BUSY)
            self._connection.count(self._connection.held_bytes)

    def _forget(self) -> None:
        """Drop what was received but not processed."""
        self._backlog.clear()
        self.is_busy = False

    # One item

    def _take(self, place: int | None, item: bytes | Raw | Event) -> bool:
        """Process one item; return False if it has to wait for room, which keeps it."""
        try:
            message = item if isinstance(item, Event) else self._connection.codec.decode_from_producer(item)
            if not isinstance(message, Event):
                if isinstance(message, CloseStream) and isinstance(item, bytes) and self._waits_for_middleware():
                    self._backlog.keep(item)  # its end would have all that work done in this turn
                    return False
                self._control(message, place)
            elif message.producer_seq is not UNSET and self._publication.is_repeat(message.producer_seq):
                pass
            elif self.stream.has_room or self._has_room():
                return self._append(message)
            else:
                self._backlog.wait_for_room(place, message)
                self._hold()
                self.channel.wait_for_room(self)
                return False
        except WireError as error:
            self._refuse(place, item, error)
        return True

    def _refuse(self, place: int | None, item: bytes | Raw | Event, error: WireError) -> None:
        """Report the error of an item, unless too many of its batch were reported already."""
        if error.code is ProblemCode.FENCED:
            self.end(error.code, error.message)
            return
        connection, backlog = self._connection, self._backlog
        if place is not None and not backlog.refused():
            return
        if why := connection.judge_events(REFUSAL):
            self.end(ProblemCode.RATE_LIMITED, why)
            return
        backlog.left -= REFUSAL
        number = item.producer_seq if isinstance(item, Event) else connection.codec.producer_seq_of(item)
        expected = self._publication.writer.expected if error.code is ProblemCode.SEQUENCE_GAP else UNSET
        where = "" if place is None else f"[{place}] "
        connection.report(error.code, where + error.message, producer_seq=number, expected=expected)

    def _control(self, message: Message, place: int | None) -> None:
        if place is not None:
            raise _invalid("`close_stream`, `token` and `ping` stand alone, not in a batch")
        if isinstance(message, CloseStream):
            self.close_stream()
            return
        rate = self._hub.settings.signal_rate
        if self._allowance is None:  # made late, as few producers ever send a token
            self._allowance = TokenBucket(rate, burst=max(2 * rate, 1), now=self._hub.now())
        if not self._allowance.take(self._hub.now()):
            self.end(ProblemCode.RATE_LIMITED, f"more than {rate:g} tokens or pings a second (signal_rate): send fewer")
        elif isinstance(message, Token):
            self._connection.renew(message.token)
        elif isinstance(message, Ping):
            self._connection.tell(Pong(id=message.id))

    def _has_room(self) -> bool:
        """Whether an event can be appended or refused now; called when a `block` consumer's buffer is full."""
        has_room = self.stream.is_closed or self.channel.make_room()
        if not has_room and self._rejects and not self.stream.is_recovering:
            raise WireError(ProblemCode.STREAM_FULL, self.stream.full_because)
        return has_room

    def _append(self, event: Event) -> bool:
        """Append an event; return False if the next one has to wait until middleware is done with it."""
        timestamp = None if event.timestamp is UNSET else event.timestamp.isoformat().replace("+00:00", "Z")
        try:
            seq = self._hub.dispatcher.append(
                self.stream, event.data, timestamp, self._publication.writer, event.urgent is True
            )
        except StreamError as error:
            if is_closed(error):
                self.refuse_closed()
            else:
                self.end(ProblemCode.OVERLOADED, error.detail)
            return True
        publication = self._publication
        publication.appended += 1
        if seq is None:
            publication.hold(event.producer_seq)
            return not self._waits_for_middleware()
        if event.data.type is _MESSAGE_STOP:
            publication.is_urgent = True
        publication.accepted(event.producer_seq, seq)
        return True

    def _waits_for_middleware(self) -> bool:
        """Wait, if middleware has work with an event that it was given; return whether it has."""
        if not self.stream.blocking.is_held:
            return False
        self._backlog.waits_for_room = True
        self._hold()
        self.channel.wait_for_room(self)
        return True

    def released(self, writer: Writer, seq: int, why: str) -> bool:
        """Acknowledge its oldest event that was held back, or say why it was dropped, if its writer is its own."""
        if writer is not self._publication.writer:
            return False
        number = self._publication.released(seq)
        if why:
            self._connection.report(ProblemCode.EVENT_DROPPED, why, producer_seq=number)
        return True

    # What follows

    @abstractmethod
    def received(self) -> None:
        """Deliver and acknowledge what was appended."""

    @abstractmethod
    def close_stream(self) -> None:
        """Close the stream, as its producer asks for."""

    @abstractmethod
    def refuse_closed(self) -> None:
        """End the connection, as the stream is closed."""

    @abstractmethod
    def end(self, code: ProblemCode, why: str) -> None:
        """End the connection."""

    @abstractmethod
    def fail(self) -> None:
        """End the connection after an exception in the gateway."""


def _invalid(message: str) -> WireError:
    return WireError(ProblemCode.INVALID_EVENT, message)
