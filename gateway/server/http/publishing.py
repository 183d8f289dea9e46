"""Producers over plain HTTP: `POST /v1/streams/{id}/events` (SPEC §9.6)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from websockets.http11 import Response

from deltawire.gateway.hub.fair_queue import FairQueue
from deltawire.gateway.server.admission.request import AdmissionRequest
from deltawire.gateway.server.connection.connection import GatewayConnection
from deltawire.gateway.server.connection.upload import Upload
from deltawire.gateway.server.http.bodies import BadBody, find_framing, find_splitter
from deltawire.gateway.server.http.refusing import respond_error
from deltawire.gateway.server.responses import respond_problem
from deltawire.protocol.addresses import check_stream_id, parse_publish
from deltawire.protocol.errors import WireError

Serve: TypeAlias = Callable[[GatewayConnection, Upload], Awaitable[None]]


class Publishing:
    """Answers requests that publish.

    Args:
        max_message: maximum bytes of a message.
        reading: fair queue in which bodies wait for their turn.
        serve: serves the producer of a connection until there is a response for it, or the connection is gone.
    """

    def __init__(self, max_message: int, reading: FairQueue, serve: Serve) -> None:
        self._max_message = max_message
        self._reading = reading
        self._serve = serve

    def answer(self, incoming: AdmissionRequest) -> Response | Awaitable[Response]:
        """Read the body of a request, and respond with what its producer is told."""
        connection, request = incoming.connection, incoming.request
        try:
            check_stream_id(incoming.target.stream_id)
            parse_publish(incoming.target.query)
            framing = find_framing(connection.head.kept, request.headers, request.protocol)
            splitter = find_splitter(request.headers, self._max_message)
        except BadBody as error:
            return respond_problem(error.status, error.detail)
        except (ValueError, WireError) as error:
            return respond_error(error)
        connection.codec = splitter.codec
        return self._receive(connection, Upload(connection, framing, splitter, self._reading))

    async def _receive(self, connection: GatewayConnection, upload: Upload) -> Response:
        await self._serve(connection, upload)
        return upload.respond()
