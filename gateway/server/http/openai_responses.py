"""The latest message of a stream as a response of OpenAI's Responses API, and its cancellation (SPEC §9.5)."""

from __future__ import annotations

from collections.abc import Awaitable

from websockets.http11 import Response

from deltawire.gateway.hub import Hub
from deltawire.gateway.server.connection.connection import GatewayConnection
from deltawire.gateway.server.http.event_streams import from_latest_message
from deltawire.gateway.server.http.waiting import WaitingConsumer
from deltawire.gateway.server.responses import respond_json
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.addresses import SubscribeRequest
from deltawire.protocol.messages import Policy, Signal
from deltawire.protocol.openai_responses import ResponseReader


def retrieve(hub: Hub, connection: GatewayConnection, stream: Stream) -> Awaitable[Response]:
    """Read the latest message of a stream, and respond with it."""
    return _read(hub, connection, stream)


def cancel(hub: Hub, connection: GatewayConnection, stream: Stream) -> Awaitable[Response]:
    """Ask the producers of a stream to stop, and respond with its latest message as it is now."""
    hub.dispatcher.channel(stream).signal(Signal(name="cancel"), lambda _: None)
    return _read(hub, connection, stream)


async def _read(hub: Hub, connection: GatewayConnection, stream: Stream) -> Response:
    request = from_latest_message(stream, SubscribeRequest(policy=Policy.COALESCE))
    reader = ResponseReader(stream.id, seeks=request.position is None)
    with WaitingConsumer(hub, connection, stream, request) as consumer:
        await consumer.read_into(reader)
    return respond_json(reader.response())
