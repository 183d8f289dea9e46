"""Consumers over plain HTTP, in three protocols (SPEC §9.3 to §9.5).

Each is a request that says what to read, and perhaps a translator of what the consumer is sent.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, NamedTuple, TypeAlias

from msgspec.structs import replace
from websockets.http11 import Response

from deltawire.gateway.server.admission.request import AdmissionRequest
from deltawire.gateway.server.connection.streaming import StreamingConnection, Translator
from deltawire.gateway.server.http.refusing import refusing
from deltawire.gateway.server.http.target import RESPONSES, SSE, UI_MESSAGES
from deltawire.gateway.server.responses import EventsResponse, respond_head, respond_nothing
from deltawire.gateway.server.subscribing import Subscribing, Ticket
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol import ui_messages
from deltawire.protocol.addresses import (
    MAX_BUFFER,
    SubscribeRequest,
    check_stream_id,
    parse_response,
    parse_subscribe,
    parse_ui_message_stream,
)
from deltawire.protocol.codec import JSON
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import StreamError, WireError, is_not_found
from deltawire.protocol.event_stream import COMMENT, CONTENT_TYPE, Body, EventStream, parse_event_id, retry
from deltawire.protocol.messages import Policy
from deltawire.protocol.openai_responses import ResponseReader
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


class Wanted(NamedTuple):
    """What a request wants.

    Attributes:
        stream: to be read.
        request: how to read it.
        opening: the beginning of the body.
        translator: says it in another protocol.
        headers: of that protocol.
    """

    stream: Stream
    request: SubscribeRequest
    opening: bytes = COMMENT
    translator: Translator | None = None
    headers: dict[str, str] = {}  # noqa: RUF012 - it is never changed


class EventStreams:
    """Answers requests for streams over plain HTTP.

    Args:
        subscribing: makes consumers.
        serve: serves the consumer of a ticket on a connection until that is gone.
    """

    def __init__(self, subscribing: Subscribing, serve: Serve) -> None:
        self._subscribing = subscribing
        self._serve = serve
        self._finders = {SSE: self._find_events, UI_MESSAGES: self._find_message, RESPONSES: self._find_response}

    def answer(self, incoming: AdmissionRequest) -> Response:
        """Respond with events; with 204 if there are none and will be none."""
        return refusing(partial(self._answer, incoming))

    def _answer(self, incoming: AdmissionRequest) -> Response:
        http = incoming.request
        wanted = self._finders[incoming.target.tail](incoming, check_stream_id(incoming.target.stream_id))
        if wanted is None or incoming.connection.is_gone:
            return respond_nothing()
        body = Body(is_chunked=http.protocol != "HTTP/1.0")
        headers = HEADERS | wanted.headers | ({"Transfer-Encoding": "chunked"} if body.is_chunked else {})
        if http.method == "HEAD":
            return respond_head(headers)
        encoding = EventStream(wanted.stream.epoch, body) if wanted.translator is None else JSON
        ticket = self._subscribing.subscribe(wanted.stream, wanted.request, incoming.connection.grant, encoding)
        return EventsResponse(headers, body, wanted.opening, encoding, partial(self._serve, ticket), wanted.translator)

    def _find_events(self, incoming: AdmissionRequest, stream_id: str) -> Wanted | None:
        """Find what a reader of events wants; None if it has everything of a stream that has ended."""
        request = _parse_events(incoming)
        stream = self._subscribing.find(incoming.connection, stream_id, request)
        if _has_everything(stream, request):
            return None
        milliseconds = random.randint(*RETRY)  # noqa: S311 - it spreads clients, and keeps no secret
        return Wanted(stream, request, retry(milliseconds))

    def _find_message(self, incoming: AdmissionRequest, stream_id: str) -> Wanted | None:
        """Find the latest message of a stream, or the first; None if there is none and none is to be expected."""
        request = parse_ui_message_stream(incoming.target.query)
        try:
            stream = self._subscribing.find(incoming.connection, stream_id, request)
        except StreamError as error:
            if is_not_found(error):
                return None
            raise
        if not stream.log.head and (stream.is_closed or not (request.create or stream.publishing)):
            return None
        request = from_latest_message(stream, request)
        translator = ui_messages.UiMessage(seeks=request.position is None)
        return Wanted(stream, request, translator=translator, headers=ui_messages.HEADER)

    def _find_response(self, incoming: AdmissionRequest, stream_id: str) -> Wanted:
        """Find the latest message of a stream, to be read unfolded: each delta has its number."""
        asked = parse_response(incoming.target.query)
        request = SubscribeRequest(policy=Policy.DISCONNECT, buffer=MAX_BUFFER, create=False)
        stream = self._subscribing.find(incoming.connection, stream_id, request)
        request = from_latest_message(stream, request)
        translator = ResponseReader(stream_id, asked.starting_after, seeks=request.position is None)
        return Wanted(stream, request, translator=translator)


def from_latest_message(stream: Stream, request: SubscribeRequest) -> SubscribeRequest:
    """Let a request begin with the latest message of its stream; with the stream if nobody knows where that began."""
    start = stream.log.message_start
    return replace(request, position=Position(stream.epoch, start - 1)) if start else request


def request_of(incoming: AdmissionRequest) -> SubscribeRequest | None:
    """What a consumer asks for, on a WebSocket or over plain HTTP; None if it is none, or asks for what can't be."""
    target = incoming.target
    if target.publishes or incoming.request.method != "GET" or not (target.is_websocket or target.is_event_stream):
        return None
    try:
        if target.tail == UI_MESSAGES:
            return parse_ui_message_stream(target.query)
        return SubscribeRequest() if target.tail == RESPONSES else _parse_events(incoming)
    except WireError:
        return None


def _parse_events(incoming: AdmissionRequest) -> SubscribeRequest:
    request = parse_subscribe(incoming.target.query)
    is_sse = incoming.target.tail == SSE
    return _resume(request, incoming.request.headers.get_all("Last-Event-ID")) if is_sse else request


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
