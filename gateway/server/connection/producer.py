"""A producer's connection (SPEC §7): its stream, its acks, its end. `intake` processes what it sends."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import UNSET

from deltawire.gateway.access import Action, Grant
from deltawire.gateway.hub.committing import unstored
from deltawire.gateway.hub.fair_queue import FairQueue
from deltawire.gateway.hub.hub import Hub
from deltawire.gateway.server.connection.connection import GatewayConnection
from deltawire.gateway.server.connection.containment import contained
from deltawire.gateway.server.connection.intake import Intake
from deltawire.gateway.streams.producers import Writer
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.addresses import PublishRequest
from deltawire.protocol.codes import CloseCode, ProblemCode
from deltawire.protocol.messages import Ack, Audience, Ready, Signal


class _Call:
    """A call to be made later, unless it is cancelled; then nothing is kept of it.

    Args:
        function: to be called.
    """

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[], None]) -> None:
        self._function: Callable[[], None] | None = function

    def __call__(self) -> None:
        """Call it."""
        if self._function is not None:
            self._function()

    def cancel(self) -> None:
        """Do not call it."""
        self._function = None


class Producer(Intake):
    """One producer on a WebSocket."""

    __slots__ = ("_has_begun", "_once_committed", "audience")

    def __init__(  # noqa: PLR0913, PLR0917 - what a gateway knows of it
        self,
        hub: Hub,
        connection: GatewayConnection,
        stream: Stream,
        writer: Writer,
        request: PublishRequest,
        queue: FairQueue,
    ) -> None:
        super().__init__(hub, connection, stream, writer, request, queue)
        self._has_begun = False
        self._once_committed: _Call | None = None  # the engine holds it until it answers, or for ever
        self.audience = 0  # consumers, as last told

    def start(self) -> None:
        """Fence older generations, and begin; once what the producer continues after is committed."""
        stream = self.stream
        if self._connection.is_uploading:
            self._hub.deadlines.add(self)
        else:  # there may be a request for each event
            self._connection.record.log.info(
                "producer.connected",
                producer=self._publication.writer.id,
                generation=self._publication.writer.generation,
                agent=self._connection.agent,
            )
        if (stream_class := self._connection.grant.stream_class) is not None:
            self._hub.dispatcher.classify(self.channel, stream_class)
        stream.producer_came()
        stream.leases.returned(self._publication.writer)
        for inlet in tuple(self.channel.inlets):
            inlet.fence_if_older()
        if stream.staging is None or stream.producers.is_committed(self._publication.writer):
            self._begin()
        elif self._hub.storage_failure is not None:
            self._end_unstored()
        else:  # `ready` names the last event accepted: it must not be lost any more
            self._hold()
            self._hub.deadlines.add(self)
            self._call_once_committed(self._begin_late)

    @contained
    def _begin_late(self) -> None:
        if self._connection.is_finished:
            return
        self.stream.leases.returned(self._publication.writer)  # an older connection may have ended meanwhile
        if not self._connection.is_uploading:
            self._hub.deadlines.remove(self)
        self._begin()
        self.fence_if_older()
        self._go_on()

    def _begin(self) -> None:
        """Send `ready`, and begin to receive."""
        stream = self.stream
        self._has_begun = True
        self.channel.add_inlet(self)
        self._hub.dispatcher.touch(self.channel)
        self._connection.tell(
            Ready(
                stream=stream.id,
                epoch=stream.epoch,
                head=stream.log.head,
                generation=self._publication.writer.generation,
                producer_seq=self._publication.writer.last,
                continues=tuple(fork.epoch for fork in stream.lineage) or UNSET,
            )
        )
        if stream.is_closed:
            self.refuse_closed()

    @contained
    def fence_if_older(self) -> None:
        """End this connection if a newer generation of its producer id has come."""
        if not self.stream.producers.is_current(self._publication.writer):
            self.end(
                ProblemCode.FENCED, f"a newer generation of producer {self._publication.writer.id!r} publishes now"
            )

    def forbidden_by(self, grant: Grant) -> str:
        """Which of its uses a grant does not allow: to publish; empty if it does."""
        return "" if grant.may(Action.PUBLISH, self.stream.id) else "to publish to this stream"

    def close_stream(self) -> None:
        """Close the stream, then the connection."""
        if self.stream.is_closed:
            self.refuse_closed()
            return
        self._hub.end(self.stream)
        if not self._connection.is_uploading:  # the rest of a body is judged all the same
            self.conclude()

    def conclude(self) -> None:
        """Close the connection once everything is committed and acknowledged: nothing more comes on it."""
        self._hub.dispatcher.let_out(self.stream)
        if self._publication.owes_ack:
            self.channel.acknowledge_later(self)
        self._call_once_committed(self._finish)

    def _call_once_committed(self, function: Callable[[], None]) -> None:
        self._once_committed = _Call(function)
        self._hub.dispatcher.when_committed(self.channel, self._once_committed)

    @contained
    def _finish(self) -> None:
        """Close, as the stream has ended, or what the producer has sent."""
        self.answer_rest()
        self._connection.finish(CloseCode.STREAM_ENDED, "stream ended")

    def received(self) -> None:
        """Deliver the events appended from one read, and acknowledge them now or a little later."""
        if not self.is_busy:
            self._begin_read()
        publication = self._publication
        if not publication.unacked:
            return
        if not self.is_busy or self._backlog.waits_for_room:  # else one ack covers everything from this read
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
        """Pass a consumer's signal on, ahead of whatever waits here; not to a producer that reads nothing now."""
        if self._connection.paused or self._connection.is_finished or self._connection.is_uploading:
            return False
        try:
            self._connection.tell(signal)
        except Exception:  # noqa: BLE001 - not the fault of the consumer that signals
            self.fail()
            return False
        self._hub.tally.signals += 1
        return True

    def acknowledge_if_due(self, now: float) -> bool:
        """Send a withheld ack that has waited long enough, with the next commit; return whether none waits longer."""
        pacer = self._publication.pacer
        if not pacer.is_withholding:
            return True
        if not pacer.is_due(now):
            return False
        if self.stream.is_settled:
            self.acknowledge()
        else:
            self.channel.acknowledge_later(self)
            self._hub.dispatcher.touch(self.channel)
        return True

    @contained
    def tell_audience(self, consumers: int) -> None:
        """Tell the producer how many consumers follow."""
        self.audience = consumers
        self._connection.tell(Audience(consumers=consumers))

    @property
    def producer_id(self) -> str | None:
        """Its producer id, if it has one."""
        return self._publication.writer.id

    @property
    def rank(self) -> int:
        """Of the class of its stream."""
        return self.channel.rank

    # The end

    @contained
    def drain(self) -> None:
        """Close with 1001: acknowledged events stay; the producer sends the rest elsewhere."""
        self.channel.flush()  # waiting events may have room by now
        self.end(ProblemCode.SHUTTING_DOWN, "the gateway is shutting down: reconnect and go on")

    def refuse_closed(self) -> None:
        """End the connection, as the stream is closed."""
        self.end(ProblemCode.STREAM_CLOSED, f"stream {self.stream.id!r} is closed; it takes no more events")

    def end(self, code: ProblemCode, why: str) -> None:
        """Tell the producer why, and close; events that wait for room were never acknowledged."""
        self._hub.dispatcher.let_out(self.stream)
        self._forget()
        self.answer_rest()
        self.channel.remove_inlet(self)
        self._connection.close_with_problem(code, why)
        self._connection.receive_deferred()  # the peer's close may be among it

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
        if self.is_busy and not self._backlog.waits_for_room:
            self._wait_for_turn()

    def _end_unstored(self) -> None:
        """End a request, whose peer may have left unseen, or a wait for `ready`, while nothing can be stored."""
        failure = self._hub.storage_failure
        if failure is not None and not self._connection.is_finished:
            self.end(ProblemCode.OVERLOADED, unstored(failure))

    @contained
    def sweep(self, now: float) -> None:
        """Abort the connection of a producer that doesn't read; end one that waits for the store while that fails."""
        if self._connection.is_uploading or not self._has_begun:
            self._end_unstored()
            return
        send_timeout = self._hub.settings.send_timeout
        if self._connection.stalled_for(now) >= send_timeout:
            self._connection.abort(f"read none of its acks for send_timeout ({send_timeout:g} s)")

    def on_lost(self) -> None:
        """Leave the stream, as the connection is gone; events not appended were never acknowledged."""
        self._hub.deadlines.remove(self)
        if self._once_committed is not None:
            self._once_committed.cancel()
        self._hub.dispatcher.let_out(self.stream)
        self._forget()
        self.stream.producer_left(self._hub.now())
        self.channel.remove_inlet(self)
        writer = self._publication.writer
        if writer.id is None or all(inlet.producer_id != writer.id for inlet in self.channel.inlets):
            self._hub.dispatcher.lease(self.channel, writer)
        self._hub.dispatcher.detach(self.channel, self)
