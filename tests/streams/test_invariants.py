"""The invariants that the core answers for, against a naive model, whatever happens in whatever order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from deltawire.gateway.streams.settings import StreamSettings
from deltawire.protocol.addresses import SubscribeRequest
from deltawire.protocol.codec import JSON
from deltawire.protocol.events import Data
from deltawire.protocol.filters import Filter
from deltawire.protocol.messages import Policy
from tests.streams.machine import CoreMachine, blocks, events, filters, is_full
from tests.support.naive import NaiveReader, NaiveStream
from tests.support.reading import make_stream

TestInvariants = CoreMachine.TestCase


step = st.one_of(st.lists(events, min_size=1, max_size=12), st.sampled_from([1, 1, 150, 700]), st.just("judge"))


@given(
    policy=st.sampled_from(Policy),
    buffer=st.sampled_from([1, 2, 3, 5, 100]),  # the last leaves it to the bytes
    buffer_bytes=st.sampled_from([600, 2_000, 1 << 20]),
    wanted=filters,
    steps=st.lists(step, min_size=6, max_size=60),
)
def test_invariant_1_a_slow_consumer_gets_what_a_queue_of_its_policy_would_hold(
    policy: Policy,
    buffer: int,
    buffer_bytes: int,
    wanted: Filter,
    steps: list[list[Data] | int | str],
) -> None:
    model = NaiveStream(make_stream(StreamSettings(buffer_bytes=buffer_bytes)))
    request = SubscribeRequest(policy=policy, buffer=buffer, **structs.asdict(wanted))
    reader = NaiveReader(model, model.stream.subscribe(request, now=0.0), JSON, request)
    while reader.take():
        pass
    for do in steps:
        match do:
            case list():
                for data in do:
                    model.append(data, 0.0)
            case int():
                reader.take(do)
            case _:
                if not reader.judge():
                    return
        assert model.stream.has_room == (not (blocks(reader) and is_full(reader)))
    while reader.take():
        pass
    assert sorted(reader.outcome) == list(range(1, model.head + 1))
    assert reader.texts == reader.expected_texts()
