"""A producer's connection: validate, number, append, acknowledge (SPEC §7).

    message ──► judged, appended ──► acknowledged
                   │       ▲
      a turn's work│       │its turn comes,
           is done,│       │or there is room
      or no room   ▼       │
                 the rest waits

While something waits, nothing more is read. Messages of the same read wait behind it, in the connection.
"""

from __future__ import annotations

from msgspec import UNSET, Raw

from deltawire.gateway.access import Action, Grant
from deltawire.gateway.hub.fair_queue import FairQueue
from deltawire.gateway.hub.hub import Hub
from deltawire.gateway.server.accepting.rate import TokenBucket
from deltawire.gateway.server.connection.batch import Batch
from deltawire.gateway.server.connection.connection import GatewayConnection
from deltawire.gateway.server.connection.containment import contained
from deltawire.gateway.server.connection.sending import Hold
from deltawire.gateway.streams.producers import Writer
from deltawire.gateway.streams.publication import Publication
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.addresses import OnFull, PublishRequest
from deltawire.protocol.codes import CloseCode, ProblemCode
from deltawire.protocol.errors import StreamError, WireError, is_closed
from deltawire.protocol.events import Event, EventType
from deltawire.protocol.messages import Ack, Audience, CloseStream, Message, Ping, Pong, Ready, Signal, Token

EVENT_COST = 256
"""Bytes, about, that an event costs while it waits for room: events are short, and at most one per producer waits."""

TURN = 256
"""Events processed from one producer in a row, 2 ms of work: further ones wait until others had their turn."""

REFUSAL = 8
"""Events that a refused one counts for: finding and reporting its error takes as long."""

_MESSAGE_STOP = EventType.MESSAGE_STOP  # looking up an enum member costs more than comparing it


