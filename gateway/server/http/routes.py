"""HTTP on the same port: streams, pages of events, schema, metrics, health (SPEC §9).

A route is a row of a table: path, method, and a function from the site and the request's parts to a response. A refusal
is a status with an `application/problem+json` body (RFC 9457).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from functools import cache, partial
from http import HTTPStatus
from itertools import chain
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import replace
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from websockets.http11 import Response

from deltawire.gateway.access import Action, Grant
from deltawire.gateway.hub import Hub
from deltawire.gateway.server.connection.connection import GatewayConnection
from deltawire.gateway.server.http import openai_responses
from deltawire.gateway.server.http.assets import ASSETS
from deltawire.gateway.server.http.refusing import refusing, refusing_late
from deltawire.gateway.server.http.target import EVENTS, RESPONSES, SIGNAL, Target
from deltawire.gateway.server.responses import (
    PIECE,
    LongResponse,
    respond,
    respond_json,
    respond_problem,
)
from deltawire.gateway.server.subscribing import check_position
from deltawire.gateway.streams.log import Log
from deltawire.gateway.streams.stream import Stream
from deltawire.gateway.streams.view import View
from deltawire.protocol.addresses import (
    PREFIX,
    check_stream_id,
    parse_create,
    parse_events,
    parse_list,
    parse_nothing,
    parse_response,
)
from deltawire.protocol.asyncapi import VERSION, asyncapi
from deltawire.protocol.codec import JSON
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import ErrorKind, StreamError, WireError, is_invalid
from deltawire.protocol.framing import payload_start, payloads
from deltawire.protocol.position import Position
from deltawire.protocol.schema import json_schema

NDJSON_TYPE: Final = "application/x-ndjson"

EPOCH_HEADER: Final = "Deltawire-Epoch"
"""In which a page of events says whose numbers it has."""

PAGE_BYTES = 1024 * 1024
"""Most bytes of a page of events, apart from its first event."""


class Site(NamedTuple):
    """What the responses to plain HTTP requests are made from.

    Attributes:
        hub: the streams.
        not_ready: why the gateway should get no new work; None if it should.
        render_metrics: gives the metrics in Prometheus' text format.
        connection: waits for the response.
    """

    hub: Hub
    not_ready: str | None
    render_metrics: Callable[[], bytes]
    connection: GatewayConnection

    @property
    def grant(self) -> Grant:
        """What the client may do."""
        return self.connection.grant


def allowed_methods(target: Target) -> str:
    """The methods of a path, as in the header `Allow`; empty if there is no such path."""
    methods: Iterable[str] = _handlers(target)
    if target.stream_id and target.tail in (EVENTS, SIGNAL):
        methods = (*methods, "POST")
    elif target.is_endpoint:
        methods = ("GET",)
    return ", ".join((*methods, "OPTIONS")).replace("GET", "GET, HEAD") if methods else ""


def _handlers(target: Target) -> Mapping[str, Handler]:
    return (_STREAM_ROUTES if target.stream_id else _ROUTES).get(target.tail, {})


def answer(site: Site, method: str, target: Target) -> Response | Awaitable[Response]:
    """Answer a plain HTTP request.

    Args:
        site: what the response is made from.
        method: one of `allowed_methods` but OPTIONS; HEAD is answered like GET, and the caller leaves the body out.
        target: the request's path and query.
    """
    handle = _handlers(target)["GET" if method == "HEAD" else method]
    response = refusing(partial(_handle, handle, site, target))
    return response if isinstance(response, Response) else refusing_late(response)


def _handle(handle: Handler, site: Site, target: Target) -> Response | Awaitable[Response]:
    _check_permission(handle, site.grant, target.stream_id)
    if target.stream_id:
        check_stream_id(target.stream_id)
    return handle(site, target)


Handler = Callable[[Site, Target], Response | Awaitable[Response]]


def _list(site: Site, target: Target) -> Response:
    asked, seen = parse_list(target.query), site.grant.seen
    return respond_json(site.hub.page(seen.exact, seen.prefixes, asked.after, asked.limit))


def _info(site: Site, target: Target) -> Response:
    parse_nothing(target.query)
    return respond_json(site.hub.info(target.stream_id))


def _create(site: Site, target: Target) -> Response | Awaitable[Response]:
    asked = parse_create(target.query)
    if not site.grant.may_choose(asked.policy):
        raise WireError(ProblemCode.FORBIDDEN, f"the token does not allow policy {asked.policy}")
    default = site.hub.manager.settings
    settings = replace(default, policy=asked.policy or default.policy, buffer=asked.buffer or default.buffer)
    settings.check_policy(settings.policy)
    _check_storage(site, target.stream_id, "created")
    try:
        site.hub.create(target.stream_id, settings)
    except StreamError as error:
        if is_invalid(error):  # the id is valid, as checked above, so it is taken
            return respond_problem(HTTPStatus.CONFLICT, str(error))
        raise
    response = _respond_stored(site, target.stream_id, HTTPStatus.CREATED)
    return response if isinstance(response, Response) else _unless_taken(site, target.stream_id, response)


async def _unless_taken(site: Site, stream_id: str, creating: Awaitable[Response]) -> Response:
    """Wait for a response; refuse if another gateway has created the stream at the same moment."""
    try:
        return await creating
    except StreamError:
        if site.hub.manager.has(stream_id):
            raise
        why = f"create {stream_id!r}: another gateway has created the stream at the same moment"
        return respond_problem(HTTPStatus.CONFLICT, why)


def _close(site: Site, target: Target) -> Response | Awaitable[Response]:
    parse_nothing(target.query)
    _check_storage(site, target.stream_id, "closed")
    if site.hub.manager.get(target.stream_id).blocking.is_held:
        detail = "middleware is still at work on an event of this stream: try again"
        raise StreamError(ErrorKind.FULL, "close", target.stream_id, detail)
    site.hub.close(target.stream_id)
    return _respond_stored(site, target.stream_id)


def _check_storage(site: Site, stream_id: str, change: str) -> None:
    """Refuse a change that could not be stored.

    Args:
        site: what is asked.
        stream_id: of the stream to be changed.
        change: what would be done to it, as a participle.

    Raises:
        WireError: `overloaded`.
    """
    if (failure := site.hub.storage_failure) is not None:
        why = f"nothing can be stored now ({failure}): try again later"
        raise WireError(ProblemCode.OVERLOADED, f"stream {stream_id!r} can't be {change}, as {why}")


def _respond_stored(site: Site, stream_id: str, status: HTTPStatus = HTTPStatus.OK) -> Response | Awaitable[Response]:
    """Describe a stream, once what was changed is stored, if anything is."""
    stream = site.hub.manager.get(stream_id)
    if stream.staging is None:
        return respond_json(site.hub.describe(stream), status)

    async def wait() -> Response:
        await site.hub.dispatcher.commit_in_time(stream)
        return respond_json(site.hub.describe(stream), status)

    return wait()


def _events(site: Site, target: Target) -> Response | Awaitable[Response]:
    request = parse_events(target.query)
    stream = site.hub.manager.get(target.stream_id)
    check_position(site.hub, stream, Position(request.epoch, request.after))
    after = request.after if request.epoch in ("", stream.epoch) else 0
    cursor = max(after, stream.floor - 1)
    if cursor + 1 < stream.log.floor:
        return _stored_page(site, stream, cursor, request.limit)
    return _held_page(stream, cursor, request.limit)


def _held_page(stream: Stream, cursor: int, limit: int) -> Response:
    """A page of events in memory."""
    pieces = _page(stream.log, cursor, limit)
    first, second = next(pieces, b""), next(pieces, b"")
    headers = {EPOCH_HEADER: stream.epoch}
    if not second:
        return respond(HTTPStatus.OK, first, NDJSON_TYPE, **headers)
    return LongResponse(NDJSON_TYPE, chain((first, second), pieces), **headers)


def _page(log: Log, after: int, limit: int) -> Iterator[bytes]:
    """Yield held events after a position as lines of JSON; at most `limit` of them and about `PAGE_BYTES`.

    If the next event is trimmed or unloaded meanwhile, the page ends early, as a page may.
    """
    cursor = max(after, log.floor - 1)
    if cursor >= log.head:
        return
    upto = min(cursor + limit, log.furthest_within(cursor, PAGE_BYTES))
    view = View(log, JSON, None)
    while log.floor - 1 <= cursor < upto:
        batch = view.raw(cursor, upto, PIECE)
        cursor = batch.last
        yield b"".join(payload + b"\n" for payload in payloads(batch.data))


async def _stored_page(site: Site, stream: Stream, cursor: int, limit: int) -> Response:
    """A page of events that memory does not hold; those that can't be read are left out."""
    while cursor + 1 < stream.log.floor:
        page = await site.hub.dispatcher.read_back(stream, cursor, PAGE_BYTES)
        cursor = page.last
        if page.frames:
            lines = b"".join(frame[payload_start(frame) :] + b"\n" for frame in page.frames[:limit])
            return respond(HTTPStatus.OK, lines, NDJSON_TYPE, **{EPOCH_HEADER: stream.epoch})
    return _held_page(stream, cursor, limit)


