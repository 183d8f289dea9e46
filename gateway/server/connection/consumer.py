"""A consumer's connection: the send loop, its backpressure and its deadlines (SPEC §5, §6).

The loop is a function, `pump`, called when there may be something to send: the subscription says what, the socket
says when to stop, the channel says when to continue. A consumer whose socket is full rests until it accepts again; only
its deadlines are checked meanwhile.
"""

from __future__ import annotations

import asyncio

from deltawire.gateway.access import Action, Grant
from deltawire.gateway.hub.cohort import Cohort
from deltawire.gateway.hub.fair_queue import FairQueue
from deltawire.gateway.hub.hub import Hub
from deltawire.gateway.server.connection.connection import GatewayConnection
from deltawire.gateway.server.connection.containment import contained
from deltawire.gateway.server.connection.incoming import Incoming
from deltawire.gateway.streams.stream import Stream
from deltawire.gateway.streams.subscription import Subscription
from deltawire.protocol.codes import CloseCode, ProblemCode
from deltawire.protocol.messages import Heartbeat, Policy

READS_IN_A_ROW = 4
"""Reads of one consumer before others with more to read get their turn: at most four chunks of 64 KiB."""

LONG_READ = 4096
"""Bytes of a read after which it looks whether there is time for another: it took up to a millisecond to make them."""

CONSUMER_STATES = ("live", "replaying", "behind", "stalled")
"""In order: at the head; reading events from before it subscribed; behind the head; its socket accepts nothing."""


