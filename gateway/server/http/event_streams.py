"""Consumers over plain HTTP: `…/sse` (SPEC §9.3) and `…/ui-message-stream` (SPEC §9.4)."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeAlias

from msgspec.structs import replace
from websockets.http11 import Response

from deltawire.gateway.server.admission.request import AdmissionRequest
from deltawire.gateway.server.connection.streaming import StreamingConnection
from deltawire.gateway.server.http.routes import refusing
from deltawire.gateway.server.http.target import UI_MESSAGES
from deltawire.gateway.server.responses import EventsResponse, respond_head, respond_nothing
from deltawire.gateway.server.subscribing import Subscribing, Ticket
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol import ui_messages
from deltawire.protocol.addresses import (
    SubscribeRequest,
    check_stream_id,
    parse_subscribe,
    parse_ui_message_stream,
)
from deltawire.protocol.codec import JSON
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import StreamError, WireError, is_not_found
from deltawire.protocol.event_stream import COMMENT, CONTENT_TYPE, Body, EventStream, parse_event_id, retry
from deltawire.protocol.position import Position

RETRY: Final = (1000, 3000)
"""Milliseconds after which EventSource connects again, least and most: readers that are lost together must not come
back together."""

HEADERS: Final = {
    "Content-Type": CONTENT_TYPE,
    "Cache-Control": "no-cache, no-transform",  # a proxy that compresses waits for more first
    "X-Accel-Buffering": "no",  # nginx's; other proxies have taken it over
}

Serve: TypeAlias = Callable[[Ticket, StreamingConnection], Awaitable[None]]
Wanted: TypeAlias = tuple[Stream, SubscribeRequest]


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
        """Respond with events; with 204 if there are none and will be none."""
        return refusing(partial(self._answer, incoming))

    def _answer(self, incoming: AdmissionRequest) -> Response:
        http = incoming.request
        is_ui = incoming.target.tail == UI_MESSAGES
        wanted = self._find_message(incoming) if is_ui else self._find_events(incoming)
        if wanted is None or incoming.connection.is_gone:
            return respond_nothing()
        stream, request = wanted
        body = Body(is_chunked=http.protocol != "HTTP/1.0")
        headers = HEADERS | ({"Transfer-Encoding": "chunked"} if body.is_chunked else {})
        if is_ui:
            headers |= ui_messages.HEADER
        if http.method == "HEAD":
            return respond_head(headers)
        encoding = JSON if is_ui else EventStream(stream.epoch, body)
        ticket = self._subscribing.subscribe(stream, request, incoming.connection.grant, encoding)
        serve = partial(self._serve, ticket)
        if is_ui:
            message = ui_messages.UiMessage(seeks=request.position is None)
            return EventsResponse(headers, body, COMMENT, encoding, serve, message)
        milliseconds = random.randint(*RETRY)  # noqa: S311 - it spreads clients, and keeps no secret
        return EventsResponse(headers, body, retry(milliseconds), encoding, serve)

    def _find_events(self, incoming: AdmissionRequest) -> Wanted | None:
        """Find what a reader of events wants; None if it has everything of a stream that has ended."""
        stream_id = check_stream_id(incoming.target.stream_id)
        request = parse_subscribe(incoming.target.query)
        request = _resume(request, incoming.request.headers.get_all("Last-Event-ID"))
        stream = self._subscribing.find(stream_id, request)
        return None if _has_everything(stream, request) else (stream, request)

    def _find_message(self, incoming: AdmissionRequest) -> Wanted | None:
        """Find the latest message of a stream, or the first; None if there is none and none is to be expected."""
        stream_id = check_stream_id(incoming.target.stream_id)
        request = parse_ui_message_stream(incoming.target.query)
        try:
            stream = self._subscribing.find(stream_id, request)
        except StreamError as error:
            if is_not_found(error):
                return None
            raise
        if not stream.log.head and (stream.is_closed or not (request.create or stream.publishing)):
            return None
        start = stream.log.message_start
        return stream, replace(request, position=Position(stream.epoch, start - 1)) if start else request


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