def _retrieve(site: Site, target: Target) -> Awaitable[Response]:
    parse_response(target.query)
    return openai_responses.retrieve(site.hub, site.connection, site.hub.manager.get(target.stream_id))


def _cancel(site: Site, target: Target) -> Awaitable[Response]:
    parse_nothing(target.query)
    return openai_responses.cancel(site.hub, site.connection, site.hub.manager.get(target.stream_id))


def _schema(_site: Site, _target: Target) -> Response:
    return respond(HTTPStatus.OK, _document(json_schema), "application/schema+json")


def _asyncapi(_site: Site, _target: Target) -> Response:
    return respond(HTTPStatus.OK, _document(asyncapi), f"application/vnd.aai.asyncapi+json;version={VERSION}")


def _asset(site: Site, target: Target) -> Response:
    request = site.connection.request
    assert request is not None, "it is being answered"
    return ASSETS[target.tail].respond(request.headers)


def _live(_site: Site, _target: Target) -> Response:
    return respond_json({"status": "ok"})


def _ready(site: Site, _target: Target) -> Response:
    if site.not_ready is not None:
        return respond_problem(HTTPStatus.SERVICE_UNAVAILABLE, site.not_ready)
    return respond_json({"status": "ok"})


def _metrics(site: Site, _target: Target) -> Response:
    return respond(HTTPStatus.OK, site.render_metrics(), CONTENT_TYPE_PLAIN_0_0_4)


