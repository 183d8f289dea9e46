"""The other nodes on the same engine: relaying to them what they own, and judging what they relay."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from http import HTTPStatus
from typing import Final

import msgspec
from websockets.http11 import Request, Response

from deltawire.gateway.config import Settings
from deltawire.gateway.engines.engine import Elsewhere, EngineError
from deltawire.gateway.hub import Hub
from deltawire.gateway.server.accepting.routing import Remote
from deltawire.gateway.server.admission.request import AdmissionRequest, offered_subprotocols, select_subprotocol
from deltawire.gateway.server.admission.steps import CapacityChecks
from deltawire.gateway.server.connection.connection import GatewayConnection
from deltawire.gateway.server.http.pages import merge_pages
from deltawire.gateway.server.http.target import is_upgrade
from deltawire.gateway.server.relaying.fields import (
    FOLLOWS,
    RELAYED,
    is_own_key,
    parse_node,
    question,
    read_relayed,
    relayed_head,
)
from deltawire.gateway.server.relaying.follows import Follows
from deltawire.gateway.server.relaying.pairs import Relays, Side
from deltawire.gateway.server.relaying.reaching import Reach, UnreachableError
from deltawire.gateway.server.relaying.relay import MAX_HEAD, NodeRelay
from deltawire.gateway.server.responses import JSON_TYPE, TakenOver, respond, respond_later, respond_nothing
from deltawire.protocol.addresses import MAX_WAIT, PREFIX, parse_list
from deltawire.protocol.codec import CODECS, JSON, Encoding

MAX_PAGE: Final = 4 * 1024 * 1024
"""Bytes of a page of streams that are taken of another node: seven times what the longest has."""

READ_SIZE: Final = 64 * 1024
"""Bytes read of it at a time."""

Serve = Callable[[GatewayConnection, Callable[[GatewayConnection], None]], Awaitable[None]]


class Nodes:
    """The other nodes, for one of them.

    Args:
        settings: `engine_timeout`, for a node to be reached and to answer what need not wait.
        hub: knows the key of this node; its tally counts what is relayed.
        capacity: counts connections under their addresses, and their memory.
        serve: serves a connection until it is gone.
    """

    def __init__(self, settings: Settings, hub: Hub, capacity: CapacityChecks, serve: Serve) -> None:
        self._hub = hub
        self._capacity = capacity
        self._serve = serve
        self._reach = Reach(settings.engine_timeout, hub.tally)
        self.relays: Relays[NodeRelay] = Relays()
        self.follows = Follows(settings, hub, self._reach)

    # What other nodes relay

    def check_relayed(self, incoming: AdmissionRequest) -> Response | None:
        """Believe another node who its client is; refuse what claims to be relayed to this node and is not.

        Ignoring that would let a request go round: its address may lead to another node than it was meant for.
        """
        connection = incoming.connection
        if values := incoming.request.headers.get_all(FOLLOWS):
            return self._check_follow(connection, values)
        values = incoming.request.headers.get_all(RELAYED)
        if not values:
            return None
        client = read_relayed(values, self._hub.node_key, connection.remote)
        if client is None:
            return _respond_not_meant()
        node, connection.remote, connection.is_relayed = connection.remote.host, client, True
        return self._capacity.settle_relayed(connection, node)

    def _check_follow(self, connection: GatewayConnection, values: Sequence[str]) -> Response | None:
        """Let another node follow a stream: its key stands for a token, and for a certificate."""
        if not is_own_key(values, self._hub.node_key):
            return _respond_not_meant()
        own = connection.remote
        connection.remote = Remote(own.host, own.port, own.has_tls, has_certificate=True)
        connection.is_relayed = connection.is_follow = True
        self._capacity.settle_following(connection, own.host)
        return None

    # What is relayed to other nodes

    async def serve(self, incoming: AdmissionRequest, elsewhere: Elsewhere) -> Response | None:
        """Have the node that owns a stream answer, or serve a consumer here from what that node sends.

        Args:
            incoming: as for `relay`.
            elsewhere: likewise.

        Raises:
            UnreachableError: the node can't be reached.
        """
        incoming.connection.mirror = await self.follows.join(incoming, elsewhere)
        return None if incoming.connection.mirror is not None else await self.relay(incoming, elsewhere)

    async def relay(self, incoming: AdmissionRequest, elsewhere: Elsewhere) -> Response:
        """Connect to the node that owns a stream, and have it answer.

        Args:
            incoming: a request about the stream, which this node would serve.
            elsewhere: the node; it has said where it is, and has a key.

        Raises:
            UnreachableError: it can't be reached.
        """
        connection, request = incoming.connection, incoming.request
        client = self._capacity.client_of(incoming)
        has_tls = elsewhere.url.startswith("wss:")
        if (refusal := self._capacity.check_memory_for_relay(incoming, has_tls=has_tls)) is not None:
            return refusal
        node, transport, far = await self._reach.connect(elsewhere, Side)
        if connection.is_gone:
            transport.abort()
            return respond_nothing()
        head = relayed_head(request, connection.head.kept, node, elsewhere.key, client)
        return TakenOver(partial(self._take_over, incoming, transport, far, head))

    def _patience_for(self, request: Request) -> float:
        """Seconds that the other node has to begin its answer; 0 for an upload, which is answered in the end."""
        if is_upgrade(request.headers):
            return self._reach.timeout
        return 0 if request.method == "POST" else MAX_WAIT + self._reach.timeout

    # What speaks for all nodes

    def complete(self, incoming: AdmissionRequest, response: Response) -> Response | Awaitable[Response]:
        """Complete this node's list of streams with those of the others; another response stays as it is."""
        target = incoming.target
        is_list = not target.stream_id and target.tail == PREFIX and response.status_code == HTTPStatus.OK
        if not is_list or not self._hub.node_key or incoming.connection.is_relayed:
            return response
        return self._gather(incoming, bytes(response.body))

    async def _gather(self, incoming: AdmissionRequest, own: bytes) -> Response:
        try:
            others = await self._hub.other_nodes()
            pages = await asyncio.gather(*(self._ask(incoming, other) for other in others))
        except (EngineError, UnreachableError) as error:
            return respond_later(HTTPStatus.SERVICE_UNAVAILABLE, f"not all streams are known now: {error}")
        limit = parse_list(incoming.target.query).limit
        try:
            return respond(HTTPStatus.OK, merge_pages([own, *pages], limit), JSON_TYPE)
        except msgspec.MsgspecError:  # it was cut
            why = "not all streams are known now: the answer of another gateway can't be read"
            return respond_later(HTTPStatus.SERVICE_UNAVAILABLE, why)

    async def _ask(self, incoming: AdmissionRequest, other: Elsewhere) -> bytes:
        """Ask a node for its part of a list.

        Raises:
            UnreachableError: it does not give it.
        """
        client = self._capacity.client_of(incoming)
        try:
            node = parse_node(other.url)
            async with asyncio.timeout(self._reach.timeout):
                reader, writer = await asyncio.open_connection(node.host, node.port, ssl=self._reach.tls_of(node))
                try:
                    writer.write(relayed_head(question(incoming.request), (), node, other.key, client))
                    answer = await _read_all(reader)
                finally:
                    writer.transport.abort()
        except (OSError, ValueError) as error:
            self._reach.failed(other.url, error)
            raise UnreachableError(f"the gateway at {other.url} does not answer") from None
        head, _, body = answer.partition(b"\r\n\r\n")
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise UnreachableError(f"the gateway at {other.url} refuses to list its streams")
        if len(body) > MAX_PAGE:
            raise UnreachableError(f"the gateway at {other.url} says more than {MAX_PAGE} bytes")
        return body

    async def _take_over(
        self, incoming: AdmissionRequest, transport: asyncio.Transport, far: Side, head: bytes
    ) -> None:
        """Relay until the client is gone."""
        connection, target = incoming.connection, incoming.target
        if connection.is_gone:
            transport.abort()
            return
        body, has_ended = connection.take_body()
        connection.encoding = _encoding_of(incoming.request)
        relay = NodeRelay(
            connection,
            far,
            self.relays.discard,
            is_live=target.is_websocket or target.is_event_stream,
            patience=self._patience_for(incoming.request),
        )
        connection.relay = relay
        self.relays.add(relay)
        far.write(head + body)
        if has_ended:
            far.end_writing()
        relay.peer.resume_reading()
        await self._serve(connection, lambda _: None)


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    """Read an answer to its end, or a little more of it than may be taken."""
    answer = bytearray()
    while len(answer) <= MAX_PAGE + MAX_HEAD and (piece := await reader.read(READ_SIZE)):
        answer += piece
    return bytes(answer)


def _respond_not_meant() -> Response:
    why = (
        "the request was relayed to another gateway than it was meant for: try again later; "
        "if it stays so, two gateways have one advertise_url, or it leads to the wrong one"
    )
    return respond_later(HTTPStatus.SERVICE_UNAVAILABLE, why)


def _encoding_of(request: Request) -> Encoding:
    return CODECS.get(select_subprotocol(offered_subprotocols(request.headers)) or "", JSON)
