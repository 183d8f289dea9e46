"""Leases, on literal times."""

from __future__ import annotations

import pytest

from deltawire.gateway.streams.leases import MAX_OPEN, MAX_OPEN_BYTES, Leases
from deltawire.gateway.streams.producers import Writer
from deltawire.protocol.events import Data, Error, MessageStart, MessageStop, TextDelta, Usage

P, Q = Writer("p", 0), Writer("q", 0)
P_AGAIN = Writer("p", 0)
SOMEBODY, NEXT, OTHER = Writer(None, 0), Writer(None, 0), Writer(None, 0)


def leases_with(**messages: Writer | None) -> Leases:
    leases = Leases()
    for message_id, writer in messages.items():
        leases.begin(message_id, writer)
    return leases


def test_a_producer_lost_inside_a_message_has_until_its_deadline() -> None:
    leases = leases_with(m1=P)
    assert leases.lost(P, deadline=110.0)
    assert leases.is_running
    assert leases.expire(109.9) == []
    assert leases.expire(110.0) == ["m1"]
    assert not leases.is_running


def test_what_expired_expires_once() -> None:
    leases = leases_with(m1=P)
    leases.lost(P, deadline=110.0)
    leases.expire(110.0)
    assert leases.expire(200.0) == []
    assert not leases.lost(P, deadline=300.0)


def test_a_producer_that_is_back_in_time_goes_on() -> None:
    leases = leases_with(m1=P)
    leases.lost(P, deadline=110.0)
    leases.returned(P)
    assert not leases.is_running
    assert leases.expire(200.0) == []


def test_a_producer_lost_again_gets_a_new_deadline() -> None:
    leases = leases_with(m1=P)
    leases.lost(P, deadline=110.0)
    leases.returned(P)
    assert leases.lost(P, deadline=220.0)
    assert leases.expire(200.0) == []
    assert leases.expire(220.0) == ["m1"]


def test_a_producer_lost_between_messages_has_no_lease() -> None:
    leases = leases_with(m1=P)
    leases.end("m1")
    assert not leases.lost(P, deadline=110.0)
    assert not leases.is_running


def test_another_producers_return_or_loss_is_not_this_ones() -> None:
    leases = leases_with(m1=P, m2=Q)
    assert leases.lost(P, deadline=110.0)
    leases.returned(Q)
    assert leases.expire(110.0) == ["m1"]
    assert leases.lost(Q, deadline=120.0)
    assert leases.expire(120.0) == ["m2"]


def test_a_producer_without_an_id_is_replaced_by_the_next_one_that_comes() -> None:
    leases = leases_with(m1=SOMEBODY)
    assert leases.lost(SOMEBODY, deadline=110.0)
    leases.returned(NEXT)
    assert leases.expire(110.0) == []
    assert leases.lost(NEXT, deadline=120.0)
    assert leases.expire(120.0) == ["m1"]


def test_a_producer_without_an_id_is_not_replaced_by_one_that_was_there_before() -> None:
    leases = leases_with(m1=SOMEBODY)
    leases.returned(OTHER)
    leases.begin("m2", OTHER)
    assert leases.lost(SOMEBODY, deadline=110.0)
    assert leases.resume(OTHER, MessageStart("m3")) == []
    assert leases.expire(110.0) == ["m1"]


def test_what_the_process_itself_begins_is_never_lost() -> None:
    leases = leases_with(m1=None)
    assert not leases.lost(SOMEBODY, deadline=110.0)
    leases.returned(NEXT)
    assert leases.resume(NEXT, MessageStart("m2")) == []


# Coming back


@pytest.mark.parametrize("back", [P_AGAIN, Writer("p", 1)])
@pytest.mark.parametrize("was_seen_to_go", [True, False])
def test_a_producer_that_comes_back_and_begins_another_message_has_abandoned_all_it_had(
    back: Writer,
    was_seen_to_go: bool,  # noqa: FBT001 - drawn
) -> None:
    leases = leases_with(m1=P, m2=P, other=Q)
    if was_seen_to_go:
        leases.lost(P, deadline=110.0)
    leases.returned(back)
    assert leases.resume(back, MessageStart("m3")) == ["m1", "m2"]
    leases.begin("m3", back)
    assert not leases.waiting
    assert leases.resume(back, MessageStart("m4")) == [], "it may have several open now"


