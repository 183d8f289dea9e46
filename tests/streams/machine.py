"""Everything that happens to the core, in any order: producers, consumers of every policy, time and memory."""

from __future__ import annotations

from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import UNSET, structs

from deltawire.gateway.streams import coalesce, log, subscription, view
from deltawire.gateway.streams.coalesce import kind_cost
from deltawire.gateway.streams.log import EVENT_OVERHEAD, Retention
from deltawire.gateway.streams.manager import STREAM_OVERHEAD, StreamManager
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.addresses import SubscribeRequest
from deltawire.protocol.codec import JSON, MSGPACK, Codec
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import StreamError, WireError, is_closed
from deltawire.protocol.events import (
    ContentEnd,
    ContentStart,
    Data,
    Error,
    EventType,
    Extension,
    MessageStart,
    MessageStop,
    TextDelta,
    Thinking,
    ToolDelta,
    Usage,
)
from deltawire.protocol.filters import FILTERS, Filter
from deltawire.protocol.messages import Policy
from deltawire.protocol.position import Position
from tests.support.naive import UNSET_OR, NaiveReader, NaiveStream
from tests.support.reading import STAMP

MAX_READERS = 8


text = st.one_of(st.text("ab é\n\U0001f600", max_size=6), st.integers(1, 150).map("x".__mul__))


index, choice = st.sampled_from(UNSET_OR), st.sampled_from(UNSET_OR)


deltas = st.one_of(
    st.builds(TextDelta, text, index, choice),
    st.builds(Thinking, text, index, choice),
    st.builds(ToolDelta, st.integers(0, 1), text, choice),
    text.map(TextDelta),  # the most common event, so that runs come about
    st.builds(TextDelta, text, kind=st.sampled_from([UNSET, "refusal"])),
)


others: st.SearchStrategy[Data] = st.sampled_from(
    [
        ContentStart(0, kind="tool_use", id="t", name="f"),
        ContentStart(0, kind="server_tool_use", choice=1),
        ContentStart(1, kind="k" * 64),
        ContentStart(1),
        ContentEnd(0),
        ContentEnd(0, choice=1),
        ContentEnd(1),
        MessageStart("m", model="x"),
        MessageStop("m", "end_turn"),
        MessageStop("m", "end_turn", choice=1),
        Usage(1, 2, 3),
        Error("overloaded", retryable=True),
        Extension("p", "n", {"text": "no delta", "list": [1, 2.5, None, True]}),
    ]
)


events: st.SearchStrategy[Data] = st.one_of(deltas, deltas, deltas, others)


types = st.one_of(
    st.none(),
    st.sampled_from([frozenset({EventType.TEXT_DELTA}), frozenset({EventType.TEXT_DELTA, EventType.USAGE})]),
    st.frozensets(st.sampled_from(EventType), min_size=1, max_size=4),
)


def optional(values: list[Any]) -> st.SearchStrategy[frozenset[Any] | None]:
    return st.one_of(st.none(), st.none(), st.frozensets(st.sampled_from(values), min_size=1, max_size=2))


filters = st.one_of(
    st.builds(Filter, types=types),
    st.builds(
        Filter,
        types=types,
        index=optional([0, 1, 99]),
        choice=optional([0, 1]),
        kind=optional(["text", "tool_use", "server_tool_use", "k" * 64]),
        extension=optional(["p", "p/n", "p/x", "q"]),
    ),
)


retentions = st.builds(
    Retention,
    events=st.sampled_from([3, 12, 10_000]),
    bytes=st.sampled_from([1_500, 1 << 23]),
    age=st.sampled_from([0.0, 0.0, 10.0]),
)


codecs = st.sampled_from([JSON, MSGPACK])


policies = st.sampled_from([None, *Policy])


buffers = st.sampled_from([None, 1, 2, 5, 20])


sizes = st.sampled_from([1, 150, 700, 1 << 16])


picks = st.integers(0, 99)


