"""The body of one request, on its way to its producer, and what the producer is told (SPEC §9.6, §9.7).

    bytes ──► framing ──► splitter ──► messages ──► producer ──► told: acks, problems ──► response

A request that signals has a `Signaller` in place of the producer. To either, the body is like what comes on a
WebSocket. Only a piece of it is read at a time, and nothing while the producer is busy. What the producer is told is
collected, for the one response there will be.
"""

from __future__ import annotations

import asyncio
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from msgspec import UNSET
from msgspec.structs import asdict
from websockets.http11 import Response

from deltawire.gateway.hub.fair_queue import FairQueue
from deltawire.gateway.server.connection.batch import MAX_TOLD
from deltawire.gateway.server.connection.containment import contained
from deltawire.gateway.server.connection.peer import Uploader
from deltawire.gateway.server.connection.sending import Hold
from deltawire.gateway.server.http.bodies import BadBody, Framing, Message, Splitter
from deltawire.gateway.server.http.refusing import STATUS_OF, respond_refused
from deltawire.gateway.server.responses import respond_json, respond_problem
from deltawire.protocol.codes import STAYS_OPEN, ProblemCode
from deltawire.protocol.messages import Ack, Problem, Ready, SignalResult
from deltawire.protocol.messages import Message as Told

if TYPE_CHECKING:
    from deltawire.gateway.server.connection.connection import GatewayConnection

STEP: Final = 16 * 1024
"""Bytes read in one step. The slowest ones, chunks of a byte each, take 3 ms."""

OF_EVENTS: Final = STAYS_OPEN - {ProblemCode.EVENT_DROPPED} | {ProblemCode.STREAM_CLOSED}
"""Problems that are told with the line of the event, which is the one that was read last."""


