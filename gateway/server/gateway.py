"""The gateway: listening, serving, keep-alive, drain (SPEC §2, §8, §10)."""

from __future__ import annotations

import asyncio
import logging
import socket
from functools import partial
from typing import Self, cast
from weakref import WeakSet

from websockets.asyncio.server import Server, ServerConnection, serve

from gateway.config import Settings
from gateway.hub import Hub
from gateway.server.admission import Admission, select_subprotocol
from gateway.server.connection import CLOSE_TIMEOUT, HARD_MESSAGE_LIMIT, GatewayConnection
from gateway.server.consumer import Consumer
from gateway.server.exposition import Exposition
from gateway.server.http import Target
from gateway.server.producer import Producer
from gateway.telemetry import get_logger
from protocol.addresses import check_stream_id, parse_publish, parse_subscribe
from protocol.codec import CODECS, JSON
from protocol.codes import ProblemCode
from protocol.errors import StreamError, WireError

SEND_BUFFER = 64 * 1024
"""SO_SNDBUF asked for. Linux doubles it: 128 KiB, so that a lag shows in the cursor and not in the kernel."""

RECEIVE_BUFFER = 64 * 1024
"""SO_RCVBUF asked for: what one producer can have processed in one loop turn, about a thousand events. Without it
libuv reads up to 8 MiB from one socket before any other is served, and consumers of the stream are overrun."""

WRITE_LIMIT = 32 * 1024
"""Bytes in a connection's own write buffer at which it stops accepting, for the same reason."""

BACKLOG = 4096
"""Connections the kernel may hold before they are accepted: a reconnect storm comes all at once."""

log = get_logger()


