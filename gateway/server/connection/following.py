"""Another gateway that follows a stream for its own consumers, at the owner of the stream (SPEC §10.3).

It is a consumer that is sent every event as it is in the log, whatever it has yet to read, and that counts as many as
it has consumers itself.
"""

from __future__ import annotations

from typing import Final

import msgspec

from deltawire.gateway.hub.fair_queue import FairQueue
from deltawire.gateway.hub.hub import Hub
from deltawire.gateway.server.connection.connection import GatewayConnection
from deltawire.gateway.server.connection.consumer import Consumer
from deltawire.gateway.server.connection.containment import contained
from deltawire.gateway.server.relaying.messages import Count, Forwarded, State, Terms, decode_from_follower, frame
from deltawire.gateway.streams.stream import Stream
from deltawire.gateway.streams.subscription import Subscription
from deltawire.protocol.addresses import SubscribeRequest
from deltawire.protocol.codec import JSON
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import WireError
from deltawire.protocol.events import MAX_SEQ
from deltawire.protocol.messages import Policy
from deltawire.protocol.position import Position

STATE_INTERVAL: Final = 3.0
"""Seconds after which the state is told again, though it is the same: a sign that the owner lives."""


def subscribe_node(stream: Stream, position: Position | None, now: float) -> Subscription:
    """Subscribe another gateway to a stream.

    Args:
        stream: that this gateway owns.
        position: after which it goes on; None begins with all that memory may hold.
        now: monotonic seconds.

    Raises:
        WireError: as `Stream.subscribe`; `not_found`, it has ended, and nobody has begun to follow it.
    """
    if position is None:
        if stream.end_reason is not None:
            raise WireError(ProblemCode.NOT_FOUND, "the stream has ended: relay who reads it, as nothing more comes")
        fits = stream.stored_bytes <= stream.log.retention.bytes
        fits = fits and stream.log.head - stream.floor < stream.log.retention.events
        position = Position(stream.epoch, (stream.floor if fits else stream.log.floor) - 1)
    request = SubscribeRequest(position=position, policy=Policy.DISCONNECT, buffer=MAX_SEQ)
    subscription = stream.subscribe(request, JSON, now=now)
    subscription.buffer_bytes = MAX_SEQ  # it is never behind by too much: how fast its consumers are is known there
    return subscription


class FollowingNode(Consumer):
    """The other gateway.

    Args:
        hub: the streams.
        connection: its connection.
        subscription: as `subscribe_node` returned it.
        reading: fair queue in which all consumers of a gateway wait for their turn while they have much to read.
    """

    __slots__ = ("_counted", "_told", "_told_at")

    def __init__(self, hub: Hub, connection: GatewayConnection, subscription: Subscription, reading: FairQueue) -> None:
        super().__init__(hub, connection, subscription, reading)
        self._counted = 1  # consumers, for whom it stands: it follows as soon as it has one
        self._told = State(0, 0)
        self._told_at = 0.0

    def start(self, heartbeat: int = 0) -> None:
        """Begin to send, the settings of the stream first."""
        self._connection.write(frame(Terms(self.stream.settings)))
        super().start(heartbeat)
        self._hub.deadlines.add(self)

    @contained
    def receive(self, payload: bytes, *, is_text: bool) -> None:  # noqa: ARG002 - it sends nothing else
        """Count its consumers, or pass on a signal of one of them."""
        try:
            message = decode_from_follower(payload)
        except msgspec.MsgspecError:
            self.end(ProblemCode.BAD_REQUEST, "this is nothing that a gateway sends")
            return
        if isinstance(message, Count):
            self._count(message.consumers)
        else:
            number = message.number
            self.channel.signal(message.signal, lambda delivered: self._answer(number, delivered or 0))

    def _answer(self, number: int, delivered: int) -> None:
        self._connection.write(frame(Forwarded(number, delivered)))

    def _count(self, consumers: int) -> None:
        self.stream.consumers += consumers - self._counted
        self._counted = consumers
        self._hub.dispatcher.touch(self.channel)  # producers learn of it

    @contained
    def sweep(self, now: float) -> None:
        """Tell the state if that is due; check the deadlines of a stalled socket."""
        if self._is_stalled:
            super().sweep(now)
        else:
            self._tell(now)

    def _tell(self, now: float) -> None:
        state = State(self.stream.floor, self.stream.consumers)
        if state != self._told or now - self._told_at >= STATE_INTERVAL:
            self._told, self._told_at = state, now
            self._connection.write(frame(state))

    def resume(self) -> None:
        """Continue to send, as the socket accepts again."""
        super().resume()
        if not self._connection.is_finished:
            self._hub.deadlines.add(self)

    def _detach(self) -> None:
        if self._counted != 1:
            self._count(1)  # itself alone, which is what its subscription counts
        super()._detach()
