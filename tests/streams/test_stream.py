"""A stream: appending, room for producers, ending, and what is told about it."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
from msgspec import UNSET, UnsetType

from deltawire import protocol
from deltawire.gateway.config import Settings
from deltawire.gateway.streams.coalesce import RARE_KIND_COST
from deltawire.gateway.streams.ending import ABANDONED, LOST, end_abandoned, end_lost
from deltawire.gateway.streams.info import describe
from deltawire.gateway.streams.log import Retention
from deltawire.gateway.streams.producers import Writer
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.codec import JSON, MSGPACK
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.digest import CHOICE_COST
from deltawire.protocol.errors import StreamError, WireError, is_closed
from deltawire.protocol.events import MAX_SEQ, Data, Digest, Event, MessageStart, MessageStop, TextDelta
from deltawire.protocol.messages import Policy
from tests.support.reading import STAMP, ask, drain, live, make_stream, numbered, publish, read_frames, texts


def clock_at(at: float) -> str:
    return f"at {at:g}"


def test_append_returns_the_seq_and_encodes_the_event() -> None:
    stream = make_stream()
    assert stream.append(TextDelta("hé", 0), STAMP, 1.0) == 1
    assert stream.append(TextDelta("x", 0), STAMP, 2.0) == 2
    (first, _) = read_frames(b"".join(stream.log.frames(0, 2)))
    assert first.message == JSON.decode_to_consumer(
        f'{{"type":"text_delta","seq":1,"timestamp":"{STAMP}","data":{{"text":"hé","index":0}}}}'.encode()
    )
    assert stream.last_active_at == 2.0


def test_choices_of_a_message_cost_what_their_digests_do() -> None:
    stream = make_stream()
    stream.append(MessageStart("m"), STAMP, 1.0)
    before = stream.bytes - stream.log.bytes
    for choice in range(10):
        stream.append(TextDelta("x", choice=choice), STAMP, 1.0)
    assert stream.bytes - stream.log.bytes == before + 9 * CHOICE_COST
    stream.append(MessageStart("n"), STAMP, 1.0)
    assert stream.bytes - stream.log.bytes < before + CHOICE_COST


def test_events_of_blocks_that_others_do_not_have_cost_their_kind() -> None:
    common, rare = make_stream(), make_stream()
    for number in range(1000, 1100):
        common.append(TextDelta("x", 7), STAMP, 1.0)
        rare.append(TextDelta("x", number), STAMP, 1.0)
    digits = 3 * 100
    assert rare.log.bytes == common.log.bytes + digits + 100 * RARE_KIND_COST
    rare.clear()
    assert rare.log.bytes == 0


def test_appending_to_a_closed_stream_is_an_error_that_names_operation_and_stream() -> None:
    stream = make_stream(stream_id="chat-7")
    stream.close("closed", 1.0)
    with pytest.raises(StreamError, match=r"send 'chat-7': stream closed") as refusal:
        publish(stream, *numbered(1, 1))
    assert is_closed(refusal.value)
    assert stream.log.head == 0


def test_closing_twice_keeps_the_first_reason_and_time() -> None:
    stream = make_stream()
    assert not stream.is_closed
    stream.close("inactive", 5.0)
    stream.close("closed", 9.0)
    assert (stream.is_closed, stream.end_reason, stream.closed_at) == (True, "inactive", 5.0)


def test_a_seq_beyond_what_json_readers_keep_exact_is_never_given() -> None:
    stream = make_stream()
    stream.log.head = MAX_SEQ
    with pytest.raises(AssertionError, match="three centuries"):
        publish(stream, *numbered(1, 1))


# The digest of a message


def digests(stream: Stream, *said: Data) -> list[Digest | UnsetType]:
    publish(stream, *said)
    events = [message for message in drain(stream.subscribe(ask(), now=0.0)) if isinstance(message, Event)]
    return [event.data.digest for event in events if isinstance(event.data, MessageStop)]


def digest_of(first: int, text: str) -> Digest:
    return Digest(first=first, characters=len(text), sha256=sha256(text.encode()).hexdigest())


def stop(message_id: str, choice: int | UnsetType = UNSET) -> MessageStop:
    return MessageStop(message_id, "end_turn", choice)


def test_each_choice_of_a_message_has_the_digest_of_its_own_text() -> None:
    said = (MessageStart("m"), TextDelta("a", choice=0), TextDelta("b", choice=1), stop("m", 0), stop("m", 1))
    assert digests(make_stream(), TextDelta("before"), *said) == [digest_of(2, "a"), digest_of(2, "b")]


def test_messages_that_overlap_have_no_digest_and_the_next_one_has() -> None:
    both = (MessageStart("m"), MessageStart("n"), TextDelta("whose?"), stop("m"), stop("n"))
    after = (MessageStart("o"), TextDelta("mine"), stop("o"))
    assert digests(make_stream(), *both, *after) == [UNSET, UNSET, digest_of(6, "mine")]


def test_messages_of_two_producers_with_one_id_overlap_as_others_do() -> None:
    stream, one, two = make_stream(), Writer(None, 0), Writer(None, 0)
    for data, writer in [
        (MessageStart("m"), one),
        (TextDelta("first"), one),
        (MessageStart("m"), two),
        (TextDelta("second"), two),
        (stop("m"), one),
        (MessageStart("n"), one),
        (TextDelta("third"), one),
        (stop("n"), one),
        (stop("m"), two),
        (MessageStart("m"), two),
        (TextDelta("fourth"), two),
        (stop("m"), two),
    ]:
        stream.append(data, STAMP, 0.0, writer)
    assert digests(stream) == [UNSET, UNSET, UNSET, digest_of(10, "fourth")]


def test_a_lost_message_is_ended_and_not_another_one_of_its_id() -> None:
    stream, one, two = make_stream(), Writer("one", 0), Writer("two", 0)
    stream.append(MessageStart("m"), STAMP, 0.0, one)
    stream.append(MessageStart("m"), STAMP, 0.0, two)
    stream.leases.lost(one, deadline=1.0)
    assert end_lost(stream, STAMP, 1.0, lease=1.0) == ["m"]
    stream.leases.lost(two, deadline=2.0)
    assert end_lost(stream, STAMP, 2.0, lease=1.0) == ["m"]
    assert digests(stream) == [UNSET, UNSET]


def test_the_stop_of_a_message_that_has_ended_before_has_no_digest_of_the_next_one() -> None:
    said = (MessageStart("m"), stop("m"), MessageStart("n"), TextDelta("x"), stop("m"), stop("n"))
    assert digests(make_stream(), *said) == [digest_of(1, ""), UNSET, digest_of(3, "x")]


def test_a_message_whose_start_is_not_there_has_no_digest() -> None:
    assert digests(make_stream(), TextDelta("the end of it"), stop("m")) == [UNSET]


# Lost producers


def test_the_words_with_which_a_message_is_ended_are_those_of_the_specification() -> None:
    spec = (Path(protocol.__file__).parent / "SPEC.md").read_text()
    for words in (LOST.format(lease=Settings().lease), ABANDONED):
        assert f'"error":"{words}"' in spec


def test_a_closed_stream_takes_no_end_of_an_abandoned_message() -> None:
    stream = make_stream()
    stream.append(MessageStart("m"), STAMP, 0.0, stream.open_producer("p", 0))
    back = stream.open_producer("p", 0)
    stream.leases.returned(back)
    stream.close("closed", 1.0)
    end_abandoned(stream, MessageStart("n"), back, STAMP, 2.0)
    assert stream.log.head == 1


# Subscribing


def test_what_a_consumer_leaves_open_the_settings_of_the_stream_decide() -> None:
    stream = make_stream(StreamSettings(policy=Policy.DROP_OLDEST, buffer=7))
    silent, explicit = stream.subscribe(ask(), now=0.0), stream.subscribe(ask("policy=block&buffer=9"), now=0.0)
    assert (silent.policy, silent.buffer) == (Policy.DROP_OLDEST, 7)
    assert (explicit.policy, explicit.buffer) == (Policy.BLOCK, 9)


def test_an_interval_is_refused_where_the_policy_folds_nothing() -> None:
    stream = make_stream(StreamSettings(policy=Policy.BLOCK))
    with pytest.raises(WireError, match="interval"):
        stream.subscribe(ask("interval=50"), now=0.0)
    assert stream.consumers == 0
    assert stream.subscribe(ask("interval=50&policy=coalesce"), now=0.0).interval == 0.05


def test_consumers_that_want_the_same_share_a_view() -> None:
    stream = make_stream()
    views = {
        id(stream.subscribe(ask(query), codec, now=0.0).view)
        for query in ("", "from=now", "types=usage", "types=usage&policy=block")
        for codec in (JSON, MSGPACK)
    }
    assert len(views) == 4


def test_a_view_goes_with_the_last_consumer_that_wanted_it_though_others_stay() -> None:
    stream = make_stream()
    live(stream)
    for types in ("usage", "error", "thinking,usage"):
        first, second = live(stream, f"types={types}"), live(stream, f"types={types}")
        stream.unsubscribe(first, 1.0)
        assert stream.subscribe(ask(f"types={types}"), now=1.0).view is second.view, "the second one still reads it"
        assert len(stream._views) == 2
        for subscription in [it for it in stream._subscriptions if it.view is second.view]:
            stream.unsubscribe(subscription, 2.0)
        assert len(stream._views) == 1


def test_a_refused_subscription_leaves_nothing_behind() -> None:
    stream = make_stream()
    with pytest.raises(WireError) as refusal:
        stream.subscribe(ask("after=1"), now=3.0)
    assert refusal.value.code is ProblemCode.POSITION_AHEAD
    assert stream.is_idle
    assert stream.last_active_at == 0.0


def test_unsubscribing_once_is_enough() -> None:
    stream = make_stream()
    one, other = live(stream), live(stream)
    assert (stream.consumers, stream.is_idle) == (2, False)
    stream.unsubscribe(one, 4.0)
    stream.unsubscribe(one, 9.0)
    assert (stream.consumers, stream.last_active_at) == (1, 4.0)
    stream.unsubscribe(other, 5.0)
    assert stream.is_idle
    assert not stream._views, "views go with the last consumer"


def test_a_stream_somebody_publishes_to_is_not_idle() -> None:
    stream = make_stream()
    stream.producer_came()
    assert not stream.is_idle


# Room


def test_there_is_room_without_consumers_and_with_consumers_that_never_block() -> None:
    stream = make_stream()
    assert stream.has_room
    for policy in (Policy.COALESCE, Policy.DROP_NEWEST, Policy.DROP_OLDEST, Policy.DISCONNECT):
        live(stream, f"policy={policy}&buffer=1")
    publish(stream, *numbered(1, 50))
    assert stream.has_room


def test_there_is_room_until_the_buffer_of_a_blocking_consumer_is_full() -> None:
    stream = make_stream()
    subscription = live(stream, "policy=block&buffer=3")
    for seq in (1, 2):
        publish(stream, *numbered(seq, seq))
        assert stream.has_room
    publish(stream, *numbered(3, 3))
    assert not stream.has_room
    subscription.take(1)
    assert stream.has_room


def test_there_is_room_until_the_bytes_of_a_blocking_consumer_are_full() -> None:
    stream = make_stream(StreamSettings(buffer_bytes=1_000))
    subscription = live(stream, "policy=block&buffer=100")
    publish(stream, *texts("x" * 400))
    assert stream.has_room
    publish(stream, *texts("x" * 600))
    assert not stream.has_room
    subscription.take(1)
    assert stream.has_room


def test_a_blocking_consumer_at_the_head_always_leaves_room() -> None:
    stream = make_stream(StreamSettings(buffer_bytes=1))
    subscription = live(stream, "policy=block&buffer=1")
    assert stream.has_room
    publish(stream, *texts("x" * 100))
    assert not stream.has_room
    drain(subscription)
    assert stream.has_room


def test_the_consumer_whose_buffer_is_full_first_decides_not_the_slowest() -> None:
    stream = make_stream()
    live(stream, "policy=block&buffer=100")
    publish(stream, *numbered(1, 5))
    picky = live(stream, "policy=block&buffer=2")
    publish(stream, *numbered(6, 6))
    assert stream.has_room
    publish(stream, *numbered(7, 7))
    assert not stream.has_room
    drain(picky)
    assert stream.has_room


def test_nobody_waits_for_a_replaying_consumer_until_it_caught_up() -> None:
    stream = make_stream()
    publish(stream, *numbered(1, 50))
    subscription = stream.subscribe(ask("policy=block&buffer=2"), now=0.0)
    assert stream.has_room
    publish(stream, *numbered(51, 60))
    assert stream.has_room
    while subscription.is_replaying:
        assert stream.has_room
        subscription.take(1)
    assert not stream.has_room, "ten are waiting for it now"


def test_a_blocking_consumer_that_leaves_leaves_room() -> None:
    stream = make_stream()
    subscription = live(stream, "policy=block&buffer=1")
    publish(stream, *numbered(1, 1))
    assert not stream.has_room
    stream.unsubscribe(subscription, 0.0)
    assert stream.has_room


def test_a_blocking_consumer_that_loses_events_to_the_retention_frees_their_bytes() -> None:
    stream = make_stream(StreamSettings(retention=Retention(events=2), buffer_bytes=400))
    live(stream, "policy=block&buffer=100")
    publish(stream, *texts("x" * 300, "y", "z"))
    assert stream.has_room


# Info


def test_info_tells_the_stream_at_this_moment() -> None:
    stream = make_stream(StreamSettings(retention=Retention(events=3)))
    live(stream)
    stream.producer_came()
    publish(stream, *numbered(1, 5), now=7.0)
    info = describe(stream, clock_at)
    assert (info.id, info.epoch, info.head, info.floor, info.events) == ("s", "e1", 5, 3, 3)
    assert (info.bytes, info.consumers, info.producers, info.closed) == (stream.log.bytes, 1, 1, False)
    assert (info.created_at, info.last_active_at) == ("at 0", "at 7")


def test_info_does_not_change_after() -> None:
    stream = make_stream(StreamSettings(retention=Retention(events=1)))
    subscription = live(stream)
    before = describe(stream, clock_at)
    publish(stream, *numbered(1, 5))
    drain(subscription)
    assert before.counters.evicted == 0
    assert describe(stream, clock_at).counters.evicted == 4


def test_streams_are_told_apart_by_identity() -> None:
    assert len({make_stream(), make_stream()}) == 2
    assert isinstance(make_stream(), Stream)


def test_a_consumer_more_than_the_limit_is_refused_until_one_has_left() -> None:
    stream = make_stream(StreamSettings(max_consumers=2))
    first, _ = stream.subscribe(ask(), now=0.0), stream.subscribe(ask(), now=0.0)
    with pytest.raises(WireError, match=r"2 consumers \(max_consumers\)") as refusal:
        stream.subscribe(ask(), now=0.0)
    assert refusal.value.code is ProblemCode.OVERLOADED
    stream.unsubscribe(first, 1.0)
    assert stream.subscribe(ask(), now=1.0).stream is stream


def test_a_producer_more_than_the_limit_is_refused_and_fences_nobody() -> None:
    stream = make_stream(StreamSettings(max_producers=1))
    writer = stream.open_producer("p", 0)
    stream.producer_came()
    with pytest.raises(WireError, match=r"1 producers \(max_producers\)") as refusal:
        stream.open_producer("p", 1)
    assert refusal.value.code is ProblemCode.OVERLOADED
    assert stream.producers.is_latest(writer)
    stream.producer_left(1.0)
    assert stream.open_producer("p", 1).generation == 1
