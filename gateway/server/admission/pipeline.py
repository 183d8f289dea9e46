"""Admission: refuse, answer or upgrade a request (SPEC §2.3).

The steps are one ordered list of functions. A step returns a refusal (or, for plain HTTP, the response), or None, which
leaves the request to the next step. A request that passes every step is upgraded.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from inspect import isawaitable

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from deltawire.gateway.access.credentials import is_bearer, split_query
from deltawire.gateway.engines.engine import Elsewhere
from deltawire.gateway.hub import Hub
from deltawire.gateway.logs import get_logger
from deltawire.gateway.server.accepting.handshakes import Handshakes
from deltawire.gateway.server.accepting.routing import Siblings
from deltawire.gateway.server.admission.auth import AccessControl
from deltawire.gateway.server.admission.request import (
    AdmissionRequest,
    Step,
    offered_subprotocols,
    select_subprotocol,
)
from deltawire.gateway.server.admission.steps import CapacityChecks
from deltawire.gateway.server.connection.connection import GatewayConnection
from deltawire.gateway.server.http.assets import CONSOLE
from deltawire.gateway.server.http.event_streams import EventStreams
from deltawire.gateway.server.http.polling import wait_for_events
from deltawire.gateway.server.http.publishing import Publishing
from deltawire.gateway.server.http.refusing import respond_error
from deltawire.gateway.server.http.routes import Site, allowed_methods, answer
from deltawire.gateway.server.http.target import SSE, SUBSCRIBE, UI_MESSAGES, is_upgrade, parse_target
from deltawire.gateway.server.relaying.nodes import Nodes
from deltawire.gateway.server.relaying.reaching import UnreachableError
from deltawire.gateway.server.responses import (
    leave_out_body,
    leave_out_known,
    respond_later,
    respond_nothing,
    respond_problem,
)
from deltawire.protocol.addresses import (
    PREFIX,
    check_stream_id,
    parse_publish,
    parse_subscribe,
    parse_ui_message_stream,
)
from deltawire.protocol.codec import CODECS
from deltawire.protocol.errors import StreamError, WireError

log = get_logger()

_GOING = "the gateway is shutting down"
_QUOTED = re.compile(r" at \d+ in .*")  # quotes a whole header that can't be parsed, which may hold a token
_READS = {SUBSCRIBE: parse_subscribe, SSE: parse_subscribe, UI_MESSAGES: parse_ui_message_stream}
_EVERY_METHOD = "GET, HEAD, POST, PUT, DELETE, OPTIONS"


class Admission:
    """The steps of a gateway.

    Args:
        access: judges origins, tokens and permissions.
        hub: its streams, which plain HTTP shows.
        render_metrics: returns the response of `/metrics`.
        handshakes: holds sockets until their request is complete.
        capacity: checks limits on connections and memory.
        event_streams: answers requests for streams over plain HTTP.
        publishing: answers requests that publish over plain HTTP.
        nodes: the other gateways on the same engine, which answer requests about their streams.
        siblings: the other workers of the gateway, for which some responses speak too.
        has_console: whether the console is served.

    Attributes:
        is_leaving: the gateway shuts down, and `/readyz` says so.
        is_draining: new peers are refused.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what requests are judged and answered with
        self,
        access: AccessControl,
        hub: Hub,
        render_metrics: Callable[[], bytes],
        handshakes: Handshakes,
        capacity: CapacityChecks,
        event_streams: EventStreams,
        publishing: Publishing,
        nodes: Nodes,
        siblings: Siblings | None = None,
        *,
        has_console: bool = True,
    ) -> None:
        self._access = access
        self._has_console = has_console
        self._siblings = siblings
        self._nodes = nodes
        self._hub = hub
        self._handshakes = handshakes
        self._render_metrics = render_metrics
        self._event_streams = event_streams
        self._publishing = publishing
        self.is_leaving = False
        self.is_draining = False
        self._waiting: set[asyncio.Timeout] = set()  # for whose a stream is
        self._steps: tuple[Step, ...] = (
            nodes.check_relayed,
            capacity.check_address,
            access.check_certificate,
            access.check_origin,
            access.check_host,
            access.answer_preflight,
            access.identify,
            capacity.check_token,
            self._check_console,
            check_method,
            access.check_permission,
            capacity.check_memory_for_answer,
            self._locate,
            self._wait_for_events,
            self._answer_http,
            check_upgrade,
            self._check_draining,
            capacity.check_memory,
            check_subprotocols,
            self._claim,
            self._answer_with_events,
            self._answer_with_acks,
        )

    async def refuse_new(self) -> None:
        """Refuse new peers from now on, and those who wait to learn whose their stream is."""
        self.is_draining = True
        before = self._waiting.copy()
        for waiting in before:
            if not waiting.expired():  # else its time is over in this turn, and it ends by itself
                waiting.reschedule(0.0)
        while before & self._waiting:  # noqa: ASYNC110 - each is refused in one of the next turns
            await asyncio.sleep(0)

    async def judge(self, connection: ServerConnection, request: Request) -> Response | None:
        """Return the response to a request, or None to upgrade it. For `process_request` of `websockets`."""
        try:
            return await self._judge(connection, request)
        except Exception:
            self._hub.tally.faults += 1
            log.exception("admission.failed")
            return respond_problem(
                HTTPStatus.INTERNAL_SERVER_ERROR, "the gateway failed on this request; it has been logged"
            )

    async def _judge(self, connection: ServerConnection, request: Request) -> Response | None:
        assert isinstance(connection, GatewayConnection), "the factory makes nothing else"
        self._handshakes.asked(connection)
        path, _, query = request.path.partition("?")
        tokens, query = split_query(query)
        incoming = AdmissionRequest(connection, request, parse_target(f"{path}?{query}", request.method), tokens)
        connection.target = incoming.target
        for step in self._steps:
            response = step(incoming)
            if isawaitable(response):
                response = await response
            if response is not None:
                return response
        return None

    def conclude(self, connection: ServerConnection, request: Request, response: Response) -> Response | None:
        """Add the selected subprotocol; count refused handshakes, and give them one form. For `process_response`.

        The library's own way to select a subprotocol would make every connection refer to itself.
        """
        if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            name = select_subprotocol(offered_subprotocols(request.headers))
            if name is not None:
                connection.protocol.subprotocol = Subprotocol(name)
                response.headers["Sec-WebSocket-Protocol"] = name
            return None
        if response.status_code >= HTTPStatus.BAD_REQUEST and parse_target(request.path, request.method).is_endpoint:
            self._hub.tally.refuse(response.status_code)
        response = leave_out_known(request, reword_refusal(response) or response)
        self._access.allow_reading(request, response)
        return leave_out_body(response) if request.method == "HEAD" else response

    def _check_console(self, incoming: AdmissionRequest) -> Response | None:
        is_hidden = not self._has_console and incoming.target.tail in CONSOLE
        return _respond_unknown() if is_hidden else None

    def _locate(self, incoming: AdmissionRequest) -> Response | Awaitable[Response | None] | None:
        """Find the stream, where another gateway may have it: that one answers then, unless it can't be reached.

        While it is in doubt whose a stream is that is here, nobody is told anything of it.
        """
        stream_id = incoming.target.stream_id
        incoming.connection.mirror = self._nodes.follows.find(incoming)
        if incoming.connection.mirror is not None:
            return None
        if (doubt := self._hub.doubt) is not None and self._hub.manager.has(stream_id):
            return respond_later(HTTPStatus.SERVICE_UNAVAILABLE, doubt)
        finding = self._hub.dispatcher.locate(stream_id) if stream_id and _is_id(stream_id) else None
        return None if finding is None else self._go_there(incoming, finding)

    def _claim(self, incoming: AdmissionRequest) -> Awaitable[Response | None] | None:
        """Begin a new stream before its client hears anything, as another gateway may begin it too, and be quicker."""
        connection = incoming.connection
        if connection.elsewhere or connection.mirror is not None or not may_begin(incoming):
            return None
        claiming = self._hub.dispatcher.claim(incoming.target.stream_id)
        return None if claiming is None else self._go_there(incoming, claiming)

    async def _go_there(self, incoming: AdmissionRequest, finding: Awaitable[Elsewhere | None]) -> Response | None:
        """Have another gateway answer, if the stream is found to be that one's; refuse if it can't be reached."""
        try:
            async with asyncio.timeout(0 if self.is_draining else None) as waiting:
                self._waiting.add(waiting)
                try:
                    return await self._find_and_go(incoming, finding)
                finally:
                    self._waiting.discard(waiting)
        except TimeoutError:
            if not waiting.expired():
                raise
            return self._check_draining(incoming)

    async def _find_and_go(self, incoming: AdmissionRequest, finding: Awaitable[Elsewhere | None]) -> Response | None:
        elsewhere = await finding
        if elsewhere is None or self.is_draining:
            return self._check_draining(incoming)
        why = elsewhere.why
        if elsewhere.key and elsewhere.url and not incoming.connection.is_relayed:
            try:
                return await self._nodes.serve(incoming, elsewhere)
            except UnreachableError as error:
                why = str(error)
        incoming.connection.elsewhere = why
        return None if incoming.target.is_websocket else respond_later(HTTPStatus.SERVICE_UNAVAILABLE, why)

    async def _wait(self, incoming: AdmissionRequest) -> Response | None:
        try:
            response = await wait_for_events(self._hub, incoming)
        except (WireError, StreamError) as error:
            return respond_error(error)
        return respond_nothing() if incoming.connection.is_gone else response

    def _wait_for_events(self, incoming: AdmissionRequest) -> Awaitable[Response | None] | None:
        """Wait for events for a page, if the client asks for that."""
        if self.is_draining or not (incoming.target.stream_id and incoming.target.tail == "/events"):
            return None
        return self._wait(incoming)

    def _answer_http(self, incoming: AdmissionRequest) -> Response | Awaitable[Response] | None:
        """Answer plain HTTP; let requests pass that make a consumer or a producer."""
        if incoming.target.is_endpoint:
            return None
        site = Site(self._hub, self._not_ready(), self._render_metrics, incoming.connection)
        response = answer(site, incoming.request.method, incoming.target)
        if incoming.connection.is_question or not isinstance(response, Response):
            return response
        if self._siblings is None:
            return self._nodes.complete(incoming, response)
        completed = self._siblings.complete(incoming.request, incoming.target, response)
        return completed if isinstance(completed, Response) else self._complete_for_nodes(incoming, completed)

    async def _complete_for_nodes(self, incoming: AdmissionRequest, of_workers: Awaitable[Response]) -> Response:
        completed = self._nodes.complete(incoming, await of_workers)
        return completed if isinstance(completed, Response) else await completed

    def _answer_with_events(self, incoming: AdmissionRequest) -> Response | None:
        """Answer a request for a stream over plain HTTP."""
        return self._event_streams.answer(incoming) if incoming.target.is_event_stream else None

    def _answer_with_acks(self, incoming: AdmissionRequest) -> Response | Awaitable[Response] | None:
        """Answer a request that publishes over plain HTTP."""
        return self._publishing.answer(incoming) if incoming.target.is_upload else None

    def _not_ready(self) -> str | None:
        """Why no new work should be sent here; None if it may be."""
        if self.is_leaving or self.is_draining:
            return _GOING
        if (failure := self._hub.storage_failure) is not None:
            return f"nothing can be stored: {failure}"
        manager = self._hub.manager
        if not manager.make_room(self._hub.now()):  # the next event would make room as well
            return f"memory_limit ({manager.memory_limit} bytes) is reached and every stream is in use"
        return None

    def _check_draining(self, _incoming: AdmissionRequest) -> Response | None:
        if not self.is_draining:
            return None
        return respond_later(HTTPStatus.SERVICE_UNAVAILABLE, f"{_GOING}: connect elsewhere, or later")


