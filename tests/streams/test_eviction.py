"""Which idle stream goes first: always the one a search through all of them would find, and cheaply."""

from __future__ import annotations

import gc
from weakref import ref

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from deltawire.gateway.streams.eviction import SLACK, IdleStreams
from deltawire.gateway.streams.log import Ledger
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.stream import Stream
from tests.support.reading import ask, numbered, publish

picks = st.integers(0, 99)


class Streams(RuleBasedStateMachine):
    """Streams that are made, used, written, left, closed and forgotten, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.idle = IdleStreams()
        self.streams: list[Stream] = []

    def pick(self, number: int) -> Stream | None:
        return self.streams[number % len(self.streams)] if self.streams else None

    @rule()
    def make(self) -> None:
        self.now += 1
        stream = Stream(f"s{self.now}", "e", StreamSettings(), self.now, Ledger(), self.idle)
        self.streams.append(stream)
        self.idle.add(stream)

    @rule(number=picks)
    def take(self, number: int) -> None:
        if stream := self.pick(number):
            stream.producer_came()

    @rule(number=picks)
    def leave(self, number: int) -> None:
        self.now += 1
        if (stream := self.pick(number)) and stream.publishing:
            stream.producer_left(self.now)

    @rule(number=picks)
    def read(self, number: int) -> None:
        self.now += 1
        if stream := self.pick(number):
            stream.unsubscribe(stream.subscribe(ask(), now=self.now), self.now)

    @rule(number=picks)
    def write(self, number: int) -> None:
        self.now += 1
        if (stream := self.pick(number)) and not stream.is_closed:
            publish(stream, *numbered(1, 1), now=self.now)

    @rule(number=picks)
    def close(self, number: int) -> None:
        if stream := self.pick(number):
            stream.close("closed", self.now)

    @rule(number=picks)
    def forget(self, number: int) -> None:
        if stream := self.pick(number):
            self.streams.remove(stream)
            self.idle.discard(stream)

    @rule()
    def evict(self) -> None:
        if stream := self.idle.first():
            self.idle.discard(stream)
            self.streams.remove(stream)

    @invariant()
    def the_first_is_the_least_of_all(self) -> None:
        candidates = [stream for stream in self.streams if stream.is_idle and not stream.is_closed]
        expected = min(candidates, key=lambda stream: (stream.log.head > 0, stream.last_active_at), default=None)
        assert self.idle.first() is expected


TestStreams = Streams.TestCase


def test_finding_one_does_not_look_at_those_in_use() -> None:
    idle = IdleStreams()
    looked_at = 0

    class Busy(Stream):
        @property
        def is_idle(self) -> bool:
            nonlocal looked_at
            looked_at += 1
            return False

    for number in range(1_000):
        idle.add(Busy(f"s{number}", "e", StreamSettings(), 0.0, Ledger()))
    for _ in range(10):
        assert idle.first() is None
    assert looked_at == 1_000, "each was looked at once, and then not again until it says that it is idle"


def test_streams_that_have_gone_leave_nothing_behind() -> None:
    idle = IdleStreams()
    for number in range(1_000):
        stream = Stream(f"s{number}", "e", StreamSettings(), float(number), Ledger())
        idle.add(stream)
        idle.discard(stream)
    assert (len(idle), idle.first()) == (0, None)
    assert len(idle._heap) <= SLACK


def test_a_stream_that_was_discarded_is_freed_at_once() -> None:
    idle = IdleStreams()

    class Referable(Stream):
        """With a dictionary and weak references, which a stream does without."""

    stream = Referable("s", "e", StreamSettings(), 0.0, Ledger())
    idle.add(stream)
    idle.discard(stream)
    gone = ref(stream)
    del stream
    gc.collect()
    assert gone() is None, "its log would be memory that nobody counts"
