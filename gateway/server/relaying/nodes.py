"""The other nodes on the same engine: relaying to them what they own, and judging what they relay."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import cached_property, partial
from http import HTTPStatus
from typing import Final

import msgspec
from websockets.http11 import Request, Response

from deltawire.gateway.config import Settings
from deltawire.gateway.engines.engine import Elsewhere, EngineError
from deltawire.gateway.hub import Hub
from deltawire.gateway.logs import get_logger
from deltawire.gateway.server.accepting.listening import RECEIVE_BUFFER, SEND_BUFFER
from deltawire.gateway.server.admission.request import AdmissionRequest, offered_subprotocols, select_subprotocol
from deltawire.gateway.server.admission.steps import CapacityChecks
from deltawire.gateway.server.connection.connection import GatewayConnection
from deltawire.gateway.server.http.pages import merge_pages
from deltawire.gateway.server.http.target import is_upgrade
from deltawire.gateway.server.relaying.fields import RELAYED, Node, parse_node, question, read_relayed, relayed_head
from deltawire.gateway.server.relaying.pairs import Relays, Side
from deltawire.gateway.server.relaying.relay import MAX_HEAD, NodeRelay
from deltawire.gateway.server.responses import JSON_TYPE, TakenOver, respond, respond_later, respond_nothing
from deltawire.protocol.addresses import PREFIX, parse_list
from deltawire.protocol.codec import CODECS, JSON, Encoding

log = get_logger()

MAX_PAGE: Final = 4 * 1024 * 1024
"""Bytes of a page of streams that are taken of another node: seven times what the longest has."""

READ_SIZE: Final = 64 * 1024
"""Bytes read of it at a time."""

Serve = Callable[[GatewayConnection, Callable[[GatewayConnection], None]], Awaitable[None]]


class UnreachableError(Exception):
    """Another node can't be reached; the message says it for a client, and may be retried."""


class Nodes:
    """The other nodes, for one of them.

    Args:
        settings: `engine_timeout`, for a node to be reached and to answer a WebSocket.
        hub: knows the key of this node; its tally counts what is relayed.
        capacity: counts connections under their addresses, and their memory.
        serve: serves a connection until it is gone.
    """

    def __init__(self, settings: Settings, hub: Hub, capacity: CapacityChecks, serve: Serve) -> None:
        self._timeout = settings.engine_timeout
        self._hub = hub
        self._capacity = capacity
        self._serve = serve
        self._failing: set[str] = set()  # URLs of nodes; each is logged once
        self.relays: Relays[NodeRelay] = Relays()

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """Trusts what the system does."""
        return ssl.create_default_context()

    # What other nodes relay

    def check_relayed(self, incoming: AdmissionRequest) -> Response | None:
        """Believe another node who its client is; refuse what claims to be relayed to this node and is not.

        Ignoring that would let a request go round: its address may lead to another node than it was meant for.
        """
        values = incoming.request.headers.get_all(RELAYED)
        if not values:
            return None
        connection = incoming.connection
        client = read_relayed(values, self._hub.node_key, connection.remote)
        if client is None:
            why = "the request was relayed to another gateway than it was meant for: try again later"
            return respond_later(HTTPStatus.SERVICE_UNAVAILABLE, why)
        node, connection.remote, connection.is_relayed = connection.remote.host, client, True
        return self._capacity.settle_relayed(connection, node)

    # What is relayed to other nodes

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
        try:
            node = parse_node(elsewhere.url)
            if (refusal := self._capacity.check_memory_for_relay(incoming, has_tls=node.has_tls)) is not None:
                return refusal
            transport, far = await self._connect(node)
        except (OSError, ValueError) as error:
            self._note_failure(elsewhere.url, error)
            raise UnreachableError(f"{elsewhere.why} (it can't be reached from here now)") from None
        self._failing.discard(elsewhere.url)
        if connection.is_gone:
            transport.abort()
            return respond_nothing()
        head = relayed_head(request, connection.head.kept, node, elsewhere.key, client)
        return TakenOver(partial(self._take_over, incoming, transport, far, head))

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
            async with asyncio.timeout(self._timeout):
                reader, writer = await asyncio.open_connection(node.host, node.port, ssl=self._tls_of(node))
                try:
                    writer.write(relayed_head(question(incoming.request), (), node, other.key, client))
                    answer = await _read_all(reader)
                finally:
                    writer.transport.abort()
        except (OSError, ValueError) as error:
            self._note_failure(other.url, error)
            raise UnreachableError(f"the gateway at {other.url} does not answer") from None
        head, _, body = answer.partition(b"\r\n\r\n")
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise UnreachableError(f"the gateway at {other.url} refuses to list its streams")
        if len(body) > MAX_PAGE:
            raise UnreachableError(f"the gateway at {other.url} says more than {MAX_PAGE} bytes")
        return body

    def _tls_of(self, node: Node) -> ssl.SSLContext | None:
        return self._tls if node.has_tls else None

    async def _connect(self, node: Node) -> tuple[asyncio.Transport, Side]:
        """Connect to a node.

        Raises:
            OSError: it can't be reached, not in time, or is not who it should be.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._timeout):
            transport, far = await loop.create_connection(Side, node.host, node.port, ssl=self._tls_of(node))
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        return transport, far

    def _note_failure(self, url: str, error: Exception) -> None:
        self._hub.tally.relay_failures += 1
        if url not in self._failing:
            self._failing.add(url)
            log.warning("node.lost", url=url, detail=str(error) or "no answer within engine_timeout")

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
            patience=self._timeout if is_upgrade(incoming.request.headers) else 0,
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


def _encoding_of(request: Request) -> Encoding:
    return CODECS.get(select_subprotocol(offered_subprotocols(request.headers)) or "", JSON)
