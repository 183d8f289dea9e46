"""Streams as server-sent events: `GET /v1/streams/{id}/sse` (SPEC §9.3)."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from msgspec.structs import replace
from websockets.http11 import Response

from deltawire.gateway.server.admission.request import AdmissionRequest
from deltawire.gateway.server.connection.streaming import StreamingConnection
from deltawire.gateway.server.http.routes import refusing
from deltawire.gateway.server.responses import EventsResponse, respond_head, respond_nothing
from deltawire.gateway.server.subscribing import Subscribing, Ticket
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.addresses import SubscribeRequest, check_stream_id, parse_subscribe
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import WireError
from deltawire.protocol.event_stream import CONTENT_TYPE, EventStream, parse_event_id

RETRY: Final = (1000, 3000)
"""Milliseconds after which EventSource connects again, least and most: readers that are lost together must not come
back together."""

HEADERS: Final = {
    "Content-Type": CONTENT_TYPE,
    "Cache-Control": "no-cache, no-transform",  # a proxy that compresses waits for more first
    "X-Accel-Buffering": "no",  # nginx's; other proxies have taken it over
}

Serve = Callable[[Ticket, StreamingConnection], Awaitable[None]]


class EventStreams:
    """Answers requests for streams over plain HTTP.

    Args:
        subscribing: makes consumers.
        serve: serves the consumer of a ticket on a connection until that is gone.
    """

    def __init__(self, subscribing: Subscribing, serve: Serve) -> None:
        self._subscribing = subscribing
        self._serve = serve

    def answer(self, incoming: AdmissionRequest) -> Response:
        """Respond with events; with 204 if the stream has ended and the reader has everything."""
        return refusing(partial(self._answer, incoming))

    def _answer(self, incoming: AdmissionRequest) -> Response:
        http, stream_id = incoming.request, check_stream_id(incoming.target.stream_id)
        request = _resume(parse_subscribe(incoming.target.query), http.headers.get_all("Last-Event-ID"))
        stream = self._subscribing.find(stream_id, request)
        if incoming.connection.is_gone or _has_everything(stream, request):
            return respond_nothing()
        encoding = EventStream(stream.epoch, is_chunked=http.protocol != "HTTP/1.0")
        headers = HEADERS | ({"Transfer-Encoding": "chunked"} if encoding.is_chunked else {})
        if http.method == "HEAD":
            return respond_head(headers)
        ticket = self._subscribing.subscribe(stream, request, incoming.connection.grant, encoding)
        opening = encoding.retry(random.randint(*RETRY))  # noqa: S311 - it spreads clients, and keeps no secret
        return EventsResponse(headers, encoding, encoding, opening, partial(self._serve, ticket))


def _resume(request: SubscribeRequest, ids: Sequence[str]) -> SubscribeRequest:
    """Let the id of the last event that EventSource got override the position in its URL, which never changes."""
    if not any(ids):
        return request
    if len(ids) > 1:
        raise WireError(ProblemCode.BAD_REQUEST, "header 'Last-Event-ID' is given twice")
    try:
        return replace(request, position=parse_event_id(ids[0]))
    except ValueError as error:
        raise WireError(ProblemCode.BAD_REQUEST, f"header 'Last-Event-ID': {error}") from None


def _has_everything(stream: Stream, request: SubscribeRequest) -> bool:
    position = request.position
    if stream.end_reason is None or position is None:
        return False
    return position.epoch in ("", stream.epoch) and position.seq == stream.log.head