def check_method(incoming: AdmissionRequest) -> Response | None:
    """Refuse an unknown path, and a method that its path does not have; tell OPTIONS which it has (RFC 9110 §9.3.7).

    No permission is needed for that: it is the same for every stream.
    """
    method, target = incoming.request.method, incoming.target
    is_of_all = method == "OPTIONS" and target.tail == "*"
    allowed = _EVERY_METHOD if is_of_all else allowed_methods(target)
    if not allowed:
        return _respond_unknown()
    if method == "OPTIONS":
        return respond_nothing(Allow=allowed)
    if method not in allowed.split(", "):
        return respond_problem(
            HTTPStatus.METHOD_NOT_ALLOWED, f"{method} is not possible here; allowed: {allowed}", Allow=allowed
        )
    return None


def _respond_unknown() -> Response:
    return respond_problem(HTTPStatus.NOT_FOUND, f"no such path; streams are under {PREFIX}")


def _is_id(text: str) -> bool:
    try:
        check_stream_id(text)
    except ValueError:
        return False
    return True


def may_begin(incoming: AdmissionRequest) -> bool:
    """Whether a request begins its stream if there is none; not one whose query is refused later on."""
    target = incoming.target
    try:
        check_stream_id(target.stream_id)
        if target.publishes:
            parse_publish(target.query)
            return True
        parse = _READS.get(target.tail)
        return parse is not None and incoming.request.method == "GET" and parse(target.query).create
    except (ValueError, WireError):
        return False


