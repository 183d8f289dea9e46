"""A producer on a virtual socket: it knows what it sent, and what has become of each event when it hears an answer."""

from __future__ import annotations

import json
from collections import deque
from typing import Any, Protocol

import msgspec

from deltawire.protocol.codec import Codec
from deltawire.protocol.codes import CloseCode, ProblemCode
from deltawire.protocol.events import Data, Event
from deltawire.protocol.messages import Ack, Audience, Message, Problem, Ready, Signal
from tests.contract.peers import Peer
from tests.support.loop import VirtualLoop
from tests.support.naive import NaiveStream


class Library(Protocol):
    """All that was appended."""

    def find_book(self, epoch: str) -> NaiveStream:
        """The book of the stream with an epoch."""

    def seq_of(self, data: Data) -> int | None:
        """Where an event stands in its book; every event is sent with words of its own."""


class WriterPeer(Peer):
    """A producer.

    Args:
        loop: of the gateway.
        stream: the stream id.
        producer: its id.
        generation: of that id.
        on_full: what it asked for.
        codec: its encoding.
        library: all that was appended.

    Attributes:
        pending: what it sent and heard nothing of, with the numbers.
        sent: what it numbered, with the numbers.
        audience: consumers, as last told.
        held_since: since when its oldest event without an answer waits to be appended, or for its ack; and which it is.
        is_appended: whether that one waits for its ack alone.
    """

    def __init__(  # noqa: PLR0917 - all of a producer
        self,
        loop: VirtualLoop,
        stream: str,
        producer: str | None,
        generation: int,
        on_full: str,
        codec: Codec,
        library: Library,
    ) -> None:
        self.stream = stream
        self.producer = producer
        self.generation = 0 if producer is None else generation
        self.on_full = on_full
        self.library = library
        self.epoch = ""
        self.next = 0  # producer_seq
        self.pending: deque[tuple[int | None, Data]] = deque()
        self.sent: list[tuple[int, Data]] = []
        self.acks = 0
        self.audience = 0
        self.held_since: tuple[float, Data | None] = (0.0, None)
        self.is_appended = False
        query = f"on_full={on_full}"
        if producer is not None:
            query += f"&producer={producer}&generation={generation}"
        super().__init__(loop, f"/v1/streams/{stream}/publish?{query}", codec)

    @property
    def book(self) -> NaiveStream:
        return self.library.find_book(self.epoch)

    def publish(self, events: list[Data], *, is_batch: bool) -> None:
        """Send events, numbered where this producer has an id."""
        items: list[dict[str, Any]] = []
        for data in events:
            number = None
            item = {"type": str(data.type), "data": msgspec.to_builtins(data)}
            if self.producer is not None:
                number = item["producer_seq"] = self.next
                self.next += 1
                self.sent.append((number, data))
            self.pending.append((number, data))
            items.append(item)
        if is_batch:
            self._say(items)
        else:
            for item in items:
                self._say(item)

    def repeat(self, count: int) -> None:
        """Send the last numbered events again, as after a lost ack."""
        for number, data in self.sent[-count:]:
            self._say({"type": str(data.type), "producer_seq": number, "data": msgspec.to_builtins(data)})

    def close_stream(self) -> None:
        self._say({"type": "close_stream"})

    def _say(self, value: Any) -> None:
        self.send(json.dumps(value).encode() if self.codec.is_text else msgspec.msgpack.encode(value))

    # Hearing

    def decode(self, payload: bytes) -> Event | Message | None:
        return self.codec.decode_to_producer(payload)

    def take(self, message: Event | Message, whole: bytes) -> None:  # noqa: ARG002 - as every peer
        assert bool(self.epoch) != isinstance(message, Ready), "ready comes first, once"
        match message:
            case Ready():
                self.epoch = message.epoch
                assert message.generation == self.generation
                self.next = message.producer_seq + 1
            case Ack():
                self.acks += 1
                self._settle(message)
            case Audience(consumers=consumers):
                self.audience = consumers
            case Signal():
                pass
            case _:
                raise AssertionError(message)

    def _settle(self, ack: Ack) -> None:
        last = 0
        while self.pending:
            seq = self.library.seq_of(self.pending[0][1])
            if seq is None or seq > ack.seq:
                break
            assert seq > last, "events of one connection are appended in their order"
            last = seq
            self.pending.popleft()
        assert ack.seq <= self.book.head, "acked is appended"
        if last and not self.sent:
            assert ack.seq == last
        if isinstance(ack.producer_seq, int):
            assert ack.producer_seq < self.next
            number = ack.producer_seq
            data = dict(self.sent).get(number)
            assert data is None or self.library.seq_of(data) is not None, "an acked number is a record"

    def take_problem(self, problem: Problem) -> None:
        match ProblemCode(problem.code):
            case ProblemCode.STREAM_FULL:
                assert self.on_full == "reject"
                self._take_back(next(item for item in self.pending if self.library.seq_of(item[1]) is None))
            case ProblemCode.SEQUENCE_GAP:
                assert isinstance(problem.expected, int)
                assert problem.producer_seq != problem.expected
                for item in [item for item in self.pending if item[0] == problem.producer_seq]:
                    self._take_back(item)
            case _:
                pass

    def _take_back(self, item: tuple[int | None, Data]) -> None:
        """An event was refused: its number, if it had one, is the next one's."""
        self.pending.remove(item)
        number = item[0]
        if number is not None:
            self.sent.remove((number, item[1]))
            self.next = min(self.next, number)

    def ended(self) -> None:
        if self.close_code == CloseCode.STREAM_ENDED or self.was_hindered or not self.epoch:
            return
        assert self.may_be_ended or self.problems[-1] in (ProblemCode.FENCED, ProblemCode.STREAM_CLOSED), self.problems
