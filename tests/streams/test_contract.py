"""The delivery contract as a whole: producers with generations and leases beside everything `CoreMachine` does.

Virtual time, the naive model of `tests.support.naive`, and a naive book of what each producer had accepted.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from deltawire.gateway.streams.ending import ABANDONED, LOST, end_abandoned, end_lost
from deltawire.gateway.streams.producers import Writer
from deltawire.gateway.streams.publication import Publication
from deltawire.protocol.codec import JSON
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import StreamError, WireError, is_closed
from deltawire.protocol.events import Data, Error, Event, MessageStart, MessageStop
from deltawire.protocol.framing import payloads
from tests.streams.machine import CoreMachine, events, picks
from tests.support.naive import NaiveStream
from tests.support.reading import STAMP

LEASE = 10.0


@dataclass(eq=False)
class NaiveConnection:
    """One producer's connection."""

    model: NaiveStream
    writer: Writer
    is_over: bool = False


class ContractMachine(CoreMachine):
    """Producers of three kinds: two with ids, which may be fenced and lost, and one without."""

    def __init__(self) -> None:
        super().__init__()
        self.connections: list[NaiveConnection] = []
        self.newest: dict[tuple[str, str], int] = defaultdict(int)  # (epoch, producer) → generation
        self.accepted: dict[tuple[str, str, int], list[int]] = defaultdict(list)  # …, generation → seq of each number
        self.deadlines: dict[tuple[str, str | Writer], float] = {}  # (epoch, producer or connection without an id) → …

    def connection(self, pick: int) -> NaiveConnection:
        return self.connections[pick % len(self.connections)]

    @precondition(lambda self: len(self.connections) < 6)
    @rule(name=CoreMachine.names, producer=st.sampled_from(["p", "q", None]), generation=st.integers(0, 3))
    def connect(self, name: str, producer: str | None, generation: int) -> None:
        model = self.stream(name)
        if producer is not None and generation < self.newest[model.stream.epoch, producer]:
            with pytest.raises(WireError) as refusal:
                model.stream.open_producer(producer, generation)
            assert refusal.value.code is ProblemCode.FENCED
            return
        writer = model.stream.open_producer(producer, generation)
        if producer is not None:
            self.newest[model.stream.epoch, producer] = generation
            assert writer.last == len(self.accepted[model.stream.epoch, producer, generation])
        model.stream.producer_came()
        model.stream.leases.returned(writer)
        lost = [owner for epoch, owner in self.deadlines if epoch == model.stream.epoch]
        without_id = [owner for owner in lost if isinstance(owner, Writer)]
        model.came(writer, without_id)
        for owner in without_id if producer is None else [producer]:
            self.deadlines.pop((model.stream.epoch, owner), None)
        self.connections.append(NaiveConnection(model, writer))

    @precondition(lambda self: self.connections)
    @rule(pick=picks, data=events, message=st.sampled_from("mno"), step=st.sampled_from([-2, 0, 1, 1, 1, 1, 2]))
    def send(self, pick: int, data: Data, message: str, step: int) -> None:
        it = self.connection(pick)
        if isinstance(data, MessageStart):
            data = MessageStart(message)
        model, writer = it.model, it.writer
        before = model.head
        assert writer.id is None or model.stream.producers.is_current(writer) == (
            writer.generation == self.newest[model.stream.epoch, writer.id]
        )
        if not model.stream.producers.is_current(writer):
            return  # the server ends this connection: nothing of it is ever appended
        if writer.id is None:
            self.append(it, data)
            return
        if not model.stream.producers.is_latest(writer):
            return  # a later connection goes on with its numbers: the server ends this one
        book = self.accepted[model.stream.epoch, writer.id, writer.generation]
        number = max(len(book) + step, 1)
        publication = Publication(model.stream, writer)
        if number > len(book) + 1:
            with pytest.raises(WireError, match=f"{len(book) + 1} is expected"):
                publication.is_repeat(number)
        elif publication.is_repeat(number):
            assert number <= len(book)
            assert (writer.last, writer.seq) == (len(book), book[-1])
            assert model.head == before
        else:
            assert number == len(book) + 1
            if self.append(it, data):
                publication.accepted(number, model.head)
                book.append(model.head)

    def append(self, it: NaiveConnection, data: Data) -> bool:
        if it.model.stream.is_closed:
            with pytest.raises(StreamError) as refusal:
                it.model.stream.append(data, STAMP, self.now)
            assert is_closed(refusal.value)
            return False
        if not it.model.stream.has_room:
            return False
        left_behind = it.model.left_behind(data, it.writer)
        end_abandoned(it.model.stream, data, it.writer, STAMP, self.now)
        self.note_ended(it.model, left_behind, ABANDONED)
        it.model.append(data, self.now, it.writer)
        return True

    def note_ended(self, model: NaiveStream, messages: list[str], why: str) -> None:
        for message in messages:
            model.note(Error(why, code="producer_lost"), self.now)
            model.note(MessageStop(message, "producer_lost"), self.now)

    @precondition(lambda self: self.connections)
    @rule(pick=picks)
    def lose(self, pick: int) -> None:
        it = self.connection(pick)
        self.connections.remove(it)
        stream, producer = it.model.stream, it.writer.id
        stream.producer_left(self.now)
        others = [other.writer.id for other in self.connections if other.model is it.model]
        if producer is not None and producer in others:
            return
        has_lease = stream.leases.lost(it.writer, self.now + LEASE)
        assert has_lease == (owner_of(it.writer) in [owner_of(who) for who, _ in it.model.open.values() if who])
        if has_lease:
            self.deadlines[stream.epoch, owner_of(it.writer)] = self.now + LEASE

    @rule(seconds=st.sampled_from([0.0, 4.0, 11.0]))
    def expire_leases(self, seconds: float) -> None:
        self.now += seconds
        for model in self.models.values():
            if model.stream.is_closed:
                assert end_lost(model.stream, STAMP, self.now, LEASE) == []
                continue
            over = [
                owner
                for (epoch, owner), deadline in self.deadlines.items()
                if epoch == model.stream.epoch and deadline <= self.now
            ]
            expected = [message for message, (writer, _) in model.open.items() if writer and owner_of(writer) in over]
            assert end_lost(model.stream, STAMP, self.now, LEASE) == expected
            self.note_ended(model, expected, LOST.format(lease=LEASE))
            for owner in over:
                del self.deadlines[model.stream.epoch, owner]

    @invariant()
    def invariant_3_a_number_is_one_record(self) -> None:
        for seqs in self.accepted.values():
            assert all(left < right for left, right in pairwise(seqs))

    @invariant()
    def invariant_3_what_was_accepted_is_readable_until_trimmed(self) -> None:
        for model in self.models.values():
            held = model.stream.log
            last = [seqs[-1] for (epoch, *_), seqs in self.accepted.items() if epoch == model.stream.epoch and seqs]
            for seq in (seq for seq in last if seq >= held.floor):
                event = JSON.decode_to_consumer(next(payloads(held.frames(seq - 1, seq)[0])))
                assert isinstance(event, Event)
                assert (event.seq, event.data) == (seq, model.event(seq))


def owner_of(writer: Writer) -> str | Writer:
    """Whom a message belongs to: a producer, or a connection of one without an id."""
    return writer if writer.id is None else writer.id


TestContract = ContractMachine.TestCase
