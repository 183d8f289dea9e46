"""Leases, on literal times."""

from __future__ import annotations

from gateway.streams.leases import MAX_OPEN, MAX_OPEN_BYTES, Leases


def leases_with(**messages: str | None) -> Leases:
    leases = Leases()
    for message_id, producer_id in messages.items():
        leases.begin(message_id, producer_id)
    return leases


def test_a_producer_lost_inside_a_message_has_until_its_deadline() -> None:
    leases = leases_with(m1="p")
    assert leases.lost("p", deadline=110.0)
    assert leases.is_running
    assert leases.expire(109.9) == []
    assert leases.expire(110.0) == ["m1"]
    assert not leases.is_running


def test_what_expired_expires_once() -> None:
    leases = leases_with(m1="p")
    leases.lost("p", deadline=110.0)
    leases.expire(110.0)
    assert leases.expire(200.0) == []
    assert not leases.lost("p", deadline=300.0)


def test_a_producer_that_is_back_in_time_goes_on() -> None:
    leases = leases_with(m1="p")
    leases.lost("p", deadline=110.0)
    leases.returned("p")
    assert not leases.is_running
    assert leases.expire(200.0) == []


def test_a_producer_lost_again_gets_a_new_deadline() -> None:
    leases = leases_with(m1="p")
    leases.lost("p", deadline=110.0)
    leases.returned("p")
    assert leases.lost("p", deadline=220.0)
    assert leases.expire(200.0) == []
    assert leases.expire(220.0) == ["m1"]


def test_a_producer_lost_between_messages_has_no_lease() -> None:
    leases = leases_with(m1="p")
    leases.end("m1")
    assert not leases.lost("p", deadline=110.0)
    assert not leases.is_running


def test_another_producers_return_or_loss_is_not_this_ones() -> None:
    leases = leases_with(m1="p", m2="q")
    assert leases.lost("p", deadline=110.0)
    leases.returned("q")
    assert leases.expire(110.0) == ["m1"]
    assert leases.lost("q", deadline=120.0)
    assert leases.expire(120.0) == ["m2"]


def test_producers_without_an_id_stand_in_for_each_other() -> None:
    leases = leases_with(m1=None)
    assert leases.lost(None, deadline=110.0)
    leases.returned(None)
    assert leases.expire(110.0) == []


def test_a_message_ended_while_leased_is_not_ended_again() -> None:
    leases = leases_with(m1="p")
    leases.lost("p", deadline=110.0)
    leases.end("m1")
    assert leases.expire(110.0) == []


def test_messages_in_progress_are_bounded() -> None:
    leases = leases_with(**{f"m{number}": "p" for number in range(MAX_OPEN + 1)})
    leases.lost("p", deadline=1.0)
    lost = leases.expire(1.0)
    assert len(lost) == MAX_OPEN
    assert "m0" not in lost


def test_ids_of_messages_are_kept_up_to_a_number_of_bytes() -> None:
    leases = Leases()
    for number in range(40):
        leases.begin(f"{number:03d}" + "m" * 1_000, "p")
        assert leases.bytes <= MAX_OPEN_BYTES
    leases.lost("p", deadline=1.0)
    kept = [f"{number:03d}" + "m" * 1_000 for number in range(26, 40)]
    assert leases.expire(1.0) == kept
    assert leases.bytes == 0


def test_an_id_longer_than_all_may_be_together_is_not_kept() -> None:
    leases = leases_with(short="p")
    leases.begin("x" * MAX_OPEN_BYTES, "p")
    assert leases.bytes == 0
    assert not leases.lost("p", deadline=1.0)


def test_a_message_begun_twice_is_counted_once() -> None:
    leases = leases_with(m="p")
    once = leases.bytes
    leases.begin("m", "q")
    assert leases.bytes == once
    leases.end("m")
    leases.end("m")
    assert leases.bytes == 0
