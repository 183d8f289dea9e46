"""Proof of a whole text."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import UNSET

from deltawire.gateway.client import Subscriber
from deltawire.gateway.client.errors import TextMismatch
from deltawire.gateway.client.proof import Proof
from deltawire.protocol.codec import JSON
from deltawire.protocol.digest import MessageDigest
from deltawire.protocol.events import Data, Event, EventType, MessageStart, MessageStop, TextDelta, make_event
from deltawire.protocol.filters import Filter
from deltawire.protocol.messages import Gap, Policy, Subscribed
from deltawire.protocol.position import Position
from tests.support.fakes import FakeGateway, frames, stay


def subscribed(after: int = 0) -> Subscribed:
    return Subscribed(
        stream="s",
        epoch="e",
        floor=1,
        head=9,
        after=after,
        policy=Policy.COALESCE,
        buffer=100,
        recovered=False,
        closed=False,
    )


def event(seq: int, data: Data) -> Event:
    made = make_event(data)
    made.seq = seq
    return made


def stop(seq: int, first: int, text: str) -> Event:
    """A stop as the gateway relays it, for a message of this text."""
    digest = MessageDigest()
    digest.begin(first)
    digest.add(UNSET, text)
    return event(seq, MessageStop("m", "end_turn", digest=digest.of(UNSET)))


def check(proof: Proof, *messages: Event | Subscribed | Gap) -> int:
    for message in messages:
        proof.check(message)
    return proof.whole


def test_a_whole_text_is_proven() -> None:
    messages = (event(1, MessageStart("m")), event(2, TextDelta("Hel")), event(3, TextDelta("lo")), stop(4, 1, "Hello"))
    assert check(Proof(None), subscribed(), *messages) == 1


def test_another_text_is_reported_with_its_place() -> None:
    with pytest.raises(TextMismatch, match="events 1 to 3 is not what"):
        check(Proof(None), subscribed(), event(1, MessageStart("m")), event(2, TextDelta("Hullo")), stop(3, 1, "Hello"))


def test_a_text_whose_beginning_was_not_asked_for_is_not_judged() -> None:
    assert check(Proof(None), subscribed(after=2), event(3, TextDelta("lo")), stop(4, 1, "Hello")) == 0


def test_a_text_with_a_gap_is_not_judged_but_the_next_one_is() -> None:
    messages = (
        event(1, MessageStart("m")),
        Gap(first=2, seq=2, reason="dropped"),
        event(3, TextDelta("lo")),
        stop(4, 1, "Hello"),
        event(5, MessageStart("n")),
        event(6, TextDelta("Bye")),
        stop(7, 5, "Bye"),
    )
    assert check(Proof(None), subscribed(), *messages) == 1


def test_a_new_connection_goes_on_with_the_text_of_the_old_one() -> None:
    before = (subscribed(), event(1, MessageStart("m")), event(2, TextDelta("Hel")))
    after = (subscribed(after=2), event(3, TextDelta("lo")), stop(4, 1, "Hello"))
    assert check(Proof(None), *before, *after) == 1


def test_a_text_before_any_message_start_counts_from_the_first_event() -> None:
    assert check(Proof(None), subscribed(), event(1, TextDelta("Hi")), stop(2, 1, "Hi")) == 1


@pytest.mark.parametrize("missing", [EventType.MESSAGE_START, EventType.TEXT_DELTA])
def test_nothing_is_judged_where_the_filter_hides_what_is_needed(missing: EventType) -> None:
    proof = Proof(Filter(types=frozenset(EventType) - {missing}))
    assert check(proof, subscribed(), stop(4, 1, "Hello")) == 0


@pytest.mark.parametrize(
    ("wanted", "proven"),
    [
        (Filter(index=frozenset({0})), 0),
        (Filter(choice=frozenset({1})), 0),
        (Filter(kind=frozenset({"text"})), 0),
        (Filter(extension=frozenset({"p"})), 1),
    ],
)
def test_nothing_is_judged_where_some_blocks_are_left_out(wanted: Filter, proven: int) -> None:
    assert check(Proof(wanted), subscribed(), event(1, TextDelta("Hi")), stop(2, 1, "Hi")) == proven


def test_a_stop_without_a_digest_proves_nothing() -> None:
    assert check(Proof(None), subscribed(), event(1, MessageStop("m", "end_turn"))) == 0


async def test_a_wrong_text_raises_once_and_reading_goes_on_with_its_stop() -> None:
    sent = [
        subscribed(),
        event(1, MessageStart("m")),
        event(2, TextDelta("changed")),
        stop(3, 1, "as it was sent"),
    ]
    messages = [msgspec.json.decode(JSON.encode(message)) for message in sent]
    async with FakeGateway(frames(*messages, then=stay)) as gateway, Subscriber(gateway.url, "demo") as reader:
        events = aiter(reader)
        assert [(await anext(events)).seq for _ in range(2)] == [1, 2]
        with pytest.raises(TextMismatch, match="events 1 to 3"):
            await anext(events)
        assert reader.position == Position("e", 2)
        assert (await anext(aiter(reader))).seq == 3
        assert reader.proven == 0
