"""A producer's connection: validate, number, append, acknowledge (SPEC §7)."""

from __future__ import annotations

from collections import deque

from msgspec import UNSET, Raw, UnsetType

from gateway.access import Action, Grant
from gateway.hub.hub import Hub
from gateway.server.connection import GatewayConnection
from gateway.server.containment import contained
from gateway.server.rate import TokenBucket
from gateway.server.sending import Hold
from gateway.streams.acking import AckPacer
from gateway.streams.producers import Pen, Verdict
from gateway.streams.stream import Stream
from protocol.addresses import OnFull, PublishRequest
from protocol.codes import CloseCode, ProblemCode
from protocol.errors import StreamError, WireError, is_closed
from protocol.events import Event, EventType
from protocol.messages import Ack, Audience, Message, Ready, Signal, Token

ITEM_COST = 256
"""Bytes an event that waits for room costs, about: they are short, and seldom wait."""

_MESSAGE_STOP = EventType.MESSAGE_STOP  # looking a member up costs more than comparing it


class Producer:
    """One producer on a WebSocket."""

    __slots__ = (
        "_allowance",
        "_appended",
        "_connection",
        "_hub",
        "_is_ack_urgent",
        "_items",
        "_max_message",
        "_numbered",
        "_on_full",
        "_pacer",
        "_pen",
        "_seq",
        "_unsettled",
        "audience",
        "channel",
        "stream",
    )

    def __init__(
        self, hub: Hub, connection: GatewayConnection, stream: Stream, pen: Pen, request: PublishRequest
    ) -> None:
        self._hub = hub
        self._connection = connection
        self._pen = pen
        self._max_message = hub.settings.max_message
        self._on_full: OnFull = request.on_full
        self._items: deque[tuple[str, bytes | Raw | Event]] = deque()  # (place in its batch, …) yet to be appended
        self._allowance: TokenBucket | None = None
        self._unsettled = 0  # events accepted in this read
        self._pacer = AckPacer()
        self._is_ack_urgent = False
        self._appended = 0  # events, from this connection
        self._seq = 0  # the last one appended from this connection
        self._numbered: int | UnsetType = UNSET  # the last producer_seq accepted from this connection
        self.audience = 0  # consumers, as last told
        self.stream = stream
        self.channel = hub.attach(stream, self)

    @property
    def held_bytes(self) -> int:
        """What waits for room, about."""
        return len(self._items) * ITEM_COST

    def start(self) -> None:
        """Say where things stand, fence older generations, and begin to listen."""
        stream = self.stream
        self._connection.record.log.info(
            "producer.connected",
            producer=self._pen.id,
            generation=self._pen.generation,
            agent=self._connection.agent,
        )
        stream.producer_came()
        stream.leases.returned(self._pen)
        for inlet in tuple(self.channel.inlets):
            inlet.fence_if_older()
        self.channel.add_inlet(self)
        self._hub.touch(self.channel)
        self._connection.tell(
            Ready(
                stream=stream.id,
                epoch=stream.epoch,
                head=stream.log.head,
                generation=self._pen.generation,
                producer_seq=self._pen.last,
            )
        )
        if stream.is_closed:
            self._refuse_closed()

    @contained
    def fence_if_older(self) -> None:
        """End this connection if a newer generation of its producer id has come."""
        if not self.stream.producers.is_current(self._pen):
            self.end(ProblemCode.FENCED, f"a newer generation of producer {self._pen.id!r} publishes now")

    # Receiving

    def receive(self, payload: bytes, *, is_text: bool) -> None:
        """A message of the producer: an event, an array of them, or `close_stream`."""
        connection = self._connection
        codec = connection.codec
        try:
            if len(payload) > self._max_message or is_text is not codec.is_text:
                connection.check_frame(payload, ProblemCode.INVALID_EVENT, is_text=is_text, limit=self._max_message)
            if codec.is_batch(payload):
                self._items.extend((f"[{at}] ", item) for at, item in enumerate(codec.split_batch(payload)))
            elif self._items:
                self._items.append(("", payload))
            else:
                self._take("", payload)
                return
        except WireError as error:
            connection.report(error.code, error.message)
            return
        if not self._is_waiting:
            self._take_all()

    @property
    def _is_waiting(self) -> bool:
        return bool(self._items) and isinstance(self._items[0][1], Event)

    def _take_all(self) -> None:
        while self._items and not self._connection.is_finished:
            if self._connection.paused:
                return  # each item of a bad batch is a problem, and they are not read: `resume` goes on
            place, item = self._items.popleft()
            if not self._take(place, item):
                return
        self._connection.release_reading(Hold.NO_ROOM)

    def _take(self, place: str, item: bytes | Raw | Event) -> bool:
        """Append one item; False when it has to wait, which puts it back."""
        try:
            message = item if isinstance(item, Event) else self._connection.codec.decode_from_producer(item)
            if not isinstance(message, Event):
                self._control(message, place)
            elif message.producer_seq is not UNSET and self._is_settled(message.producer_seq):
                pass
            elif self.stream.has_room or self._has_room():
                self._append(message)
            else:
                self._wait(place, message)
                return False
        except WireError as error:
            number = item.producer_seq if isinstance(item, Event) else self._connection.codec.producer_seq_of(item)
            expected = self._pen.last + 1 if error.code is ProblemCode.SEQUENCE_GAP else UNSET
            self._connection.report(error.code, place + error.message, producer_seq=number, expected=expected)
        return True

    def _control(self, message: Message, place: str) -> None:
        if place:
            raise _invalid("`close_stream` and `token` stand alone, not in a batch")
        if not isinstance(message, Token):
            self._close_stream()
            return
        rate = self._hub.settings.signal_rate
        if self._allowance is None:  # few producers ever send one
            self._allowance = TokenBucket(rate, burst=max(2 * rate, 1), now=self._hub.now())
        if self._allowance.take(self._hub.now()):
            self._connection.renew(message.token)
        else:
            self.end(ProblemCode.RATE_LIMITED, f"more than {rate:g} tokens a second (signal_rate): send fewer")

    def forbidden_by(self, grant: Grant) -> str:
        """What it does that a grant does not allow: to publish."""
        return "" if grant.may(Action.PUBLISH, self.stream.id) else "to publish to this stream"

    def _is_settled(self, number: int) -> bool:
        """Whether nothing is to be appended for a number: it was before, or this connection has lost its numbers."""
        if not self.stream.producers.is_latest(self._pen):
            self.end(ProblemCode.FENCED, f"a later connection of producer {self._pen.id!r} goes on with its numbers")
            return True
        if self._pen.id is None:
            raise _invalid("`producer_seq` needs a producer id: connect with ?producer=…")
        match self._pen.judge(number):
            case Verdict.HOLE:
                raise WireError(
                    ProblemCode.SEQUENCE_GAP, f"producer_seq {number} leaves a hole: {self._pen.last + 1} is expected"
                )
            case Verdict.REPEAT:
                self._accepted(number, self._pen.seq)
                return True
            case Verdict.NEW:
                return False

    def _has_room(self) -> bool:
        if not self.stream.has_room and not self.stream.is_closed:
            self.channel.deliver()  # consumers that do accept may make room at once
            if not self.stream.has_room and self._on_full == "reject":
                raise WireError(ProblemCode.STREAM_FULL, "a consumer of policy 'block' is not keeping up: try again")
        return self.stream.has_room or self.stream.is_closed

    def _wait(self, place: str, event: Event) -> None:
        self._items.appendleft((place, event))
        self._connection.hold_reading(Hold.NO_ROOM)
        self.channel.wait_for_room(self)

    def _append(self, event: Event) -> None:
        timestamp = None if event.timestamp is UNSET else event.timestamp.isoformat().replace("+00:00", "Z")
        try:
            seq = self._hub.append(self.stream, event.data, timestamp, self._pen)
        except StreamError as error:
            if is_closed(error):
                self._refuse_closed()
            else:
                self.end(ProblemCode.OVERLOADED, error.detail)
            return
        self._appended += 1
        if event.data.type is _MESSAGE_STOP:
            self._is_ack_urgent = True  # the answer is complete: whoever sent it wants to know
        self._accepted(event.producer_seq, seq)

    def _accepted(self, number: int | UnsetType, seq: int) -> None:
        self._unsettled += 1
        self._seq = max(self._seq, seq)
        if number is not UNSET:
            self._pen.accepted(number, seq)
            self._numbered = self._pen.last

    def _close_stream(self) -> None:
        if self.stream.is_closed:
            self._refuse_closed()
            return
        self._hub.end(self.stream)
        self.settle()
        self._connection.finish(CloseCode.STREAM_ENDED, "stream ended")

    def received(self) -> None:
        """What came in one go is appended: deliver it, and acknowledge it now or a little later."""
        if not self._unsettled:
            return
        events, self._unsettled = self._unsettled, 0
        was_withholding = self._pacer.is_withholding
        if self._pacer.withholds(events, self._connection.last_heard) and not self._is_ack_urgent:
            if not was_withholding:
                self._hub.acknowledge_late(self)
        else:
            self.channel.acknowledge_later(self)
        self._hub.deliver(self.channel)

    @contained
    def settle(self) -> None:
        """Before the connection ends: acknowledge what was appended, which is delivered in this turn."""
        if self.channel.forget_ack(self) or self._unsettled or self._pacer.is_withholding:
            self._unsettled = 0
            self.acknowledge()
            self._hub.touch(self.channel)

    # The channel's side

    @contained
    def go_on(self) -> None:
        """There is room again."""
        self._take_all()
        self.received()

    @contained
    def acknowledge(self) -> None:
        """Tell the producer what was appended so far."""
        self._is_ack_urgent = False
        self._pacer.sent()
        self._hub.tally.acks += 1
        self._connection.tell(Ack(seq=self._seq, producer_seq=self._numbered))

    def signal(self, signal: Signal) -> bool:
        """Pass a consumer's signal on, past whatever waits here; not to a producer that reads nothing."""
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
        """Send a withheld ack that has waited long enough; whether none is left to be sent."""
        if self._pacer.is_withholding and self._pacer.is_due(now):
            self.acknowledge()
        return not self._pacer.is_withholding

    @contained
    def tell_audience(self, consumers: int) -> None:
        """Tell the producer how many follow."""
        self.audience = consumers
        self._connection.tell(Audience(consumers=consumers))

    @property
    def producer_id(self) -> str | None:
        """Its producer id, if it has one."""
        return self._pen.id

    # The end

    @contained
    def drain(self) -> None:
        """Close with 1001: what was acknowledged stays, the rest is to be sent elsewhere."""
        self.channel.flush()  # who waits may have room by now
        self.end(ProblemCode.SHUTTING_DOWN, "the gateway is shutting down: reconnect and go on")

    def _refuse_closed(self) -> None:
        self.end(ProblemCode.STREAM_CLOSED, f"stream {self.stream.id!r} is closed; it takes no more events")

    def end(self, code: ProblemCode, why: str) -> None:
        """Say why, and close; what waits for room was never acknowledged."""
        self._items.clear()
        self.settle()
        self.channel.remove_inlet(self)
        self._connection.refuse(code, why)

    def fail(self) -> None:
        """Something was raised that nobody expected: put it on record, and end the connection."""
        self._connection.fail()

    def account(self) -> dict[str, int]:
        """What it brought."""
        return {"events": self._appended}

    def finished(self) -> None:
        """Nothing more is taken; `lost` does what is to be done."""

    def pause(self) -> None:
        """The producer does not read its acks; the connection has stopped reading its events already."""
        self._hub.sweep_regularly(self)

    def resume(self) -> None:
        """The producer reads again: what is left of a batch goes on."""
        self._hub.stop_sweeping(self)
        if self._items:
            self.go_on()

    @contained
    def sweep(self, now: float) -> None:
        """Give up on a producer that doesn't read."""
        send_timeout = self._hub.settings.send_timeout
        if self._connection.stalled_for(now) >= send_timeout:
            self._connection.give_up(f"read none of its acks for send_timeout ({send_timeout:g} s)")

    def lost(self) -> None:
        """The connection is gone; what it had not got appended was never acknowledged."""
        self._hub.stop_sweeping(self)
        self._items.clear()
        self.stream.producer_left(self._hub.now())
        self.channel.remove_inlet(self)
        is_alone = self._pen.id is None or all(inlet.producer_id != self._pen.id for inlet in self.channel.inlets)
        if is_alone:
            self._hub.lease(self.channel, self._pen)
        self._hub.detach(self.channel, self)


def _invalid(message: str) -> WireError:
    return WireError(ProblemCode.INVALID_EVENT, message)
