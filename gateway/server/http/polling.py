"""Waiting for events before a page of them is made: `GET /v1/streams/{id}/events?wait=SECONDS` (SPEC §9)."""

from __future__ import annotations

from websockets.http11 import Response

from deltawire.gateway.access import Action
from deltawire.gateway.hub import Hub
from deltawire.gateway.server.admission.request import AdmissionRequest
from deltawire.gateway.server.http.waiting import WaitingConsumer
from deltawire.gateway.server.responses import respond_nothing
from deltawire.gateway.server.subscribing import check_position
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.addresses import EventsRequest, SubscribeRequest, check_stream_id, parse_events
from deltawire.protocol.errors import StreamError, WireError
from deltawire.protocol.messages import Policy
from deltawire.protocol.position import Position


async def wait_for_events(hub: Hub, incoming: AdmissionRequest) -> Response | None:
    """Wait as long as a request asks for, if there is nothing for it yet.

    Args:
        hub: the streams.
        incoming: a request for a page of events.

    Returns:
        204 if the stream has ended and the client has everything. None if a page can be made, or the request is wrong.

    Raises:
        WireError: overloaded, the stream has `max_consumers`; position_ahead.
        StreamError: as `check_position`.
    """
    target, connection = incoming.target, incoming.connection
    if incoming.request.method != "GET" or not connection.grant.may(Action.SUBSCRIBE, target.stream_id):
        return None
    try:
        request = parse_events(target.query)
        stream = hub.manager.get(check_stream_id(target.stream_id))
    except (ValueError, WireError, StreamError):
        return None  # the route refuses it in words
    if not request.wait or not _has_everything(stream, request):
        return None
    check_position(hub, stream, Position(request.epoch, request.after))
    if stream.end_reason is None:
        asked = SubscribeRequest(position=Position(stream.epoch, request.after), policy=Policy.COALESCE)
        with WaitingConsumer(hub, connection, stream, asked) as consumer:
            await consumer.wait(request.wait)
    has_ended = stream.end_reason is not None and _has_everything(stream, request)
    return respond_nothing() if has_ended else None


def _has_everything(stream: Stream, request: EventsRequest) -> bool:
    return request.epoch in ("", stream.epoch) and request.after >= stream.log.head
