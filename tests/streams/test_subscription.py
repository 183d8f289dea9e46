"""One consumer: what it is sent, in which order, under which policy."""

from __future__ import annotations

import pytest

from deltawire.gateway.streams.log import Retention
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.stream import Stream
from deltawire.gateway.streams.subscription import Subscription
from deltawire.protocol.codec import JSON, MSGPACK, Codec
from deltawire.protocol.events import ContentEnd, Data, Error, Event, Extension, TextDelta, Usage
from deltawire.protocol.messages import CaughtUp, Gap, Policy, StreamEnd, Subscribed
from tests.support.reading import (
    ask,
    delta_text,
    drain,
    live,
    make_stream,
    numbered,
    only,
    publish,
    read_frames,
    spans,
    texts,
)


def small(*, events: int = 50_000, buffer_bytes: int = 1 << 20) -> Stream:
    return make_stream(StreamSettings(retention=Retention(events=events), buffer_bytes=buffer_bytes))


def catch_up(subscription: Subscription) -> list[tuple[int, int] | str]:
    return spans(drain(subscription))


# Order: opening, replay, caught up, live, end


@pytest.mark.parametrize("codec", [JSON, MSGPACK])
def test_messages_come_in_the_promised_order(codec: Codec) -> None:
    stream = make_stream()
    publish(stream, *numbered(1, 3))
    subscription = stream.subscribe(ask("policy=block"), codec, now=0.0)
    publish(stream, *numbered(4, 4))
    stream.close("closed", 1.0)
    opening, *replay, caught_up, event, end = drain(subscription)
    assert opening == Subscribed(
        stream="s",
        epoch="e1",
        floor=1,
        head=3,
        after=0,
        policy=Policy.BLOCK,
        buffer=100,
        recovered=False,
        closed=False,
    )
    assert spans(replay) == [(1, 1), (2, 2), (3, 3)]
    assert caught_up == CaughtUp(seq=3)
    assert spans([event]) == [(4, 4)]
    assert end == StreamEnd(seq=4, reason="closed")
    assert subscription.take() == b"", "stream_end is sent once"


def test_an_empty_stream_is_caught_up_with_at_once() -> None:
    assert drain(make_stream().subscribe(ask(), now=0.0))[1:] == [CaughtUp(seq=0)]


def test_the_opening_comes_by_itself_whatever_the_size() -> None:
    stream = make_stream()
    publish(stream, *numbered(1, 3))
    subscription = stream.subscribe(ask(), now=0.0)
    (frame,) = read_frames(subscription.take(1) or b"")
    assert isinstance(frame.message, Subscribed)


def test_a_resume_gets_exactly_what_is_missing() -> None:
    stream = make_stream()
    publish(stream, *numbered(1, 6))
    subscribed, *rest = drain(stream.subscribe(ask("after=4&epoch=e1&policy=block"), now=0.0))
    assert isinstance(subscribed, Subscribed)
    assert (subscribed.after, subscribed.recovered) == (4, True)
    assert spans(rest) == [(5, 5), (6, 6)]


def test_a_resume_into_another_epoch_is_told_so_and_starts_over() -> None:
    stream = make_stream()
    publish(stream, *numbered(1, 2))
    subscribed, gap, *rest = drain(stream.subscribe(ask("after=4&epoch=e0&policy=block"), now=0.0))
    assert isinstance(subscribed, Subscribed)
    assert (subscribed.epoch, subscribed.after, subscribed.recovered) == ("e1", 0, False)
    assert gap == Gap(first=1, seq=0, reason="epoch_changed")
    assert spans(rest) == [(1, 1), (2, 2)]


def test_a_late_joiner_is_told_what_was_trimmed() -> None:
    stream = small(events=3)
    publish(stream, *numbered(1, 8))
    assert catch_up(stream.subscribe(ask("policy=block"), now=0.0)) == ["evicted 1-5", (6, 6), (7, 7), (8, 8)]


def test_a_closed_stream_is_replayed_then_ends() -> None:
    stream = make_stream()
    publish(stream, *numbered(1, 2))
    stream.close("inactive", 1.0)
    subscribed, *_, caught_up, end = drain(stream.subscribe(ask(), now=2.0))
    assert isinstance(subscribed, Subscribed)
    assert subscribed.closed
    assert (caught_up, end) == (CaughtUp(seq=2), StreamEnd(seq=2, reason="inactive"))


