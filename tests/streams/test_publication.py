"""A publication: repeats, holes, fencing, and which ack it is owed."""

from __future__ import annotations

import pytest
from msgspec import UNSET

from deltawire.gateway.streams.log import Ledger
from deltawire.gateway.streams.publication import FIRST_READS, Publication
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import WireError
from deltawire.protocol.messages import Ack


@pytest.fixture
def stream() -> Stream:
    return Stream("s", "e", StreamSettings(), 0.0, Ledger())


def publication(stream: Stream, producer: str | None = "p", generation: int = 0) -> Publication:
    return Publication(stream, stream.open_producer(producer, generation))


def refusal(of: Publication, number: int) -> tuple[ProblemCode, str]:
    with pytest.raises(WireError) as refused:
        of.is_repeat(number)
    return refused.value.code, refused.value.message


def test_invariant_3_a_number_is_new_once_then_a_repeat_and_a_hole_is_told(stream: Stream) -> None:
    it = publication(stream)
    assert not it.is_repeat(1)
    assert refusal(it, 2) == (ProblemCode.SEQUENCE_GAP, "producer_seq 2 leaves a hole: 1 is expected")
    it.accepted(1, 10)
    assert it.is_repeat(1)
    assert not it.is_repeat(2)
    assert refusal(it, 3) == (ProblemCode.SEQUENCE_GAP, "producer_seq 3 leaves a hole: 2 is expected")


def test_a_number_that_was_not_appended_stays_new(stream: Stream) -> None:
    it = publication(stream)
    assert not it.is_repeat(1)
    assert not it.is_repeat(1)


def test_invariant_3_a_repeat_is_acked_as_what_the_number_became(stream: Stream) -> None:
    publication(stream).accepted(1, 10)
    back = publication(stream)
    assert back.is_repeat(1)
    assert back.take_ack() == Ack(seq=10, producer_seq=1)


def test_invariant_3_a_repeat_changes_nothing(stream: Stream) -> None:
    it = publication(stream)
    it.accepted(1, 10)
    it.accepted(2, 14)
    assert it.is_repeat(1)
    assert (it.writer.last, it.writer.seq) == (2, 14)
    assert it.take_ack() == Ack(seq=14, producer_seq=2)


def test_invariant_3_an_earlier_connection_of_a_producer_takes_no_numbers_any_more(stream: Stream) -> None:
    before = publication(stream)
    publication(stream)
    code, message = refusal(before, 1)
    assert code is ProblemCode.FENCED
    assert "later connection of producer 'p'" in message


def test_numbers_need_a_producer_id(stream: Stream) -> None:
    assert refusal(publication(stream, None), 1)[0] is ProblemCode.INVALID_EVENT


def test_the_ack_of_events_without_numbers_names_none(stream: Stream) -> None:
    it = publication(stream, None)
    it.accepted(UNSET, 3)
    it.accepted(UNSET, 4)
    assert it.owes_ack
    assert it.is_ack_due(0.0)
    assert it.take_ack() == Ack(seq=4)
    assert not it.owes_ack


def test_an_ack_waits_when_its_producer_is_steady_but_not_that_of_a_complete_message(stream: Stream) -> None:
    it = publication(stream)
    for seq in range(1, FIRST_READS + 1):
        it.accepted(seq, seq)
        assert it.is_ack_due(0.0)
        it.take_ack()
    it.accepted(FIRST_READS + 1, FIRST_READS + 1)
    assert not it.is_ack_due(0.0)
    assert it.owes_ack
    it.accepted(FIRST_READS + 2, FIRST_READS + 2)
    it.is_urgent = True
    assert it.is_ack_due(0.0)
    assert it.take_ack() == Ack(seq=FIRST_READS + 2, producer_seq=FIRST_READS + 2)
    assert not it.is_urgent