class Gateway:
    """A WebSocket and HTTP server for the streams of a hub. An async context manager; leaving it drains.

    Args:
        settings: address, limits and timeouts.
        hub: the streams it serves; None makes its own, which ends with it.

    Raises:
        OSError: on entry, the address can't be listened on.
    """

    def __init__(self, settings: Settings | None = None, hub: Hub | None = None) -> None:
        self.settings = settings or Settings()
        self._owns_hub = hub is None
        self.hub = hub or Hub(self.settings)
        self._accepted: WeakSet[GatewayConnection] = WeakSet()  # every socket, from before its handshake on
        self._connections: set[GatewayConnection] = set()
        self._exposition = Exposition(self.hub, self._accepted)
        self._admission = Admission(self.hub, self._exposition.render)

    async def __aenter__(self) -> Self:
        if self._owns_hub:
            await self.hub.__aenter__()
        try:
            self._server = await self._listen()
        except BaseException:
            if self._owns_hub:
                await self.hub.__aexit__()
            raise
        self.hub.sweep_regularly(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.drain()
        finally:
            self.hub.stop_sweeping(self)
            if self._owns_hub:
                await self.hub.__aexit__()

    async def _listen(self) -> Server:
        settings = self.settings
        server = await serve(
            self._handle,
            settings.host,
            settings.port,
            process_request=self._admission.judge,
            process_response=self._admission.conclude,
            select_subprotocol=select_subprotocol,
            compression=None,  # deltas are too short to gain, and it would cost every consumer its own bytes
            server_header=None,
            open_timeout=settings.handshake_timeout,
            ping_interval=None,  # `sweep` keeps alive without a task per connection
            close_timeout=CLOSE_TIMEOUT,
            max_size=HARD_MESSAGE_LIMIT,
            write_limit=WRITE_LIMIT,
            logger=_quiet_logger(),
            create_connection=cast(
                "type[ServerConnection]", partial(GatewayConnection, self._accepted, self.hub.tally)
            ),  # it is called
            backlog=BACKLOG,
        )
        for listener in server.sockets:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)  # accepted sockets inherit both
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        return server

    @property
    def port(self) -> int:
        """The port listened on."""
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """Where clients connect: `ws://HOST:PORT`."""
        host = self.settings.host
        return f"ws://[{host}]:{self.port}" if ":" in host else f"ws://{host}:{self.port}"

    # Connections

    async def _handle(self, connection: ServerConnection) -> None:
        """Serve one connection until it is gone. Its work is done in callbacks; this only keeps it."""
        assert isinstance(connection, GatewayConnection), "the factory makes nothing else"
        connection.codec = CODECS.get(str(connection.subprotocol), JSON)
        connection.admitted()
        self._connections.add(connection)
        try:
            self._serve(connection, connection.target)
            await connection.wait_closed()
        finally:
            self._connections.discard(connection)

    def _serve(self, connection: GatewayConnection, target: Target) -> None:
        try:
            if target.tail == "/subscribe":
                self._start_consumer(connection, target)
            else:
                self._start_producer(connection, target)
        except WireError as error:
            connection.refuse(error.code, error.message)
        except StreamError as error:
            connection.refuse(ProblemCode.OVERLOADED, error.detail)
        except Exception:
            self.hub.tally.faults += 1
            log.exception("connection.failed")
            connection.refuse(ProblemCode.GATEWAY_FAULT, "the gateway failed on this request; it has been logged")

    def _start_consumer(self, connection: GatewayConnection, target: Target) -> None:
        request = parse_subscribe(target.query)
        stream = self.hub.manager.get_or_create(_check_id(target), self.hub.now())
        subscription = stream.subscribe(request, connection.codec, now=self.hub.now())
        consumer = Consumer(self.hub, connection, subscription)
        connection.peer = consumer
        consumer.start()

    def _start_producer(self, connection: GatewayConnection, target: Target) -> None:
        request = parse_publish(target.query)
        stream = self.hub.manager.get_or_create(_check_id(target), self.hub.now())
        pen = stream.producers.open(request.producer, request.generation)
        producer = Producer(self.hub, connection, stream, pen, request)
        connection.peer = producer
        producer.start()

    # Deadlines and the end

    def sweep(self, now: float) -> None:
        """Keep quiet connections alive, give up on dead ones and, where that is asked for, on unused ones."""
        for connection in tuple(self._connections):
            if not connection.keep_alive(now, self.settings.ping_interval, self.settings.ping_timeout):
                log.info("connection.timed_out", ping_timeout=self.settings.ping_timeout)
            elif self.settings.idle_timeout:
                connection.end_if_idle(now, self.settings.idle_timeout)

    async def drain(self) -> None:
        """Stop accepting, let peers take what is left, close with 1001; after `drain_timeout`, abort the rest."""
        if self._admission.is_draining:
            return
        self._admission.is_draining = True
        self._server.close(close_connections=False)
        for connection in tuple(self._accepted):
            if connection.request is None:
                connection.transport.abort()  # it has asked for nothing yet, and might not for `handshake_timeout`
        peers = [connection.peer for connection in self._connections]
        for producer in peers:
            if isinstance(producer, Producer):
                producer.drain()
        self.hub.flush()
        for consumer in peers:
            if isinstance(consumer, Consumer):
                consumer.drain()
        try:
            async with asyncio.timeout(self.settings.drain_timeout):
                await self._server.wait_closed()
        except TimeoutError:
            log.warning("drain.timed_out", connections=len(self._connections))
        finally:
            self.abort()
            await self._server.wait_closed()

    def abort(self) -> None:
        """Drop every connection at once."""
        for connection in tuple(self._accepted):
            connection.transport.abort()


def _check_id(target: Target) -> str:
    try:
        return check_stream_id(target.stream_id)
    except ValueError as error:
        raise WireError(ProblemCode.BAD_REQUEST, str(error)) from None


def _quiet_logger() -> logging.Logger:
    """The library's own log: what peers do wrong is not the operator's concern, what fails inside is."""
    logger = logging.getLogger("deltawire.websockets")
    logger.setLevel(logging.ERROR)
    return logger
