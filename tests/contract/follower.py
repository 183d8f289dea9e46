"""A consumer on a virtual socket: it compares everything it hears with the book of what was appended."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import inf

import msgspec
from msgspec.json import encode

from deltawire.gateway.streams.coalesce import kind_of
from deltawire.protocol.addresses import SubscribeRequest, parse_subscribe
from deltawire.protocol.codec import Codec
from deltawire.protocol.codes import CloseCode, ProblemCode
from deltawire.protocol.events import Event
from deltawire.protocol.messages import (
    CaughtUp,
    Gap,
    Message,
    Policy,
    Problem,
    SignalResult,
    StreamEnd,
    Subscribed,
    Urgent,
)
from tests.contract.peers import Peer
from tests.support.loop import VirtualLoop
from tests.support.naive import NaiveStream, is_wanted
from tests.support.reading import delta_text


class Follower(Peer):
    """A consumer.

    Args:
        loop: of the gateway.
        stream: the stream id.
        query: what it asks for.
        codec: its encoding.
        find_book: the book of the stream with an epoch.
        request: the whole request, where it is not a handshake.

    Attributes:
        position: the last seq it has; -1 before `subscribed`.
        behind_since: when it was first seen to lack what was appended, or the end; None when it lacks nothing.
    """

    def __init__(  # noqa: PLR0917 - what it is
        self,
        loop: VirtualLoop,
        stream: str,
        query: str,
        codec: Codec,
        find_book: Callable[[str], NaiveStream],
        request: bytes | None = None,
    ) -> None:
        self.stream = stream
        self.request: SubscribeRequest = parse_subscribe(query)
        self.policy: Policy | None = None
        self.epoch = ""
        self.position = -1
        self.behind_since: float | None = None
        self.is_caught_up = False
        self.has_ended = False
        self._find_book = find_book
        self._ahead: set[int] = set()  # seqs of copies
        self._allowance = inf  # messages it may still send at once
        self._spoke_at = 0.0
        super().__init__(loop, f"/v1/streams/{stream}/subscribe?{query}", codec, request)

    @property
    def book(self) -> NaiveStream:
        return self._find_book(self.epoch)

    def lacks(self) -> list[int]:
        """Seqs it wanted and was told nothing of."""
        book = self.book
        return [seq for seq in range(self.position + 1, book.head + 1) if self.wants(seq)]

    def wants(self, seq: int) -> bool:
        return is_wanted(self.request, self.book.event(seq))

    def signal(self, times: int, rate: float) -> None:
        """Send signals; by more than the gateway takes of a consumer, this one gives it a reason to end it.

        Args:
            times: how many.
            rate: how many it may send a second, and twice as many at once.
        """
        now = self.loop.time()
        self._allowance = min(2 * rate, self._allowance + rate * (now - self._spoke_at)) - times
        self._spoke_at = now
        self.was_hindered |= self._allowance < 1e-6  # that is nought, as either side rounds
        value = {"type": "signal", "name": "cancel"}
        for _ in range(times):
            self.send(json.dumps(value).encode() if self.codec.is_text else msgspec.msgpack.encode(value))

    def decode(self, payload: bytes) -> Event | Message | None:
        return self.codec.decode_to_consumer(payload)

    def take(self, message: Event | Message, whole: bytes) -> None:
        assert not self.has_ended, "stream_end is the last word"
        assert (self.position < 0) == isinstance(message, Subscribed), "subscribed comes first, once"
        match message:
            case Event():
                self._take_event(message, whole)
            case Gap():
                self._take_gap(message)
            case Urgent():
                self._take_copy(message)
            case Subscribed():
                self._begin(message)
            case CaughtUp(seq=seq):
                assert not self.is_caught_up
                self.is_caught_up = True
                self._pass_over(seq)
            case StreamEnd(seq=seq):
                assert self.is_caught_up
                assert self.book.stream.is_closed
                assert seq == self.book.head
                self._pass_over(seq)
                self.has_ended = True
            case SignalResult():
                pass
            case _:
                raise AssertionError(message)

    def _begin(self, message: Subscribed) -> None:
        self.epoch, self.policy = message.epoch, message.policy
        asked = self.request.position
        if asked is not None and asked.epoch in ("", self.epoch):
            assert message.after == asked.seq
        else:
            assert message.after == (message.head if self.request.start == "now" and asked is None else 0)
        self.position = message.after

    def _take_event(self, event: Event, whole: bytes) -> None:
        assert isinstance(event.seq, int)
        first = event.first if isinstance(event.first, int) else event.seq
        self._pass_over(first - 1)
        members = [self.book.event(seq) for seq in range(first, event.seq + 1)]
        assert all(map(self.wants, range(first, event.seq + 1)))
        if first == event.seq:
            assert list(map(encode, members)) == [
                encode(event.data)
            ]  # decoders of either side have classes of their own
            key = (f"{type(self).__name__} {self.codec.subprotocol}", event.seq)
            assert self.book.wire.setdefault(key, whole) == whole, "other bytes than another consumer got"
        else:
            assert self.policy is Policy.COALESCE
            assert {kind_of(member) for member in members} == {kind_of(event.data)}
            assert delta_text(event.data) == "".join(delta_text(member) or "" for member in members)
        self.position = event.seq

    def _take_copy(self, copy: Urgent) -> None:
        event = self.codec.decode_to_consumer(bytes(copy.event))
        assert isinstance(event, Event)
        assert isinstance(event.seq, int)
        assert self.request.urgent is not None, "it asked for none"
        assert event.data.type in self.request.urgent
        assert encode(event.data) == encode(self.book.event(event.seq))
        assert self.wants(event.seq)
        assert event.seq > self.position + 1, "it is behind"
        assert event.seq not in self._ahead, "ahead once"
        self._ahead.add(event.seq)

    def _take_gap(self, gap: Gap) -> None:
        self._pass_over(gap.first - 1)
        for seq in range(gap.first, gap.seq + 1):
            if gap.reason == "dropped":
                assert self.policy in (Policy.DROP_NEWEST, Policy.DROP_OLDEST)
                assert self.was_hindered, "nothing is dropped for a consumer that reads"
                assert kind_of(self.book.event(seq)).is_delta
                assert self.wants(seq)
            else:
                assert seq < self.book.floor, f"{seq} is held"
        self.position = max(self.position, gap.seq)

    def _pass_over(self, seq: int) -> None:
        """Account for what this consumer did not ask for; there is no other way to come to a later seq."""
        assert seq >= self.position
        missing = [passed for passed in range(self.position + 1, seq + 1) if self.wants(passed)]
        assert not missing, f"{missing} missing"
        self.position = seq

    def take_problem(self, problem: Problem) -> None:
        if self.position < 0:
            return
        match ProblemCode(problem.code):
            case ProblemCode.SLOW_CONSUMER | ProblemCode.SHUTTING_DOWN:
                assert isinstance(problem.resume_after, int)
                self._pass_over(problem.resume_after)
            case _:
                pass

    def ended(self) -> None:
        if not self.was_hindered and not self.may_be_ended and self.position >= 0:
            assert self.has_ended, f"a consumer that reads was ended: {self.problems}, {self.close_code}"
            assert self.close_code == CloseCode.STREAM_ENDED