@pytest.mark.parametrize("data", [TextDelta("x"), Usage(1, 2, 3), Error("overloaded")])
def test_a_producer_that_goes_on_after_it_came_back_keeps_what_it_had(data: Data) -> None:
    leases = leases_with(m1=P, m2=P)
    leases.lost(P, deadline=110.0)
    leases.returned(P_AGAIN)
    assert leases.resume(P_AGAIN, data) == []
    assert leases.resume(P_AGAIN, MessageStart("m3")) == []
    assert not leases.waiting


def test_a_producer_that_came_back_and_only_ended_one_message_has_abandoned_the_other() -> None:
    leases = leases_with(m1=P, m2=P)
    leases.returned(P_AGAIN)
    assert leases.resume(P_AGAIN, MessageStop("m1", "end_turn")) == []
    leases.end("m1")
    assert leases.resume(P_AGAIN, MessageStart("m3")) == ["m2"]


def test_a_message_begun_anew_by_its_producer_is_not_abandoned() -> None:
    leases = leases_with(m1=P, m2=P)
    leases.returned(P_AGAIN)
    assert leases.resume(P_AGAIN, MessageStart("m1")) == ["m2"]


def test_the_next_producer_without_an_id_abandons_what_it_does_not_go_on_with() -> None:
    leases = leases_with(m1=SOMEBODY, m2=OTHER)
    leases.lost(SOMEBODY, deadline=110.0)
    leases.returned(NEXT)
    assert leases.resume(NEXT, MessageStart("m3")) == ["m1"]


def test_nobody_is_waited_for_whose_messages_have_ended() -> None:
    leases = leases_with(m1=P, m2=P)
    leases.returned(P_AGAIN)
    leases.end("m1")
    assert leases.waiting
    leases.end("m2")
    assert not leases.waiting
    leases.returned(P_AGAIN)
    assert not leases.waiting


def test_only_the_first_of_all_messages_in_progress_is_the_only_one() -> None:
    leases = Leases()
    assert leases.begin("m1", P)
    assert leases.begin("m1", P)
    assert not leases.begin("m2", Q)
    leases.end("m1")
    assert not leases.begin("m3", Q)
    assert not leases.begin("x" * MAX_OPEN_BYTES, Q), "of one that is not kept nothing is known"


def test_a_message_ended_while_leased_is_not_ended_again() -> None:
    leases = leases_with(m1=P)
    leases.lost(P, deadline=110.0)
    leases.end("m1")
    assert leases.expire(110.0) == []


def test_messages_in_progress_are_bounded() -> None:
    leases = leases_with(**{f"m{number}": P for number in range(MAX_OPEN + 1)})
    leases.lost(P, deadline=1.0)
    lost = leases.expire(1.0)
    assert len(lost) == MAX_OPEN
    assert "m0" not in lost


def test_ids_of_messages_are_kept_up_to_a_number_of_bytes() -> None:
    leases = Leases()
    for number in range(40):
        leases.begin(f"{number:03d}" + "m" * 1_000, P)
        assert leases.bytes <= MAX_OPEN_BYTES
    leases.lost(P, deadline=1.0)
    kept = [f"{number:03d}" + "m" * 1_000 for number in range(26, 40)]
    assert leases.expire(1.0) == kept
    assert leases.bytes == 0


def test_an_id_longer_than_all_may_be_together_is_not_kept() -> None:
    leases = leases_with(short=P)
    leases.begin("x" * MAX_OPEN_BYTES, P)
    assert leases.bytes == 0
    assert not leases.lost(P, deadline=1.0)


def test_a_message_begun_twice_is_counted_once() -> None:
    leases = leases_with(m=P)
    once = leases.bytes
    assert leases.begin("m", P_AGAIN)
    assert leases.bytes == once
    leases.end("m")
    leases.end("m")
    assert leases.bytes == 0


def test_messages_of_two_producers_with_one_id_are_two() -> None:
    leases = leases_with(m=P)
    once = leases.bytes
    assert not leases.begin("m", Q)
    assert leases.bytes == 2 * once
    leases.end("m", Q)
    assert not leases.begin("n", Q), "the first one goes on"
    leases.end("n", Q)
    assert leases.lost(P, deadline=110.0)
    assert not leases.lost(Q, deadline=110.0)
    assert leases.expire(110.0) == ["m"]
    assert leases.bytes == 0


def test_of_two_lost_ones_without_an_id_that_have_a_message_of_one_id_the_next_one_has_one() -> None:
    leases = leases_with(m=SOMEBODY)
    once = leases.bytes
    leases.begin("m", OTHER)
    leases.lost(SOMEBODY, deadline=110.0)
    leases.lost(OTHER, deadline=110.0)
    leases.returned(NEXT)
    assert leases.bytes == once
    assert leases.resume(NEXT, MessageStart("n")) == ["m"]