class Producer:
    """One producer on a WebSocket."""

    __slots__ = (
        "_allowance",
        "_batch",
        "_connection",
        "_hub",
        "_is_queued",
        "_left",
        "_max_message",
        "_on_full",
        "_publication",
        "_queue",
        "_waiting",
        "audience",
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
        self._on_full: OnFull = request.on_full
        self._queue = queue
        self._left = TURN  # events that may still be processed in this turn
        self._batch: Batch | None = None  # items not processed yet
        self._waiting: tuple[int | None, Event] | None = None  # event waiting for room, and its index in its batch
        self._is_queued = False  # in the fair queue
        self.is_busy = False  # something waits, and nothing behind it may be processed
        self._allowance: TokenBucket | None = None
        self.audience = 0  # consumers, as last told
        self.stream = stream
        self.channel = hub.dispatcher.attach(stream, self)

    @property
    def held_bytes(self) -> int:
        """Bytes, about, of what waits for room or for its turn."""
        held = 0 if self._batch is None else self._batch.held_bytes
        return held if self._waiting is None else held + EVENT_COST

    def start(self) -> None:
        """Fence older generations, and begin; once what the producer continues after is committed."""
        stream = self.stream
        self._connection.record.log.info(
            "producer.connected",
            producer=self._publication.writer.id,
            generation=self._publication.writer.generation,
            agent=self._connection.agent,
        )
        stream.producer_came()
        stream.leases.returned(self._publication.writer)
        for inlet in tuple(self.channel.inlets):
            inlet.fence_if_older()
        if stream.staging is None or stream.producers.is_committed(self._publication.writer):
            self._begin()
        else:  # `ready` names the last event accepted: it must not be lost any more
            self.is_busy = True
            self._connection.hold_reading(Hold.BUSY)
            self._hub.dispatcher.when_committed(self.channel, self._begin_late)

    @contained
    def _begin_late(self) -> None:
        if self._connection.is_finished:
            return
        self.stream.leases.returned(self._publication.writer)  # an older connection may have ended meanwhile
        self._begin()
        self.fence_if_older()
        self._go_on()

    def _begin(self) -> None:
        """Send `ready`, and begin to receive."""
        stream = self.stream
        self.channel.add_inlet(self)
        self._hub.dispatcher.touch(self.channel)
        self._connection.tell(
            Ready(
                stream=stream.id,
                epoch=stream.epoch,
                head=stream.log.head,
                generation=self._publication.writer.generation,
                producer_seq=self._publication.writer.last,
            )
        )
        if stream.is_closed:
            self._refuse_closed()

    @contained
    def fence_if_older(self) -> None:
        """End this connection if a newer generation of its producer id has come."""
        if not self.stream.producers.is_current(self._publication.writer):
            self.end(
                ProblemCode.FENCED, f"a newer generation of producer {self._publication.writer.id!r} publishes now"
            )

    # Receiving

    def receive(self, payload: bytes, *, is_text: bool) -> None:
        """Handle a message of the producer: an event, an array of them, `close_stream` or `token`."""
        connection = self._connection
        codec = connection.codec
        try:
            if len(payload) > self._max_message or is_text is not codec.is_text:
                connection.check_frame(payload, ProblemCode.INVALID_EVENT, is_text=is_text, limit=self._max_message)
            if not codec.is_batch(payload):
                self._take(None, payload)
            else:
                self._begin_batch(Batch(codec.split_batch(payload), len(payload)))
        except WireError as error:
            self._left -= REFUSAL
            connection.report(error.code, error.message)
        if (self._left <= 0 or connection.paused) and not self.is_busy:
            self._wait_for_turn()

    def _begin_batch(self, batch: Batch) -> None:
        """Process as much of a batch as a turn allows; the flood guard has counted its first item as a message."""
        if len(batch) > 1 and (why := self._connection.judge_events(len(batch) - 1)):
            self.end(ProblemCode.RATE_LIMITED, why)
            return
        self._batch = batch
        self._take_all()

    def _take_all(self) -> None:
        """Process what was received, until all is done or something has to wait."""
        if self._waiting is not None:
            (place, event), self._waiting = self._waiting, None
            if not self._take(place, event):
                return
        while self._batch and not self._connection.is_finished:
            if self._left <= 0 or self._connection.paused:
                self._wait_for_turn()
                return
            place, item = self._batch.take()
            if not self._take(place, item):
                return
        if self._batch is not None and (untold := self._batch.untold):
            self._connection.report(ProblemCode.INVALID_EVENT, f"{untold} more items of this batch are refused")
        self._batch = None
        self.is_busy = False

    def _wait_for_turn(self) -> None:
        """Continue after others had their turn; nothing further is processed meanwhile."""
        self.is_busy = True
        self._connection.hold_reading(Hold.BUSY)
        if not self._is_queued:
            self._is_queued = True
            self._queue.enter(self._take_turn)

    @contained
    def _take_turn(self) -> None:
        self._is_queued = False
        if self._connection.paused or not self.is_busy:
            return  # either its peer reads no answers, and `resume` continues; or it has ended meanwhile
        self._left = TURN
        self._go_on()

    def _go_on(self) -> None:
        """Process what is left and what came behind it, until something has to wait again."""
        self._take_all()
        self._connection.receive_deferred()
        self.received()
        if not self.is_busy:
            self._connection.release_reading(Hold.BUSY)

    def _take(self, place: int | None, item: bytes | Raw | Event) -> bool:
        """Process one item; return False if it has to wait, which keeps it."""
        self._left -= 1
        try:
            message = item if isinstance(item, Event) else self._connection.codec.decode_from_producer(item)
            if not isinstance(message, Event):
                self._control(message, place)
            elif message.producer_seq is not UNSET and self._publication.is_repeat(message.producer_seq):
                pass
            elif self.stream.has_room or self._has_room():
                self._append(message)
            else:
                self._wait(place, message)
                return False
        except WireError as error:
            self._refuse(place, item, error)
        return True

    def _refuse(self, place: int | None, item: bytes | Raw | Event, error: WireError) -> None:
        """Report the error of an item, unless too many of its batch were reported already."""
        if error.code is ProblemCode.FENCED:
            self.end(error.code, error.message)
            return
        connection = self._connection
        if place is not None and self._batch is not None and not self._batch.refused():
            return
        if why := connection.judge_events(REFUSAL):
            self.end(ProblemCode.RATE_LIMITED, why)
            return
        self._left -= REFUSAL
        number = item.producer_seq if isinstance(item, Event) else connection.codec.producer_seq_of(item)
        expected = self._publication.writer.last + 1 if error.code is ProblemCode.SEQUENCE_GAP else UNSET
        where = "" if place is None else f"[{place}] "
        connection.report(error.code, where + error.message, producer_seq=number, expected=expected)

    def _control(self, message: Message, place: int | None) -> None:
        if place is not None:
            raise _invalid("`close_stream`, `token` and `ping` stand alone, not in a batch")
        if isinstance(message, CloseStream):
            self._close_stream()
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

    def forbidden_by(self, grant: Grant) -> str:
        """Which of its uses a grant does not allow: to publish; empty if it does."""
        return "" if grant.may(Action.PUBLISH, self.stream.id) else "to publish to this stream"

    def _has_room(self) -> bool:
        """Whether an event can be appended or refused now; called when a `block` consumer's buffer is full."""
        has_room = self.stream.is_closed or self.channel.make_room()
        if not has_room and self._on_full == "reject" and not self.stream.is_recovering:
            raise WireError(ProblemCode.STREAM_FULL, self.stream.full_because)
        return has_room

    def _wait(self, place: int | None, event: Event) -> None:
        self._waiting = (place, event)
        self.is_busy = True
        self._connection.hold_reading(Hold.BUSY)
        self.channel.wait_for_room(self)

    def _append(self, event: Event) -> None:
        timestamp = None if event.timestamp is UNSET else event.timestamp.isoformat().replace("+00:00", "Z")
        try:
            seq = self._hub.dispatcher.append(self.stream, event.data, timestamp, self._publication.writer)
        except StreamError as error:
            if is_closed(error):
                self._refuse_closed()
            else:
                self.end(ProblemCode.OVERLOADED, error.detail)
            return
        publication = self._publication
        publication.appended += 1
        if event.data.type is _MESSAGE_STOP:
            publication.is_urgent = True
        publication.accepted(event.producer_seq, seq)

    def _close_stream(self) -> None:
        if self.stream.is_closed:
            self._refuse_closed()
            return
        self._hub.end(self.stream)
        self._hub.dispatcher.when_committed(self.channel, self._finish)

    @contained
    def _finish(self) -> None:
        """Close, as the stream has ended."""
        self.answer_rest()
        self._connection.finish(CloseCode.STREAM_ENDED, "stream ended")

    def received(self) -> None:
        """Deliver the events appended from one read, and acknowledge them now or a little later."""
        if not self.is_busy:
            self._left = TURN
        publication = self._publication
        if not publication.unacked:
            return
        if self.is_busy and self._waiting is None:
            self._hub.dispatcher.deliver(self.channel)
            return  # one ack covers everything from this read
        if publication.is_ack_due(self._connection.last_heard):
            self.channel.acknowledge_later(self)
        else:
            self._hub.dispatcher.acknowledge_late(self)
        self._hub.dispatcher.deliver(self.channel)

    @contained
    def answer_rest(self) -> None:
        """Acknowledge what was appended, before the connection ends; it is delivered in this turn."""
        if self.stream.is_settled and (self.channel.forget_ack(self) or self._publication.owes_ack):
            self.acknowledge()
            self._hub.dispatcher.touch(self.channel)

    # The channel's side

    @contained
    def on_room(self) -> None:
        """Continue, as there is room again."""
        self._left = TURN
        self._go_on()

    @contained
    def acknowledge(self) -> None:
        """Tell the producer what was appended so far."""
        self._hub.tally.acks += 1
        self._connection.tell(self._publication.take_ack())

    def take_ack(self) -> Ack:
        """Return the ack of everything accepted so far, to be sent when it is committed."""
        return self._publication.take_ack()

    @contained
    def send_ack(self, ack: Ack) -> None:
        """Tell the producer what is committed."""
        self._hub.tally.acks += 1
        self._connection.tell(ack)

    def signal(self, signal: Signal) -> bool:
        """Pass a consumer's signal on, ahead of whatever waits here; not to a producer that reads nothing."""
        if self._connection.paused or self._connection.is_finished:
            return False
        try:
            self._connection.tell(signal)
        except Exception:  # noqa: BLE001 - not the fault of the consumer that signals
            self.fail()
            return False
        self._hub.tally.signals += 1
        return True

    def acknowledge_if_due(self, now: float) -> bool:
        """Send a withheld ack that has waited long enough; return whether none is left to send."""
        pacer = self._publication.pacer
        if pacer.is_withholding and pacer.is_due(now):
            self.acknowledge()
        return not pacer.is_withholding

    @contained
    def tell_audience(self, consumers: int) -> None:
        """Tell the producer how many consumers follow."""
        self.audience = consumers
        self._connection.tell(Audience(consumers=consumers))

    @property
    def producer_id(self) -> str | None:
        """Its producer id, if it has one."""
        return self._publication.writer.id

    # The end

    @contained
    def drain(self) -> None:
        """Close with 1001: acknowledged events stay; the producer sends the rest elsewhere."""
        self.channel.flush()  # waiting events may have room by now
        self.end(ProblemCode.SHUTTING_DOWN, "the gateway is shutting down: reconnect and go on")

    def _refuse_closed(self) -> None:
        self.end(ProblemCode.STREAM_CLOSED, f"stream {self.stream.id!r} is closed; it takes no more events")

    def end(self, code: ProblemCode, why: str) -> None:
        """Tell the producer why, and close; events that wait for room were never acknowledged."""
        self._forget()
        self.answer_rest()
        self.channel.remove_inlet(self)
        self._connection.close_with_problem(code, why)
        self._connection.receive_deferred()  # the peer's close may be among it

    def _forget(self) -> None:
        """Drop what was received but not processed."""
        self._batch = self._waiting = None
        self.is_busy = False

    def fail(self) -> None:
        """Record the unexpected exception being handled, and end the connection."""
        self._connection.fail()

    def account(self) -> dict[str, int]:
        """How much it published."""
        return {"events": self._publication.appended}

    def on_finished(self) -> None:
        """Do nothing; `on_lost` does the rest."""

    def pause(self) -> None:
        """Begin to check `send_timeout`: the producer reads no acks, and the connection reads no events of it."""
        self._hub.deadlines.add(self)

    def resume(self) -> None:
        """Continue with the rest of a batch, as the producer reads again."""
        self._hub.deadlines.remove(self)
        if self.is_busy and self._waiting is None:
            self._wait_for_turn()

    @contained
    def sweep(self, now: float) -> None:
        """Abort the connection of a producer that doesn't read."""
        send_timeout = self._hub.settings.send_timeout
        if self._connection.stalled_for(now) >= send_timeout:
            self._connection.abort(f"read none of its acks for send_timeout ({send_timeout:g} s)")

    def on_lost(self) -> None:
        """Leave the stream, as the connection is gone; events not appended were never acknowledged."""
        self._hub.deadlines.remove(self)
        self._forget()
        self.stream.producer_left(self._hub.now())
        self.channel.remove_inlet(self)
        writer = self._publication.writer
        if writer.id is None or all(inlet.producer_id != writer.id for inlet in self.channel.inlets):
            self._hub.dispatcher.lease(self.channel, writer)
        self._hub.dispatcher.detach(self.channel, self)


def _invalid(message: str) -> WireError:
    return WireError(ProblemCode.INVALID_EVENT, message)
