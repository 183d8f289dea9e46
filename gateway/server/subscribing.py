"""From a request to a consumer, over WebSocket or plain HTTP."""

from __future__ import annotations

from typing import Final, NamedTuple

from deltawire.gateway.access import Grant
from deltawire.gateway.hub import Hub
from deltawire.gateway.hub.fair_queue import FairQueue
from deltawire.gateway.server.connection.connection import GatewayConnection
from deltawire.gateway.server.connection.consumer import Consumer
from deltawire.gateway.server.connection.following import FollowingNode, subscribe_node
from deltawire.gateway.streams.cursor import is_unknown
from deltawire.gateway.streams.mirror import Mirror
from deltawire.gateway.streams.stream import Stream
from deltawire.gateway.streams.subscription import Subscription
from deltawire.protocol.addresses import SubscribeRequest
from deltawire.protocol.codec import Encoding
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import ErrorKind, StreamError, WireError
from deltawire.protocol.messages import Policy
from deltawire.protocol.position import Position

GONE: Final = "the gateway that serves this stream is gone: try again"
BEHIND: Final = "this position may be one that another gateway has given, which serves the stream now: try again"


def check_position(hub: Hub, stream: Stream, position: Position) -> None:
    """Refuse to judge a position that may be another gateway's, until it is known whose the stream is.

    Args:
        hub: of the stream.
        stream: that is read.
        position: of who reads it.

    Raises:
        StreamError: full, that is being found out.
    """
    is_odd = is_unknown(position, stream.epoch, stream.log.head, stream.lineage)
    if is_odd and hub.dispatcher.may_be_behind(stream):
        raise StreamError(ErrorKind.FULL, "read", stream.id, BEHIND)


class Ticket(NamedTuple):
    """A subscription whose consumer has yet to begin.

    Attributes:
        subscription: what it reads.
        chosen: the policy that its token must allow, as for `Consumer`.
        heartbeat: seconds between `heartbeat` messages; 0 sends none.
    """

    subscription: Subscription
    chosen: Policy | None
    heartbeat: int


class Subscribing:
    """Subscribes consumers to the streams of a hub.

    Args:
        hub: the streams.
        reading: fair queue in which consumers wait for their turn while they have much to read.
    """

    def __init__(self, hub: Hub, reading: FairQueue) -> None:
        self._hub = hub
        self._reading = reading

    def find(self, connection: GatewayConnection, stream_id: str, request: SubscribeRequest) -> Stream:
        """Return the stream that a request is about; a new one exists only once somebody has subscribed.

        Args:
            connection: of the consumer; it may have a mirror.
            stream_id: its id, valid.
            request: whether it may be created.

        Raises:
            StreamError: not found; full, its owner was lost.
        """
        if connection.mirror is not None:
            if connection.mirror.is_over:
                raise StreamError(ErrorKind.FULL, "subscribe", stream_id, GONE)
            return connection.mirror
        manager = self._hub.manager
        return manager.open(stream_id, self._hub.now()) if request.create else manager.get(stream_id)

    def subscribe(self, stream: Stream, request: SubscribeRequest, grant: Grant, encoding: Encoding) -> Ticket:
        """Subscribe to a stream.

        Args:
            stream: as `find` returned it in this turn of the loop.
            request: how to read it.
            grant: what the consumer may do; that it may read the stream is known.
            encoding: of the consumer.

        Raises:
            WireError: the request can't be met, or the grant does not allow its policy.
            StreamError: full, there is no room for another stream.
        """
        manager, now = self._hub.manager, self._hub.now()
        chosen = request.policy or (Policy.BLOCK if stream.settings.policy is Policy.BLOCK else None)
        if not grant.may_choose(chosen):  # `block` holds others up: a token must allow it as a default too
            raise WireError(ProblemCode.FORBIDDEN, f"the token does not allow policy {chosen}: ask for another one")
        if request.position is not None:
            check_position(self._hub, stream, request.position)
        subscription = stream.subscribe(request, encoding, now=now)
        if not isinstance(stream, Mirror):
            manager.keep(stream, now)
        return Ticket(subscription, chosen, request.heartbeat)

    def start(self, connection: GatewayConnection, ticket: Ticket) -> None:
        """Begin to serve the consumer of a connection."""
        consumer = Consumer(self._hub, connection, ticket.subscription, self._reading, ticket.chosen)
        connection.peer = consumer
        consumer.start(ticket.heartbeat)

    def start_following(self, connection: GatewayConnection, stream_id: str, request: SubscribeRequest) -> None:
        """Begin to serve another node that follows a stream.

        Args:
            connection: of the other node.
            stream_id: of a stream that this node owns.
            request: the position after which it goes on; without one it begins anew.

        Raises:
            WireError: there is no such position.
            StreamError: not found.
        """
        subscription = subscribe_node(self._hub.manager.get(stream_id), request.position, self._hub.now())
        node = FollowingNode(self._hub, connection, subscription, self._reading)
        connection.peer = node
        node.start()