def test_is_replaying_until_caught_up_and_live_at_the_head() -> None:
    stream = make_stream()
    publish(stream, *numbered(1, 2))
    subscription = stream.subscribe(ask("policy=block"), now=0.0)
    assert (subscription.is_replaying, subscription.is_live, subscription.lag) == (True, False, 2)
    drain(subscription)
    assert (subscription.is_replaying, subscription.is_live, subscription.lag) == (False, True, 0)
    publish(stream, *numbered(3, 3))
    assert (subscription.is_live, subscription.lag) == (False, 1)
    stream.close("closed", 0.0)
    drain(subscription)
    assert (subscription.ended, subscription.is_live) == (True, False)


def test_a_subscription_not_opened_yet_is_not_live() -> None:
    assert not make_stream().subscribe(ask("from=now"), now=0.0).is_live


def test_take_gives_about_the_size_asked_for_and_always_advances() -> None:
    stream = make_stream()
    publish(stream, *numbered(1, 5))
    subscription = stream.subscribe(ask("policy=block"), now=0.0)
    subscription.take()
    for seq in range(1, 6):
        assert len(read_frames(subscription.take(1) or b"")) == 1
        assert subscription.cursor == seq
    assert spans(drain(subscription)) == []


# Falling off the log


def test_what_was_trimmed_under_a_consumer_is_a_gap_and_is_counted() -> None:
    stream = small(events=3)
    subscription = live(stream, "policy=block")
    publish(stream, *numbered(1, 8))
    assert catch_up(subscription) == ["evicted 1-5", (6, 6), (7, 7), (8, 8)]
    assert stream.counters.evicted == 5


def test_trimming_beyond_the_replay_ends_it() -> None:
    stream = small(events=3)
    publish(stream, *numbered(1, 3))
    subscription = stream.subscribe(ask("policy=block"), now=0.0)
    publish(stream, *numbered(4, 9))
    messages = drain(subscription)
    assert spans(messages) == ["evicted 1-6", (7, 7), (8, 8), (9, 9)]
    assert only(CaughtUp, messages) == [CaughtUp(seq=6)]


def test_a_forgotten_stream_ends_with_a_gap_for_what_was_not_read() -> None:
    stream = make_stream()
    subscription = live(stream)
    publish(stream, *numbered(1, 3))
    stream.close("closed", 1.0)
    stream.log.clear()
    assert drain(subscription) == [Gap(first=1, seq=3, reason="evicted"), StreamEnd(seq=3, reason="closed")]


# Folding: policy coalesce


def test_a_coalescing_replay_is_folded_and_live_reading_is_not() -> None:
    stream = make_stream()
    publish(stream, *numbered(1, 5))
    subscription = stream.subscribe(ask(), now=0.0)
    assert catch_up(subscription) == [(1, 5)]
    publish(stream, *numbered(6, 8))
    assert catch_up(subscription) == [(6, 6), (7, 7), (8, 8)]
    assert stream.counters.folded == 5


@pytest.mark.parametrize("policy", [policy for policy in Policy if policy is not Policy.COALESCE])
def test_other_policies_replay_raw(policy: Policy) -> None:
    stream = make_stream()
    publish(stream, *numbered(1, 3))
    assert catch_up(stream.subscribe(ask(f"policy={policy}"), now=0.0)) == [(1, 1), (2, 2), (3, 3)]


def test_over_its_limit_a_coalescing_consumer_gets_everything_folded() -> None:
    stream = make_stream()
    subscription = live(stream, "buffer=3")
    publish(stream, *numbered(1, 3))
    assert subscription.judge()
    assert catch_up(subscription) == [(1, 1), (2, 2), (3, 3)]
    publish(stream, *numbered(4, 7))
    assert subscription.judge()
    assert catch_up(subscription) == [(4, 7)]
    publish(stream, *numbered(8, 9))
    assert catch_up(subscription) == [(8, 8), (9, 9)]


def test_with_an_interval_what_came_in_between_is_folded() -> None:
    stream = make_stream()
    subscription = live(stream, "interval=16")
    assert subscription.interval == 0.016
    publish(stream, *numbered(1, 2))
    assert catch_up(subscription) == [(1, 2)]