class Upload:
    """The body of one request.

    Args:
        connection: where it comes from.
        framing: tells where it ends.
        splitter: tells what its messages are.
        queue: fair queue in which it waits for its turn.
    """

    def __init__(self, connection: GatewayConnection, framing: Framing, splitter: Splitter, queue: FairQueue) -> None:
        self._connection = connection
        self._framing = framing
        self._splitter = splitter
        self._queue = queue
        self._producer: Uploader | None = None
        self._is_queued = False
        self._has_turn = False
        self._is_cut = False  # nothing follows, though it is incomplete
        self._is_read = False  # all messages are known
        self._unreadable: BadBody | None = None  # what follows the messages
        self._is_over = False  # the producer has them
        self._raw = bytearray()  # not read yet
        self._messages: deque[Message] = deque()
        self._line: int | None = None  # of the message that the producer got last
        self._finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ready: Ready | None = None
        self._ack: Ack | None = None
        self._result: SignalResult | None = None
        self._problems: list[dict[str, Any]] = []
        self._untold = 0  # problems beyond these

    @property
    def held_bytes(self) -> int:
        """Bytes, about, that wait."""
        return len(self._raw) + self._splitter.held_bytes + sum(len(it.payload) for it in self._messages)

    # The body

    def begin(self, producer: Uploader) -> None:
        """Give its messages to a producer from now on."""
        self._producer = producer

    def feed(self, data: bytes) -> None:
        """Take bytes from the socket."""
        self._raw += data
        self._go_on()

    def cut(self) -> None:
        """Record that nothing follows."""
        self._is_cut = True
        self._go_on()

    @contained
    def _take_turn(self) -> None:
        self._is_queued = False
        self._has_turn = True  # whoever waits behind it
        self._go_on()

    def fail(self) -> None:
        """Record the unexpected exception being handled, and end the connection."""
        self._connection.fail()

    def _go_on(self) -> None:
        self.pass_on()
        if self._producer is not None and not self._connection.is_finished:
            self._producer.received()

    def pass_on(self) -> None:
        """Give the producer what it can take now; when it has everything, let it conclude."""
        connection = self._connection
        producer = self._producer
        while producer is not None and not (producer.is_busy or connection.is_finished):
            if self._messages:
                self._line, payload = self._messages.popleft()
                producer.receive(payload, is_text=connection.codec.is_text)
            elif self._unreadable is not None:
                self._refuse(self._unreadable)
                return
            elif self._framing.is_complete:
                if not self._is_read:
                    self._is_read = True
                    self._messages += self._splitter.finish()
                elif not self._is_over:
                    self._is_over = True
                    producer.conclude()
                else:
                    return
            elif not self._raw:
                if self._is_cut:
                    self._refuse(BadBody("the body ends before its length, or its last chunk"))
                connection.release_reading(Hold.BODY)
                return
            elif self._has_turn or self._queue.has_time(producer.rank):
                self._has_turn = False
                self._read_piece()
            else:
                self._wait_for_turn(producer.rank)
                return

    def _wait_for_turn(self, rank: int) -> None:
        self._connection.hold_reading(Hold.BODY)
        if not self._is_queued:
            self._is_queued = True
            self._queue.enter(self._take_turn, rank)

    def _read_piece(self) -> None:
        piece = bytes(self._raw[:STEP])
        del self._raw[:STEP]
        try:
            self._messages += self._splitter.feed(self._framing.feed(piece))
        except BadBody as error:
            self._messages += error.before
            self._unreadable = error
        if why := self._connection.judge_events(len(self._messages)):
            self._end(ProblemCode.RATE_LIMITED, why)

    def _refuse(self, error: BadBody) -> None:
        is_too_long = error.status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        self._end(ProblemCode.MESSAGE_TOO_BIG if is_too_long else ProblemCode.BAD_REQUEST, error.detail)

    def _end(self, code: ProblemCode, why: str) -> None:
        if self._producer is not None:
            self._producer.end(code, why)

    # What the producer is told

    def tell(self, message: Told) -> None:
        """Collect what the producer is told."""
        match message:
            case Ready():
                self._ready = message
            case Ack():
                self._ack = message
            case SignalResult():
                self._result = message
            case Problem() if len(self._problems) < MAX_TOLD:
                told = {name: value for name, value in asdict(message).items() if value is not UNSET}
                is_of_line = self._line is not None and message.code in OF_EVENTS
                self._problems.append(told | {"line": self._line} if is_of_line else told)
            case Problem():
                self._untold += 1
            case _:
                pass  # the audience, an answer to a token: nobody waits for it

    def finish(self) -> None:
        """Nothing more will be told."""
        if not self._finished.done():
            self._finished.set_result(None)
        self._raw.clear()
        self._messages.clear()

    async def wait(self) -> None:
        """Return when nothing more will be told, or the connection is gone."""
        ends = [self._finished, self._connection.connection_lost_waiter]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)

    def respond(self) -> Response:
        """The response: 200 if everything was accepted; otherwise the first problem decides."""
        told: dict[str, Any] = {}
        if self._ready is not None:
            told |= {"stream": self._ready.stream, "epoch": self._ready.epoch}
        if self._connection.target.publishes:
            told["seq"] = 0 if self._ack is None else self._ack.seq
        if self._ack is not None and self._ack.producer_seq is not UNSET:
            told["producer_seq"] = self._ack.producer_seq
        if not self._problems:
            return respond_json(told) if self._result is None else _respond_delivered(self._result)
        first = self._problems[0]
        told |= {"code": first["code"], "problems": self._problems}
        if self._untold:
            told["untold"] = self._untold
        return respond_refused(STATUS_OF[ProblemCode(first["code"])], first["message"], told)


def _respond_delivered(result: SignalResult) -> Response:
    """The answer to a signal: a refusal if nobody got it, for programs that look at nothing but the status."""
    if result.delivered:
        return respond_json(result)
    detail = "no producer that takes signals is connected to this stream now"
    return respond_problem(HTTPStatus.CONFLICT, detail, {"delivered": 0})
