"""What a consumer sends: signals to the producers, tokens, pings (SPEC §5.7). Their rate is limited."""

from __future__ import annotations

from functools import partial

from deltawire.gateway.access import Action
from deltawire.gateway.hub.channel import Channel
from deltawire.gateway.hub.hub import Hub
from deltawire.gateway.server.accepting.rate import TokenBucket
from deltawire.gateway.server.connection.connection import GatewayConnection
from deltawire.gateway.server.connection.containment import contained
from deltawire.gateway.server.connection.peer import Peer
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import WireError
from deltawire.protocol.messages import Ping, Pong, Signal, SignalResult, Token

MAX_PING = 128
"""Bytes of a message that may be a ping; a longer one counts towards `signal_rate` before it is even parsed."""

UNCONFIRMED = (
    "the gateway that serves this stream is gone, and a signal may not have reached it: connect again, and resume"
)


class Incoming:
    """Handles the messages of one consumer.

    Args:
        hub: the streams.
        connection: of the consumer.
        channel: of its stream.
    """

    __slots__ = ("_allowance", "_channel", "_connection", "_hub", "_pings")

    def __init__(self, hub: Hub, connection: GatewayConnection, channel: Channel) -> None:
        self._hub = hub
        self._connection = connection
        self._channel = channel
        rate, now = hub.settings.signal_rate, hub.now()
        self._allowance = TokenBucket(rate, burst=max(2 * rate, 1), now=now)
        self._pings = TokenBucket(rate, burst=max(2 * rate, 1), now=now)  # who asks for a pong may signal all the same

    def receive(self, payload: bytes, consumer: Peer, *, is_text: bool) -> None:
        """Handle a message: report a problem with it, or end the consumer that sends too many."""
        connection = self._connection
        may_be_ping = len(payload) <= MAX_PING
        if not may_be_ping and not self._is_allowed(self._allowance, consumer):
            return
        try:
            connection.check_frame(
                payload, ProblemCode.UNKNOWN_MESSAGE, is_text=is_text, limit=self._hub.settings.max_message
            )
            message = connection.codec.decode_from_consumer(payload)
        except WireError as error:
            if not may_be_ping or self._is_allowed(self._allowance, consumer):
                connection.report(error.code, error.message)
            return
        if isinstance(message, Ping):
            if self._is_allowed(self._pings, consumer):
                connection.tell(Pong(id=message.id))
        elif may_be_ping and not self._is_allowed(self._allowance, consumer):
            return
        elif isinstance(message, Token):
            connection.renew(message.token)
        elif not connection.grant.may(Action.SIGNAL, consumer.stream.id):
            connection.report(ProblemCode.NOT_PERMITTED, "the token does not allow to signal to this stream")
        else:
            self._channel.signal(message, partial(self._confirm, message, consumer))

    def _is_allowed(self, allowance: TokenBucket, consumer: Peer) -> bool:
        """Whether another message may come now; the connection ends if not."""
        if allowance.take(self._hub.now()):
            return True
        rate = self._hub.settings.signal_rate
        consumer.end(ProblemCode.RATE_LIMITED, f"more than {rate:g} messages a second (signal_rate): send fewer")
        return False

    @contained
    def _confirm(self, signal: Signal, consumer: Peer, delivered: int | None) -> None:
        if delivered is None:
            consumer.end(ProblemCode.OVERLOADED, UNCONFIRMED)
        else:
            self._connection.tell(SignalResult(delivered=delivered, id=signal.id))

    def fail(self) -> None:
        """Record the unexpected exception being handled, and end the connection."""
        self._connection.fail()