def test_invariant_4_folded_raw_and_late_reading_give_the_same_text() -> None:
    stream = make_stream()
    early = live(stream, "policy=block")
    slow = live(stream, "buffer=1")
    publish(stream, *numbered(1, 700))
    slow.judge()
    late = stream.subscribe(ask(), now=0.0)
    resumed = stream.subscribe(ask("after=0&epoch=e1&policy=disconnect"), codec=MSGPACK, now=0.0)
    expected = "".join(f"{seq};" for seq in range(1, 701))
    for subscription in (early, slow, late, resumed):
        assert "".join(delta_text(event.data) or "" for event in only(Event, drain(subscription))) == expected


# Dropping


def test_drop_newest_skips_what_arrived_while_the_buffer_was_full() -> None:
    stream = make_stream()
    subscription = live(stream, "policy=drop_newest&buffer=3")
    publish(stream, *numbered(1, 8))
    assert subscription.judge()
    publish(stream, *numbered(9, 9))
    assert catch_up(subscription) == [(1, 1), (2, 2), (3, 3), "dropped 4-8", (9, 9)]
    assert stream.counters.dropped == 5


def test_drop_oldest_skips_the_oldest_undelivered() -> None:
    stream = make_stream()
    subscription = live(stream, "policy=drop_oldest&buffer=3")
    publish(stream, *numbered(1, 8))
    assert subscription.judge()
    assert catch_up(subscription) == ["dropped 1-5", (6, 6), (7, 7), (8, 8)]
    assert stream.counters.dropped == 5


def test_drop_newest_fills_the_room_that_reading_made() -> None:
    stream = make_stream()
    subscription = live(stream, "policy=drop_newest&buffer=3")
    publish(stream, *numbered(1, 5))
    subscription.judge()
    seen = spans([frame.message for frame in read_frames(subscription.take(1) or b"")])
    publish(stream, *numbered(6, 9))
    subscription.judge()
    assert seen + catch_up(subscription) == [(1, 1), (2, 2), (3, 3), "dropped 4-5", (6, 6), "dropped 7-9"]


def test_drop_newest_does_not_count_the_bytes_of_what_it_skipped() -> None:
    stream = small(buffer_bytes=1_000)
    subscription = live(stream, "policy=drop_newest&buffer=100")
    publish(stream, *numbered(1, 40))
    subscription.judge()
    kept = 1_000 // len(stream.log.frames(9, 10)[0])
    for _ in range(kept):
        subscription.take(1)
    publish(stream, *numbered(41, 43))
    subscription.judge()
    assert catch_up(subscription) == [f"dropped {kept + 1}-40", (41, 41), (42, 42), (43, 43)]


def test_drop_newest_takes_one_event_over_its_byte_limit_when_nothing_waits() -> None:
    stream = small(buffer_bytes=200)
    subscription = live(stream, "policy=drop_newest")
    publish(stream, *texts("x" * 500, "y"))
    subscription.judge()
    assert catch_up(subscription) == [(1, 1), "dropped 2-2"]


def test_drop_oldest_keeps_the_newest_event_however_big() -> None:
    stream = small(buffer_bytes=200)
    subscription = live(stream, "policy=drop_oldest")
    publish(stream, *texts("x", "y" * 500))
    subscription.judge()
    assert catch_up(subscription) == ["dropped 1-1", (2, 2)]


def test_drop_oldest_judged_again_and_again_keeps_the_newest() -> None:
    stream = make_stream()
    subscription = live(stream, "policy=drop_oldest&buffer=2")
    for round_ in range(5):
        publish(stream, *numbered(4 * round_ + 1, 4 * round_ + 4))
        subscription.judge()
    assert catch_up(subscription) == ["dropped 1-18", (19, 19), (20, 20)]


