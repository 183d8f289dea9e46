"""The gateway: start, serve, drain (SPEC §2, §8, §10)."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any, Self, cast
from weakref import WeakKeyDictionary

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.server import ServerProtocol

from deltawire.gateway.config import Settings
from deltawire.gateway.engines.choosing import check_storage
from deltawire.gateway.engines.engine import Part
from deltawire.gateway.hub import Hub
from deltawire.gateway.hub.fair_queue import FairQueue
from deltawire.gateway.logs import get_logger
from deltawire.gateway.server.accepting.forwarding import Proxies
from deltawire.gateway.server.accepting.handshakes import Handshakes
from deltawire.gateway.server.accepting.limits import Limits
from deltawire.gateway.server.accepting.listening import format_url, listen, stop_accepting
from deltawire.gateway.server.accepting.rate import FloodGuard, RateTable
from deltawire.gateway.server.accepting.routing import Handed, Siblings
from deltawire.gateway.server.accepting.tls import ServerTls
from deltawire.gateway.server.admission.auth import AccessControl
from deltawire.gateway.server.admission.pipeline import Admission
from deltawire.gateway.server.admission.steps import CapacityChecks
from deltawire.gateway.server.connection.adopting import Adopting
from deltawire.gateway.server.connection.connection import GatewayConnection
from deltawire.gateway.server.connection.producer import Producer
from deltawire.gateway.server.connection.sending import CLOSE_TIMEOUT, HARD_MESSAGE_LIMIT
from deltawire.gateway.server.connection.signaller import STREAMS_REMEMBERED, Signaller
from deltawire.gateway.server.connection.streaming import StreamingConnection
from deltawire.gateway.server.connection.upload import Upload
from deltawire.gateway.server.draining import batches, in_leaving_order
from deltawire.gateway.server.housekeeping import Housekeeping
from deltawire.gateway.server.http.event_streams import EventStreams
from deltawire.gateway.server.http.metrics import Exposition
from deltawire.gateway.server.http.publishing import Publishing
from deltawire.gateway.server.http.target import Target
from deltawire.gateway.server.relaying.nodes import Nodes
from deltawire.gateway.server.relaying.pairs import WRITE_LIMIT
from deltawire.gateway.server.subscribing import Subscribing, Ticket
from deltawire.protocol.addresses import check_stream_id, parse_publish, parse_subscribe
from deltawire.protocol.codec import CODECS, JSON
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import StreamError, WireError, is_not_found

LEAVE_TIMEOUT = 1.0
"""Seconds to wait for aborted connections to close."""

log = get_logger()


class Gateway:
    """A WebSocket and HTTP server for the streams of a hub. An async context manager; leaving it drains.

    Args:
        settings: address, limits and timeouts.
        hub: the streams it serves; None makes its own, which ends with it.
        sockets: bound sockets to listen on; if there are none, it listens on the host and port of the settings.
        clock: seconds since 1970, by which tokens expire.
        limits: counts connections; None counts those of this process alone.
        siblings: the other workers of a gateway of several processes (`gateway.workers`).

    Raises:
        ConfigError: settings contradict each other, or a file or key they name can't be used; or, on entry, the gateway
            would be open to a network without authentication.
        OSError: on entry, it can't listen on the address.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the last two are for workers
        self,
        settings: Settings | None = None,
        hub: Hub | None = None,
        sockets: Sequence[socket.socket] = (),
        clock: Callable[[], float] = time.time,
        limits: Limits | None = None,
        siblings: Siblings | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self._tls = ServerTls.wanted(self.settings)
        self._sockets = sockets
        self._owns_hub = hub is None
        self.hub = hub or Hub(self.settings, part=None if siblings is None else Part(siblings.own, siblings.key))
        self._accepted: WeakKeyDictionary[GatewayConnection, None] = WeakKeyDictionary()  # also before their requests
        self._connections: dict[GatewayConnection, None] = {}  # of peers; they end in the order in which they came
        self._proxies = Proxies(self.settings.trusted_proxies, self.settings.forwarded_header)
        self._access = AccessControl(self.settings, clock, self._proxies)
        self._siblings = siblings
        self._limits = limits or Limits(self.settings)
        self._handshakes = Handshakes(self.settings, self._tls, self._limits, self._proxies, self.hub, siblings)
        self._exposition = Exposition(self.hub, self._accepted, self._handshakes)
        capacity = CapacityChecks(self.hub, self._limits, self._proxies)
        self._housekeeping = Housekeeping(self.settings, self.hub, self._access, self._handshakes, self._accepted)
        self._reading = FairQueue(
            lambda turn: asyncio.get_running_loop().call_soon(turn), presence=self.hub.dispatcher.presence
        )
        rate = self.settings.signal_rate
        self._signalled = RateTable(rate, max(int(2 * rate), 1), STREAMS_REMEMBERED)
        self._subscribing = Subscribing(self.hub, self._reading)
        self._nodes = Nodes(self.settings, self.hub, capacity, self._serve)
        self._admission = Admission(
            self._access,
            self.hub,
            self._exposition.render,
            self._handshakes,
            capacity,
            EventStreams(self._subscribing, self._serve_events),
            Publishing(self.settings.max_message, self._reading, self._serve_upload),
            self._nodes,
            siblings,
            has_console=self.settings.console,
        )
        self._changed = asyncio.Event()  # set when a connection is gone

    async def check_storage(self) -> None:
        """Check whether streams could be stored, without storing any.

        Raises:
            ConfigError: they could not.
        """
        await check_storage(self.settings)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            if self._owns_hub:
                await stack.enter_async_context(self.hub)
            await stack.enter_async_context(self._access)
            self._leaving = FairQueue(asyncio.get_running_loop().call_soon)
            self._servers = await listen(self.settings, self._sockets, self._open_server)
            self._owned = stack.pop_all()
        self.hub.deadlines.add(self._housekeeping)
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.drain()
        finally:
            self.hub.deadlines.remove(self._housekeeping)
            await self._owned.aclose()

    async def _open_server(self, **where: Any) -> Server:
        return await serve(
            self._handle,
            process_request=self._admission.judge,
            process_response=self._admission.conclude,
            compression=None,  # deltas are too short to gain, and it would cost every consumer its own bytes
            server_header=None,
            open_timeout=None,  # `Handshakes` has its own timeout for everything before the request is complete
            max_size=HARD_MESSAGE_LIMIT,
            logger=_quiet_logger(),
            create_connection=cast("type[ServerConnection]", self._make_connection),  # it is called
            **where,
        )

    def _make_connection(self, protocol: ServerProtocol, server: Server, **_: object) -> GatewayConnection:
        return GatewayConnection(
            self._accepted,
            self.hub,
            self._access,
            self._handshakes,
            self._leaving,
            self._reading,
            protocol,
            server,
            ping_interval=None,  # `Housekeeping` keeps alive without a task per connection
            close_timeout=CLOSE_TIMEOUT,
            write_limit=WRITE_LIMIT,
        )

    async def adopt(self, sock: socket.socket, handed: Handed) -> None:
        """Serve a socket that another worker accepted.

        Args:
            sock: the socket; not blocking.
            handed: what the other worker knows of it.

        Raises:
            OSError: the socket can't be served any more.
        """
        protocol = ServerProtocol(max_size=HARD_MESSAGE_LIMIT, logger=_quiet_logger())
        connection = self._make_connection(protocol, self._servers[0])
        await asyncio.get_running_loop().connect_accepted_socket(partial(Adopting, connection, handed), sock)

    def reload(self) -> None:
        """Read the certificates, the key file and the middleware again; no connection is dropped.

        Certificates and keys hold for new connections, middleware for new streams.

        Raises:
            ConfigError: a file can't be used; everything stays as it is.
        """
        middleware = self.hub.read_middleware()
        if self._tls is not None:
            self._tls.reload()
        self._access.reload()
        self.hub.use(middleware)

    @property
    def port(self) -> int:
        """The port listened on."""
        return int(self._servers[0].sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """Where clients connect: `ws://HOST:PORT`, or `wss://HOST:PORT`."""
        host = str(self._sockets[0].getsockname()[0]) if self._sockets else self.settings.host
        return format_url(host, self.port, has_tls=self._tls is not None)

    @property
    def connections(self) -> int:
        """Number of connections, including those whose request is not complete."""
        return self._limits.connections

    # Connections

    async def _handle(self, connection: ServerConnection) -> None:
        """Serve one connection until it is gone. Callbacks do the work; this only waits."""
        assert isinstance(connection, GatewayConnection), "the factory makes nothing else"
        connection.codec = connection.encoding = CODECS.get(str(connection.subprotocol), JSON)
        self._guard(connection)
        await self._serve(connection, self._start)

    def _guard(self, connection: GatewayConnection) -> None:
        message_rate = self.settings.message_rate if connection.target.publishes else 0.0
        connection.flood_guard = FloodGuard(message_rate, self.settings.control_rate, self.hub.now())

    async def _serve_events(self, ticket: Ticket, connection: StreamingConnection) -> None:
        """Serve one consumer over plain HTTP until its connection is gone."""
        assert isinstance(connection, GatewayConnection), "the factory makes nothing else"
        await self._serve(connection, partial(self._subscribing.start, ticket=ticket))

    async def _serve_upload(self, connection: GatewayConnection, upload: Upload) -> None:
        """Serve a peer with a body until there is a response for it; the peer is gone when it gets that."""
        self._guard(connection)
        connection.admitted()
        self._connections[connection] = None
        connection.connection_lost_waiter.add_done_callback(lambda _: self._forget(connection))
        connection.upload = upload
        try:
            self._start(connection)
            if isinstance(connection.peer, (Producer, Signaller)):
                connection.begin_upload(connection.peer)
        except Exception:  # noqa: BLE001 - whatever it is, it is this connection's alone
            connection.fail()
        await upload.wait()
        connection.leave()

    def _forget(self, connection: GatewayConnection) -> None:
        self._connections.pop(connection, None)
        self._changed.set()

    async def _serve(self, connection: GatewayConnection, start: Callable[[GatewayConnection], None]) -> None:
        connection.admitted()
        self._connections[connection] = None
        try:
            try:
                start(connection)
            except Exception:  # noqa: BLE001 - whatever it is, it is this connection's alone
                connection.fail()
            finally:
                connection.forget_handshake()
            await connection.wait_closed()
        finally:
            self._forget(connection)

    def _start(self, connection: GatewayConnection) -> None:
        target = connection.target
        if self._admission.is_draining:  # draining began since it was admitted
            connection.close_with_problem(ProblemCode.SHUTTING_DOWN, "the gateway is shutting down: connect elsewhere")
            return
        try:
            if connection.elsewhere:
                connection.close_with_problem(ProblemCode.OVERLOADED, connection.elsewhere)
            elif target.publishes:
                self._start_producer(connection, target)
            elif target.signals:
                stream = self.hub.manager.get(_check_id(target))
                connection.peer = Signaller(self.hub, connection, stream, self._signalled)
            elif connection.is_follow:
                self._subscribing.start_following(connection, _check_id(target), parse_subscribe(target.query))
            else:
                self._start_consumer(connection, target)
        except WireError as error:
            connection.close_with_problem(error.code, error.message)
        except StreamError as error:
            if is_not_found(error):
                connection.close_with_problem(ProblemCode.NOT_FOUND, f"there is no stream {error.stream_id!r} now")
            else:
                connection.close_with_problem(ProblemCode.OVERLOADED, error.detail)

    def _start_consumer(self, connection: GatewayConnection, target: Target) -> None:
        request = parse_subscribe(target.query)
        stream = self._subscribing.find(connection, _check_id(target), request)
        ticket = self._subscribing.subscribe(stream, request, connection.grant, connection.codec)
        self._subscribing.start(connection, ticket)

    def _start_producer(self, connection: GatewayConnection, target: Target) -> None:
        request = parse_publish(target.query)
        stream = self.hub.manager.get_or_create(_check_id(target), self.hub.now())
        self.hub.dispatcher.let_out(stream)  # an older connection of this producer may have sent it
        writer = stream.open_producer(request.producer, request.generation)
        producer = Producer(self.hub, connection, stream, writer, request, self._reading)
        connection.peer = producer
        producer.start()

    # The end

    async def drain(self) -> None:
        """Shut down: report not ready, refuse new peers, give streams up; send peers the rest and close with 1001.

        HTTP is answered until the last peer is gone, so that a probe gets its 503. Connections that are left after
        `drain_timeout` are aborted.
        """
        if self._admission.is_leaving:
            return
        self._admission.is_leaving = True
        settings = self.settings
        try:
            async with asyncio.timeout(settings.drain_timeout):
                if settings.drain_delay:
                    await asyncio.sleep(settings.drain_delay)
                await self._admission.refuse_new()
                if self._siblings is not None:
                    self._siblings.is_draining = True
                if self._owns_hub:
                    await self.hub.give_up()  # whoever is told to leave finds the streams elsewhere at once
                await self._send_home(settings.drain_timeout - settings.drain_delay)
                while self._connections:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            if self._connections:  # the last ones may have gone in this very turn
                log.warning("drain.timed_out", connections=len(self._connections))
        finally:
            await self._close()

    async def _send_home(self, seconds: float) -> None:
        """Tell every peer to leave once it has got the rest."""
        for connection in self._accepted:
            connection.respond_now()
        peers = in_leaving_order(peer for it in self._connections if (peer := it.peer or it.relay) is not None)
        for pause, batch in batches(peers, seconds):
            for peer in batch:
                peer.drain()
            self.hub.flush()
            if pause:
                await asyncio.sleep(pause)

    async def _close(self) -> None:
        """Stop listening, and abort the remaining connections, including those without a request."""
        await self._admission.refuse_new()
        await stop_accepting(self._servers)
        self.stop_listening()
        self._handshakes.close()
        self.abort()
        await self._nodes.follows.close()
        await self._nodes.relays.wait_all_gone(asyncio.get_running_loop().time() + LEAVE_TIMEOUT)
        with suppress(TimeoutError):  # a remaining connection must not delay the end
            async with asyncio.timeout(LEAVE_TIMEOUT):
                for server in self._servers:
                    await server.wait_closed()

    def stop_listening(self) -> None:
        """Accept no more connections; those accepted stay, and other processes may listen on the same sockets."""
        for server in self._servers:
            server.close(close_connections=False)

    def abort(self) -> None:
        """Abort every connection at once."""
        self._handshakes.abort()
        self._nodes.relays.abort()
        for connection in tuple(self._accepted):
            connection.abort("still there when the gateway went away")


def _check_id(target: Target) -> str:
    try:
        return check_stream_id(target.stream_id)
    except ValueError as error:
        raise WireError(ProblemCode.BAD_REQUEST, str(error)) from None


def _quiet_logger() -> logging.Logger:
    """Make the library log only errors: faults of peers don't concern the operator, faults inside do."""
    logger = logging.getLogger("deltawire.websockets")
    logger.setLevel(logging.ERROR)
    return logger
