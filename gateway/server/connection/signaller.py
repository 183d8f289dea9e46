"""A reader that sends a signal in a request of its own, as it follows its stream over plain HTTP (SPEC §9.7)."""

from __future__ import annotations

from typing import Final

from deltawire.gateway.access import Action, Grant
from deltawire.gateway.hub.hub import Hub
from deltawire.gateway.server.accepting.rate import RateTable
from deltawire.gateway.server.connection.connection import GatewayConnection
from deltawire.gateway.server.connection.containment import contained
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.codes import CloseCode, ProblemCode
from deltawire.protocol.errors import WireError
from deltawire.protocol.messages import Signal, SignalResult

STREAMS_REMEMBERED: Final = 10_000
"""Streams whose signals over HTTP are counted at once, in about 1 MiB; those without a signal of late need no entry."""


class Signaller:
    """The sender of one signal. It follows nothing, and its connection ends with the answer.

    Args:
        hub: the streams.
        connection: where the signal comes from.
        stream: whose producers get it.
        rates: limits signals by stream: one by connection would limit nobody who makes one for each signal.
    """

    is_busy = False
    held_bytes = 0

    def __init__(self, hub: Hub, connection: GatewayConnection, stream: Stream, rates: RateTable) -> None:
        self._hub = hub
        self._connection = connection
        self._rates = rates
        self.stream = stream
        self._channel = hub.dispatcher.attach(stream, self)

    def receive(self, payload: bytes, *, is_text: bool) -> None:  # noqa: ARG002 - the type of the body decided
        """Pass the signal on to the producers, and tell how many got it."""
        connection = self._connection
        try:
            message = connection.codec.decode_from_consumer(payload)
        except WireError as error:
            connection.report(error.code, error.message)
            return
        if not isinstance(message, Signal):
            connection.report(ProblemCode.UNKNOWN_MESSAGE, "only a `signal` is taken here")
        elif self._rates.take(self.stream.id, self._hub.now()):
            rate = self._hub.settings.signal_rate
            self.end(
                ProblemCode.RATE_LIMITED,
                f"more than {rate:g} signals a second to this stream (signal_rate): send fewer",
            )
        else:
            self._channel.signal(
                message, lambda delivered: connection.tell(SignalResult(delivered=delivered or 0, id=message.id))
            )

    @property
    def rank(self) -> int:
        """Of the class of its stream."""
        return self._channel.rank

    def conclude(self) -> None:
        """Close the connection: nothing more comes on it."""
        self._connection.finish(CloseCode.STREAM_ENDED)

    def forbidden_by(self, grant: Grant) -> str:
        """Which of its uses a grant does not allow; empty if none."""
        return "" if grant.may(Action.SIGNAL, self.stream.id) else "to signal to this stream"

    def account(self) -> dict[str, int]:
        """It reads no events, and publishes none."""
        return {"events": 0}

    @contained
    def drain(self) -> None:
        """Close with 1001."""
        self.end(ProblemCode.SHUTTING_DOWN, "the gateway is shutting down: send the signal again elsewhere, or later")

    def end(self, code: ProblemCode, why: str) -> None:
        """Say why, and close."""
        self._connection.close_with_problem(code, why)

    def fail(self) -> None:
        """Record the unexpected exception being handled, and end the connection."""
        self._connection.fail()

    def on_lost(self) -> None:
        """Leave the channel, as the connection is gone."""
        self._hub.dispatcher.detach(self._channel, self)

    # It has nothing to finish, to hold back or to send later.

    def pause(self) -> None:
        """Do nothing."""

    def resume(self) -> None:
        """Do nothing."""

    def received(self) -> None:
        """Do nothing."""

    def answer_rest(self) -> None:
        """Do nothing."""

    def on_finished(self) -> None:
        """Do nothing."""