def check_upgrade(incoming: AdmissionRequest) -> Response | None:
    """Refuse a request that asks for no upgrade where only a WebSocket is served."""
    if incoming.target.is_event_stream or incoming.target.is_upload:
        return None
    if incoming.request.method == "GET" and is_upgrade(incoming.request.headers):
        return None
    return respond_problem(
        HTTPStatus.UPGRADE_REQUIRED, "this is a WebSocket endpoint: connect with ws://", Upgrade="websocket"
    )


def check_subprotocols(incoming: AdmissionRequest) -> Response | None:
    """Refuse a client that offers subprotocols, tokens aside, but none that is known."""
    if not incoming.target.is_websocket:
        return None
    offered = [name for name in offered_subprotocols(incoming.request.headers) if not is_bearer(name)]
    if not offered or any(name in CODECS for name in offered):
        return None
    return respond_problem(
        HTTPStatus.BAD_REQUEST, f"none of the subprotocols offered is known; known: {', '.join(CODECS)}"
    )


def reword_refusal(response: Response) -> Response | None:
    """Convert a refusal of the library to the form of all others; None if it has that form, or is no refusal."""
    is_plain = response.headers.get("Content-Type", "").startswith("text/plain")
    if response.status_code < HTTPStatus.BAD_REQUEST or not is_plain:
        return None
    status = HTTPStatus(response.status_code)
    upgrade = {"Upgrade": "websocket"} if status is HTTPStatus.UPGRADE_REQUIRED else {}
    why = response.body.decode().partition("\n")[0]
    return respond_problem(status, _QUOTED.sub("", why), **upgrade)