@pytest.mark.parametrize("policy", ["drop_newest", "drop_oldest"])
@pytest.mark.parametrize("kept", [ContentEnd(0), Usage(1, 2, 3), Error("oops"), Extension("p", "n", None)])
def test_only_deltas_are_dropped(policy: str, kept: Data) -> None:
    stream = make_stream()
    subscription = live(stream, f"policy={policy}&buffer=1")
    publish(stream, *numbered(1, 2), kept, *numbered(4, 5), kept, *numbered(7, 8))
    subscription.judge()
    seen = catch_up(subscription)
    assert (3, 3) in seen
    assert (6, 6) in seen
    assert [span for span in seen if span not in ((1, 1), (3, 3), (6, 6), (8, 8))] == (
        ["dropped 2-2", "dropped 4-5", "dropped 7-8"]
        if policy == "drop_newest"
        else ["dropped 1-2", "dropped 4-5", "dropped 7-7"]
    )


@pytest.mark.parametrize("policy", ["drop_newest", "drop_oldest"])
def test_dropping_everything_a_filter_holds_back_says_nothing(policy: str) -> None:
    stream = make_stream()
    subscription = live(stream, f"policy={policy}&buffer=1&types=usage")
    publish(stream, *numbered(1, 5), Usage(1, 2, 3), *numbered(7, 9))
    subscription.judge()
    assert catch_up(subscription) == [(6, 6)]
    assert subscription.cursor == 9


def test_what_was_skipped_then_trimmed_is_told_once() -> None:
    stream = small(events=5)
    subscription = live(stream, "policy=drop_newest&buffer=2")
    publish(stream, *numbered(1, 5))
    subscription.judge()
    publish(stream, *numbered(6, 8))
    assert catch_up(subscription) == ["evicted 1-3", "dropped 4-5", (6, 6), (7, 7), (8, 8)]


@pytest.mark.parametrize("policy", ["drop_newest", "drop_oldest"])
def test_invariant_6_a_stalled_consumer_remembers_one_skip_however_often_it_is_judged(policy: str) -> None:
    stream = make_stream()
    subscription = live(stream, f"policy={policy}&buffer=2")
    for seq in range(1, 200):
        publish(stream, *numbered(seq, seq))
        subscription.judge()
    assert len(subscription._skips) == 1


# Judging


@pytest.mark.parametrize("policy", list(Policy))
def test_no_policy_acts_during_the_replay(policy: Policy) -> None:
    stream = make_stream()
    publish(stream, *numbered(1, 9))
    subscription = stream.subscribe(ask(f"policy={policy}&buffer=1"), now=0.0)
    subscription.take()
    publish(stream, *numbered(10, 12))
    assert subscription.judge()
    seen = [span for span in catch_up(subscription) if isinstance(span, tuple)]
    assert (seen[0][0], seen[-1][1]) == (1, 12)


def test_what_piled_up_during_the_replay_is_not_held_against_a_consumer() -> None:
    stream = make_stream()
    publish(stream, *numbered(1, 2))
    subscription = stream.subscribe(ask("policy=disconnect&buffer=1"), now=0.0)
    publish(stream, *numbered(3, 9))
    while subscription.is_replaying:
        subscription.take()
    assert subscription.judge()


def test_disconnect_acts_over_the_limit_and_not_at_it() -> None:
    stream = make_stream()
    subscription = live(stream, "policy=disconnect&buffer=3")
    publish(stream, *numbered(1, 3))
    assert subscription.judge()
    publish(stream, *numbered(4, 4))
    assert not subscription.judge()


def test_disconnect_acts_over_the_byte_limit() -> None:
    stream = small(buffer_bytes=500)
    subscription = live(stream, "policy=disconnect")
    publish(stream, *texts("x" * 600))
    assert subscription.judge(), "one event alone is never too much"
    publish(stream, *texts("y"))
    assert not subscription.judge()


def test_judging_twice_without_news_changes_nothing() -> None:
    stream = make_stream()
    subscription = live(stream, "policy=drop_newest&buffer=2")
    publish(stream, *numbered(1, 4))
    subscription.judge()
    subscription.judge()
    assert catch_up(subscription) == [(1, 1), (2, 2), "dropped 3-4"]


def test_filtered_deltas_do_not_reach_a_consumer_folded_either() -> None:
    stream = make_stream()
    publish(stream, TextDelta("a"), Usage(1, 1, 2), TextDelta("b"), TextDelta("c"))
    assert catch_up(stream.subscribe(ask("types=text_delta"), now=0.0)) == [(1, 1), (3, 4)]