class CoreMachine(RuleBasedStateMachine):
    """Producers, consumers, time and memory pressure, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.models: dict[str, NaiveStream] = {}  # those the manager has
        self.readers: list[NaiveReader] = []
        self.epochs = count(1)
        self.patch = pytest.MonkeyPatch()

    @initialize(
        retention=retentions,
        policy=st.sampled_from(Policy),
        buffer_bytes=st.sampled_from([600, 2_000, 1 << 20]),
        has_small_blocks=st.booleans(),
    )
    def start(self, retention: Retention, policy: Policy, buffer_bytes: int, has_small_blocks: bool) -> None:  # noqa: FBT001 - drawn
        if has_small_blocks:  # so that short logs have many
            self.patch.setattr(log, "BLOCK", 4)
            self.patch.setattr(view, "BLOCK", 4)
            self.patch.setattr(view, "READ_EVENTS", 8)
            self.patch.setattr(subscription, "READ_EVENTS", 8)
            self.patch.setattr(log, "FOLD_SHARE", 256)
            self.patch.setattr(log, "MAX_FOLDED_TEXT", 700)
            self.patch.setattr(coalesce, "MAX_FOLDED_TEXT", 60)
        settings = StreamSettings(retention=retention, policy=policy, buffer=6, buffer_bytes=buffer_bytes)
        self.manager = StreamManager(settings, lambda: f"e{next(self.epochs)}", closed_retention=30.0)

    # What happens

    def stream(self, name: str) -> NaiveStream:
        stream = self.manager.get_or_create(name, self.now)
        if name not in self.models:
            self.models[name] = NaiveStream(stream)
        assert self.models[name].stream is stream
        return self.models[name]

    def reader(self, pick: int) -> NaiveReader:
        return self.readers[pick % len(self.readers)]

    def attach(self, model: NaiveStream, request: SubscribeRequest, codec: Codec) -> NaiveReader:
        reader = NaiveReader(model, model.stream.subscribe(request, codec, now=self.now), codec, request)
        self.readers.append(reader)
        return reader

    def detach(self, reader: NaiveReader) -> None:
        self.readers.remove(reader)
        reader.model.stream.unsubscribe(reader.subscription, self.now)

    def publish_all(self, name: str, batch: list[Data]) -> None:
        model = self.stream(name)
        if model.stream.is_closed:
            with pytest.raises(StreamError) as refusal:
                model.stream.append(batch[0], STAMP, self.now)
            assert is_closed(refusal.value)
            return
        for data in batch:
            model.append(data, self.now)

    names = st.sampled_from(["a", "a", "a", "b"])

    @rule(name=names, data=events)
    def publish(self, name: str, data: Data) -> None:
        self.publish_all(name, [data])

    @rule(name=names, batch=st.lists(events, min_size=2, max_size=15))
    def publish_batch(self, name: str, batch: list[Data]) -> None:
        self.publish_all(name, batch)

    @rule(name=names, data=events)
    def publish_urgently(self, name: str, data: Data) -> None:
        model = self.stream(name)
        if not model.stream.is_closed:
            model.append(data, self.now, is_urgent=True)

    @precondition(lambda self: self.readers)
    @rule(pick=picks)
    def take_ahead(self, pick: int) -> None:
        self.reader(pick).take_ahead()

    @precondition(lambda self: all(model.head < 1_000 for model in self.models.values()))  # the model is slow
    @rule(name=names, data=deltas, times=st.sampled_from([5, 20, 300]))
    def publish_burst(self, name: str, data: Data, times: int) -> None:
        self.publish_all(name, [data] * times)

    @precondition(lambda self: len(self.readers) < MAX_READERS)
    @rule(
        name=names,
        start=st.sampled_from(["start", "now"]),
        policy=policies,
        buffer=buffers,
        wanted=filters,
        urgent=st.sampled_from([None, frozenset(), frozenset({EventType.ERROR, EventType.MESSAGE_STOP})]),
        interval=st.sampled_from([0, 0, 16]),
        codec=codecs,
    )
    def subscribe(  # noqa: PLR0917 - drawn, by name
        self,
        name: str,
        start: str,
        policy: Policy | None,
        buffer: int | None,
        wanted: Filter,
        urgent: frozenset[EventType] | None,
        interval: int,
        codec: Codec,
    ) -> None:
        if (policy or self.manager.settings.policy) is not Policy.COALESCE:
            interval = 0
        request = SubscribeRequest(
            start="now" if start == "now" else "start",
            policy=policy,
            buffer=buffer,
            interval=interval,
            urgent=urgent,
            **structs.asdict(wanted),
        )
        self.attach(self.stream(name), request, codec)

    @precondition(lambda self: len(self.readers) < MAX_READERS)
    @rule(
        name=names,
        after=st.integers(-3, 40),
        epoch=st.sampled_from(["", "right", "wrong"]),
        policy=policies,
        codec=codecs,
    )
    def subscribe_after(self, name: str, after: int, epoch: str, policy: Policy | None, codec: Codec) -> None:
        model = self.stream(name)
        seq = after if after >= 0 else model.head - after  # beyond the head
        named = {"": "", "right": model.stream.epoch, "wrong": "e0"}[epoch]
        request = SubscribeRequest(position=Position(named, seq), policy=policy)
        if seq > model.head and epoch != "wrong":
            with pytest.raises(WireError) as refusal:
                model.stream.subscribe(request, codec, now=self.now)
            assert refusal.value.code is ProblemCode.POSITION_AHEAD
        else:
            self.attach(model, request, codec)

    @precondition(lambda self: self.readers)
    @rule(pick=picks, size=sizes)
    def take(self, pick: int, size: int) -> None:
        self.reader(pick).take(size)

    @precondition(lambda self: self.readers)
    @rule(pick=picks, size=sizes)
    def take_everything(self, pick: int, size: int) -> None:
        reader = self.reader(pick)
        while reader.take(size):
            pass

    @precondition(lambda self: self.readers)
    @rule(pick=picks)
    def judge(self, pick: int) -> None:
        reader = self.reader(pick)
        if not reader.judge():
            self.detach(reader)

    @precondition(lambda self: self.readers)
    @rule(pick=picks, batch=st.lists(events, min_size=3, max_size=15), size=sizes)
    def pile_up(self, pick: int, batch: list[Data], size: int) -> None:
        """A consumer accepts nothing for a while, then a little."""
        reader = self.reader(pick)
        while reader.is_replaying:
            reader.take()
        self.publish_all(reader.model.stream.id, batch)
        if reader.judge():
            reader.take(size)
        else:
            self.detach(reader)

    @precondition(lambda self: self.readers)
    @rule(pick=picks)
    def leave(self, pick: int) -> None:
        self.detach(self.reader(pick))

    @precondition(lambda self: self.readers)
    @rule(pick=picks, policy=policies, codec=codecs, says_epoch=st.booleans())
    def reconnect(self, pick: int, policy: Policy | None, codec: Codec, says_epoch: bool) -> None:  # noqa: FBT001 - drawn
        old = self.reader(pick)
        self.detach(old)
        model = self.stream(old.model.stream.id)
        if old.position < 0 or (model is not old.model and not says_epoch):
            return
        epoch = old.model.stream.epoch if says_epoch else ""
        wanted = {name: getattr(old.request, name) for name in FILTERS}
        request = SubscribeRequest(position=Position(epoch, old.position), policy=policy, **wanted)
        new = self.attach(model, request, codec)
        if model is old.model:
            new.origin, new.outcome, new.texts, new.seqs = old.origin, old.outcome, old.texts, old.seqs

    @rule(seconds=st.sampled_from([0.05, 1.0, 4.0, 11.0, 31.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.manager.expire(self.now)
        self.forget_what_the_manager_forgot()
        for model in self.models.values():
            age = model.stream.log.retention.age
            if age:
                assert all(self.now - at <= age * 1.02 for at in model.times[model.floor - 1 :]), "held for too long"

    @rule(name=names)
    def close(self, name: str) -> None:
        self.stream(name)
        self.manager.close(name, self.now)

    @rule()
    def run_short_of_memory(self) -> None:
        before = self.manager.memory_limit
        self.manager.memory_limit = max(self.manager.bytes - 1, 0)
        has_room = self.manager.make_room(self.now)
        assert has_room == (self.manager.bytes <= self.manager.memory_limit)
        self.manager.memory_limit = before
        self.forget_what_the_manager_forgot()

    def forget_what_the_manager_forgot(self) -> None:
        held = set(map(id, self.manager.list()))
        for name, model in list(self.models.items()):
            if id(model.stream) not in held:
                assert model.stream.is_closed, "a stream nobody finds takes no events"
                del self.models[name]

    # What holds, always

    @invariant()
    def invariant_1_each_seq_is_delivered_folded_filtered_or_in_a_gap(self) -> None:
        for reader in self.readers:
            if reader.position >= 0:
                assert sorted(reader.outcome) == list(range(reader.origin + 1, reader.position + 1))

    @invariant()
    def invariant_2_seq_strictly_increases(self) -> None:
        for reader in self.readers:
            assert all(left < right for left, right in pairwise(reader.seqs))

    @invariant()
    def invariant_4_concatenated_text_is_that_of_the_model(self) -> None:
        for reader in self.readers:
            assert reader.texts == reader.expected_texts()

    @invariant()
    def invariant_5_a_cursor_is_on_the_log_or_a_gap_is_the_next_thing(self) -> None:
        for reader in self.readers:
            cursor = reader.subscription.cursor
            assert cursor <= reader.model.head
            if cursor < reader.model.floor - 1:
                assert not reader.subscription.is_live

    @invariant()
    def invariant_6_bytes_and_events_stay_within_the_retention(self) -> None:
        for model in self.models.values():
            held, retention = model.stream.log, model.stream.log.retention
            assert held.head == model.head
            assert held.head - held.floor + 1 <= retention.events
            assert held.bytes <= retention.bytes or held.floor == held.head

    @invariant()
    def invariant_6_bytes_equal_a_recount(self) -> None:
        total = 0
        for model in self.models.values():
            held = model.stream.log
            recount = sum(map(model.size, range(held.floor, held.head + 1)))
            recount += sum(map(kind_cost, held.kinds(held.floor - 1, held.head)))
            recount += sum(held.prefix._costs)
            assert held.bytes == recount + EVENT_OVERHEAD * (held.head - held.floor + 1)
            total += held.bytes + model.stream.producers.bytes + model.stream.leases.bytes
            total += sum(view.wanted.bytes for view in model.stream._views.values() if view.wanted is not None)
            total += model.stream._latest.bytes + STREAM_OVERHEAD
        if hasattr(self, "manager"):
            assert self.manager.bytes == total

    @invariant()
    def there_is_room_unless_a_blocking_consumer_is_full(self) -> None:
        for model in self.models.values():
            assert model.stream.has_room == (not any(map(is_full, self.blocking(model.stream))))

    def blocking(self, stream: Stream) -> list[NaiveReader]:
        return [reader for reader in self.readers if reader.model.stream is stream and blocks(reader)]

    def teardown(self) -> None:
        try:
            if hasattr(self, "manager"):
                self.finish()
        finally:
            self.patch.undo()

    def finish(self) -> None:
        """Everybody reads to the end, late joiners too; all of them have the same text."""
        self.manager.close_all(self.now)
        for model in self.models.values():
            for policy in (Policy.BLOCK, Policy.COALESCE):
                self.attach(model, SubscribeRequest(policy=policy), JSON)
        for reader in self.readers:
            while reader.take():
                pass
            assert reader.has_ended
            assert reader.position == reader.model.head
        self.invariant_1_each_seq_is_delivered_folded_filtered_or_in_a_gap()
        self.invariant_4_concatenated_text_is_that_of_the_model()
        self.manager.expire(self.now + 31.0)
        assert (self.manager.count(), self.manager.bytes) == (0, 0)


def blocks(reader: NaiveReader) -> bool:
    return reader.subscription.policy is Policy.BLOCK and not reader.is_replaying


def is_full(reader: NaiveReader) -> bool:
    """Whether the producers must wait for a blocking consumer."""
    unread = range(reader.subscription.cursor + 1, reader.model.head + 1)
    size = sum(map(reader.model.size, unread))
    return bool(unread) and (len(unread) >= reader.subscription.buffer or size >= reader.subscription.buffer_bytes)
