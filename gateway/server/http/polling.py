"""Waiting for events before a page of them is made: `GET /v1/streams/{id}/events?wait=SECONDS` (SPEC §9).

A client that waits is a consumer as long as it does: producers count it, and `max_consumers` applies.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import NoReturn

from websockets.http11 import Response

from deltawire.gateway.access import Action
from deltawire.gateway.hub import Hub
from deltawire.gateway.server.admission.request import AdmissionRequest
from deltawire.gateway.server.connection.connection import GatewayConnection
from deltawire.gateway.server.connection.memory import CONNECTION_COST
from deltawire.gateway.server.responses import respond_nothing
from deltawire.gateway.streams.stream import Stream
from deltawire.gateway.streams.subscription import Subscription
from deltawire.protocol.addresses import EventsRequest, SubscribeRequest, check_stream_id, parse_events
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import StreamError, WireError
from deltawire.protocol.messages import Policy
from deltawire.protocol.position import Position


async def wait_for_events(hub: Hub, incoming: AdmissionRequest) -> Response | None:
    """Wait as long as a request asks for, if there is nothing for it yet.

    Args:
        hub: the streams.
        incoming: a request for a page of events.

    Returns:
        204 if the stream has ended and the client has everything. None if a page can be made, or the request is wrong.

    Raises:
        WireError: overloaded, the stream has `max_consumers`; position_ahead.
    """
    target, connection = incoming.target, incoming.connection
    if incoming.request.method != "GET" or not connection.grant.may(Action.SUBSCRIBE, target.stream_id):
        return None
    try:
        request = parse_events(target.query)
        stream = hub.manager.get(check_stream_id(target.stream_id))
    except (ValueError, WireError, StreamError):
        return None  # the route refuses it in words
    if not request.wait or not _has_everything(stream, request):
        return None
    if stream.end_reason is None:
        connection.occupy(CONNECTION_COST)
        await _Waiting(hub, stream, request).wait(connection)
    has_ended = stream.end_reason is not None and _has_everything(stream, request)
    return respond_nothing() if has_ended else None


def _has_everything(stream: Stream, request: EventsRequest) -> bool:
    return request.epoch in ("", stream.epoch) and request.after >= stream.log.head


class _Waiting:
    """A consumer that only wants to know when there is something."""

    def __init__(self, hub: Hub, stream: Stream, request: EventsRequest) -> None:
        position = Position(stream.epoch, request.after)
        asked = SubscribeRequest(position=position, policy=Policy.COALESCE)
        self._hub = hub
        self._seconds = request.wait
        self.subscription: Subscription = stream.subscribe(asked, now=hub.now())
        self._channel = hub.dispatcher.attach(stream, self)
        self._woken = asyncio.get_running_loop().create_future()

    async def wait(self, connection: GatewayConnection) -> None:
        """Wait for an event, the end of the stream, the time to be over, or a reason not to wait longer."""
        self._channel.pump_each_time(self)
        self._hub.dispatcher.touch(self._channel)  # producers learn of it
        connection.hurry = self.wake
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._seconds):
                    await self._woken
        finally:
            connection.hurry = None
            self._channel.leave(self, self._hub.now())
            self._hub.dispatcher.detach(self._channel, self)

    def wake(self) -> None:
        """Wait no longer."""
        if not self._woken.done():
            self._woken.set_result(None)

    def pump(self) -> None:
        """Look whether there is something, as the stream was flushed."""
        if self.subscription.lag or self.subscription.stream.end_reason is not None:
            self.wake()

    def write(self, data: bytes) -> NoReturn:
        """Never called: it joins no cohort."""
        raise NotImplementedError

    def write_failed(self) -> NoReturn:
        """Never called either."""
        raise NotImplementedError

    def end(self, code: ProblemCode, message: str) -> NoReturn:
        """Never called either."""
        raise NotImplementedError

    def check_lag(self) -> None:
        """Nothing to do: it is not behind."""