@cache
def _document(make: Callable[[], object]) -> bytes:
    """A document of the protocol, made when it is first asked for: few gateways are."""
    return msgspec.json.encode(make()) + b"\n"


_ROUTES: dict[str, dict[str, Handler]] = {
    PREFIX: {"GET": _list},
    "/v1/schema.json": {"GET": _schema},
    "/v1/asyncapi.json": {"GET": _asyncapi},
    "/metrics": {"GET": _metrics},
    "/livez": {"GET": _live},
    "/readyz": {"GET": _ready},
    "/healthz": {"GET": _ready},
    **{path: {"GET": _asset} for path in ASSETS},
}

_STREAM_ROUTES: dict[str, dict[str, Handler]] = {
    "": {"GET": _info, "PUT": _create, "DELETE": _close},
    EVENTS: {"GET": _events},
    RESPONSES: {"GET": _retrieve},
    RESPONSES + "/cancel": {"POST": _cancel},
}


class Need(NamedTuple):
    """What a token must allow for a request.

    Attributes:
        is_met: whether a grant allows it, for a stream id.
        words: the permission, for a client that lacks it.
    """

    is_met: Callable[[Grant, str], bool]
    words: str


def _check_permission(handle: Handler, grant: Grant, stream_id: str) -> None:
    need = _NEEDS.get(handle)
    if need is not None and not need.is_met(grant, stream_id):
        raise WireError(ProblemCode.FORBIDDEN, f"the token does not allow this: it needs {need.words}")


_ADMIN = Need(lambda grant, stream_id: grant.may(Action.ADMIN, stream_id), "`admin` of this stream")

_SUBSCRIBE = Need(lambda grant, stream_id: grant.may(Action.SUBSCRIBE, stream_id), "`subscribe` of this stream")
_SIGNAL = Need(
    lambda grant, stream_id: grant.may(Action.SIGNAL, stream_id) and grant.may(Action.SUBSCRIBE, stream_id),
    "`signal` and `subscribe` of this stream",
)

_NEEDS: dict[Handler, Need] = {
    _info: Need(Grant.may_see, "`subscribe` or `admin` of this stream"),
    _create: _ADMIN,
    _close: _ADMIN,
    _events: _SUBSCRIBE,
    _retrieve: _SUBSCRIBE,
    _cancel: _SIGNAL,
    _metrics: Need(lambda grant, _: grant.may_administer_all, "`admin` of all streams (`*`)"),
}
"""What a token must allow for each route. `_list` shows only streams that the client may see; the others are public."""