class Consumer:
    """One consumer, on a WebSocket or over plain HTTP.

    Args:
        hub: the streams.
        connection: its connection.
        subscription: what it reads.
        reading: fair queue in which all consumers of a gateway wait for their turn while they have much to read.
        chosen: the policy that its token must allow; None for the stream's default, if that holds up nobody else.
    """

    is_busy = False  # each of its messages is answered at once
    held_bytes = 0

    __slots__ = (
        "_chosen",
        "_cohort",
        "_connection",
        "_draining",
        "_heartbeat",
        "_heartbeat_timer",
        "_hub",
        "_incoming",
        "_is_stalled",
        "_is_waiting",
        "_next_write",
        "_reading",
        "_timer",
        "channel",
        "subscription",
        "write",
    )

    def __init__(
        self,
        hub: Hub,
        connection: GatewayConnection,
        subscription: Subscription,
        reading: FairQueue,
        chosen: Policy | None = None,
    ) -> None:
        self._hub = hub
        self._reading = reading
        self._chosen = chosen
        self._connection = connection
        self.subscription = subscription
        self.channel = hub.dispatcher.attach(subscription.stream, self)
        self.write = connection.writer  # a cohort calls it directly; connections of its members are open
        self._cohort: Cohort | None = None
        self._is_stalled = False
        self._is_waiting = False  # in the fair queue: nothing is read until its turn comes
        self._next_write = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._draining = False
        self._heartbeat = 0
        self._heartbeat_timer: asyncio.TimerHandle | None = None
        self._incoming: Incoming | None = None  # made late, as few consumers ever send anything

    @property
    def stream(self) -> Stream:
        """The stream it reads."""
        return self.subscription.stream

    @property
    def lag(self) -> int:
        """Events it is behind; 0 in a cohort, which keeps the cursor for it."""
        return 0 if self._is_in_cohort else self.subscription.lag

    @property
    def _is_in_cohort(self) -> bool:
        return self._cohort is not None and self in self._cohort  # it may have been dissolved

    @property
    def state(self) -> str:
        """Its state, one of `CONSUMER_STATES`."""
        if self._is_stalled:
            return "stalled"
        if not self.lag:
            return "live"
        return "replaying" if self.subscription.is_replaying else "behind"

    def start(self, heartbeat: int) -> None:
        """Begin to send.

        Args:
            heartbeat: seconds between `heartbeat` messages; 0 sends none.
        """
        self._heartbeat = heartbeat
        subscription = self.subscription
        self._connection.record.log.info(
            "consumer.connected",
            policy=subscription.policy.value,
            buffer=subscription.buffer,
            after=subscription.cursor,
            head=subscription.stream.log.head,
            agent=self._connection.agent,
        )
        self.channel.pump_each_time(self)
        self._wait_for_turn()
        self._hub.dispatcher.touch(self.channel)  # producers learn of it
        self._schedule_heartbeat()

    # Sending

    @contained
    def pump(self) -> None:
        """Send what there is until the socket is full."""
        if self._is_stalled or self._is_waiting or self._timer is not None or self._connection.is_finished:
            self._send_ahead()
            return
        subscription = self.subscription
        if subscription.interval and not subscription.is_replaying:
            if subscription.lag and self._hub.now() < self._next_write:
                wait = self._next_write - self._hub.now()
                self._timer = self._connection.loop.call_later(wait, self._end_interval)
                return
            self._next_write = self._hub.now() + subscription.interval
        for _ in range(READS_IN_A_ROW):
            data = subscription.take()
            if data:
                self._connection.write(data)
                if self._connection.is_finished:
                    return
            if data == b"" or subscription.ended:  # the close follows `stream_end` at once, even into a full socket
                self._rest()
                return
            if self._is_stalled:
                return
            if (data is None or len(data) >= LONG_READ) and not self._reading.has_time(self.channel.rank):
                break
        self._wait_for_turn()

    @contained
    def _send_ahead(self) -> None:
        """Send copies of urgent events, as others are in front of them that this consumer has to wait for."""
        if self.subscription.urgent is None or self._is_stalled or self._connection.is_finished:
            return
        is_behind = self._timer is None  # else it waits by its own choice
        if is_behind and (copies := self.subscription.take_ahead()):
            self._connection.write(copies)

    def _rest(self) -> None:
        """End or wait for more, as everything is sent."""
        subscription = self.subscription
        if subscription.ended:
            self._connection.finish(CloseCode.STREAM_ENDED, "stream ended")
        elif self._draining:
            self.end(ProblemCode.SHUTTING_DOWN, "the gateway is shutting down: reconnect and resume")
        elif subscription.is_live and not subscription.interval and subscription.policy is not Policy.BLOCK:
            self._cohort = self.channel.join(self)

    def _wait_for_turn(self) -> None:
        """Continue to read after others with much to read had their turn."""
        if not self._is_waiting:
            self._is_waiting = True
            self._reading.enter(self._take_turn, self.channel.rank)

    def _take_turn(self) -> None:
        self._is_waiting = False
        self._pump_now()

    def _end_interval(self) -> None:
        self._timer = None
        self._pump_now()

    @contained
    def _pump_now(self) -> None:
        self.pump()
        self._tell_of_room()

    def _tell_of_room(self) -> None:
        """Let producers that wait for this consumer check for room, after a pump that no append caused."""
        if self.subscription.policy is Policy.BLOCK:
            self._hub.dispatcher.touch(self.channel)

    @contained
    def drain(self) -> None:
        """Send what is left, then close with 1001."""
        self._draining = True
        self._leave_cohort()
        self.channel.pump_each_time(self)
        self.pump()

    @contained
    def end(self, code: ProblemCode, message: str) -> None:
        """Tell the consumer why and where to resume, and close."""
        self._leave_cohort()
        self._connection.close_with_problem(code, message, resume_after=self.subscription.cursor)

    def fail(self) -> None:
        """Record the unexpected exception being handled, and end the connection."""
        self._connection.fail()

    def account(self) -> dict[str, int]:
        """How much of its stream it was sent."""
        return {"events": self.subscription.delivered, "bytes": self.subscription.delivered_bytes}

    def received(self) -> None:
        """Do nothing: each of its messages is answered by itself."""

    def answer_rest(self) -> None:
        """Do nothing, for the same reason."""

    def on_finished(self) -> None:
        """Leave the stream, as nothing more is sent: producers no longer have to wait for this consumer."""
        self._detach()

    def write_failed(self) -> None:
        """Fail, unless the socket is known to be gone: the write of its cohort raised."""
        if not self._connection.transport.is_closing():  # otherwise `connection_lost` follows
            self.fail()

    # Signs of life

    def _schedule_heartbeat(self) -> None:
        if self._heartbeat:
            self._heartbeat_timer = self._connection.loop.call_later(self._heartbeat, self._send_heartbeat)

    @contained
    def _send_heartbeat(self) -> None:
        """Show the peer that the connection works; one whose socket accepts nothing learns nothing by more bytes."""
        if self._connection.is_finished:
            return
        if not self._is_stalled:
            self._connection.tell(Heartbeat(head=self.stream.log.head))
        self._schedule_heartbeat()

    # Falling behind

    def pause(self) -> None:
        """Rest, as the socket is full."""
        self._is_stalled = True
        self._leave_cohort()
        self.channel.let_rest(self)
        self._hub.deadlines.add(self)
        if self.subscription.policy is Policy.DISCONNECT:
            self.channel.watch_lag(self)

    def resume(self) -> None:
        """Apply the policy to the backlog and continue to send, as the socket accepts again."""
        self.check_lag()
        self._is_stalled = False
        self._hub.deadlines.remove(self)
        if not self._connection.is_finished:
            self.channel.pump_each_time(self)
            self._send_ahead()
            self._wait_for_turn()

    @contained
    def check_lag(self) -> None:
        """Apply the policy to the lag, if the socket is full; otherwise a cohort may have the cursor."""
        if self._is_stalled and not self._connection.is_finished and not self.subscription.judge():
            self._disconnect("fell behind by more than its buffer")

    @contained
    def sweep(self, now: float) -> None:
        """Check the deadlines of a stalled socket."""
        settings = self._hub.settings
        stalled_for = self._connection.stalled_for(now)
        if (
            self.subscription.policy is Policy.BLOCK
            and stalled_for >= settings.block_timeout
            and self.subscription.is_full
        ):
            self._disconnect(f"held producers up for block_timeout ({settings.block_timeout:g} s)")
        elif stalled_for >= settings.send_timeout:
            self._connection.abort(f"its socket accepted nothing for send_timeout ({settings.send_timeout:g} s)")
        else:
            self.check_lag()

    def _disconnect(self, why: str) -> None:
        subscription = self.subscription
        subscription.stream.counters.disconnected += 1
        self.end(ProblemCode.SLOW_CONSUMER, f"policy {subscription.policy}: this consumer {why}; resume to go on")

    # Receiving

    def receive(self, payload: bytes, *, is_text: bool) -> None:
        """Handle a message of the consumer; report a problem with it."""
        if self._incoming is None:
            self._incoming = Incoming(self._hub, self._connection, self.channel)
        self._incoming.receive(payload, self, is_text=is_text)

    def forbidden_by(self, grant: Grant) -> str:
        """Which of its uses a grant does not allow: to subscribe, or to subscribe with its policy; empty if none."""
        if not grant.may(Action.SUBSCRIBE, self.stream.id):
            return "to subscribe to this stream"
        return "" if grant.may_choose(self._chosen) else f"policy {self._chosen}"

    # The end

    def on_lost(self) -> None:
        """Leave the stream and its channel, as the connection is gone."""
        for timer in (self._timer, self._heartbeat_timer):
            if timer is not None:
                timer.cancel()
        self._detach()
        self._hub.dispatcher.detach(self.channel, self)

    def _detach(self) -> None:
        """Leave the stream; doing it twice changes nothing."""
        self._hub.deadlines.remove(self)
        self._leave_cohort()
        self.channel.leave(self, self._hub.now())
        self._hub.dispatcher.touch(self.channel)  # producers no longer have to wait for it

    def _leave_cohort(self) -> None:
        if self._cohort is not None:
            self._cohort.remove(self)
            self._cohort = None
