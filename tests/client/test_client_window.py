"""The publisher's window: tables, and against a gateway that loses connections, answers and its memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from deltawire.gateway.client.errors import ProtocolFault
from deltawire.gateway.client.window import Window
from deltawire.protocol.events import TextDelta, make_event
from deltawire.protocol.messages import Ready


def ready(producer_seq: int, epoch: str = "e1", *continues: str) -> Ready:
    return Ready(
        stream="demo", epoch=epoch, head=0, generation=0, producer_seq=producer_seq, continues=continues or UNSET
    )


def window_with(*texts: str, accepted: int = 0) -> Window:
    """A window on a fresh connection, with events not sent yet."""
    window = Window(100)
    for text in texts:
        window.append(make_event(TextDelta(text)), 10)
    window.resume(ready(accepted))
    return window


def taken(window: Window, max_events: int = 100, max_bytes: int = 10_000) -> list[tuple[object, str]]:
    return [(event.producer_seq, event.data.text) for event in window.take(max_events, max_bytes)]


def test_events_are_numbered_from_one() -> None:
    window = window_with("a", "b")
    assert taken(window) == [(1, "a"), (2, "b")]
    assert not window.has_unsent


def test_an_ack_makes_room() -> None:
    window = Window(1)
    window.resume(ready(0))
    window.append(make_event(TextDelta("a")), 10)
    assert not window.has_room
    window.take(1, 100)
    window.ack(1)
    assert window.has_room
    assert window.acked == 1


def test_a_batch_is_bounded_by_events_and_by_bytes_but_takes_one_of_any_size() -> None:
    window = window_with("a", "b", "c", "d", "e")
    assert taken(window, max_events=2) == [(1, "a"), (2, "b")]
    assert taken(window, max_bytes=20) == [(3, "c"), (4, "d")]
    assert taken(window, max_bytes=1) == [(5, "e")]
    assert taken(window) == []


def test_a_new_connection_sends_again_what_was_not_accepted_under_the_same_numbers() -> None:
    window = window_with("a", "b", "c")
    window.take(100, 1000)
    window.resume(ready(2))
    assert window.acked == 2
    assert taken(window) == [(3, "c")]


def test_another_epoch_numbers_what_is_unacked_anew() -> None:
    window = window_with("a", "b", "c")
    window.take(100, 1000)
    window.ack(1)
    window.resume(ready(0, "e2"))
    assert window.epoch == "e2"
    assert taken(window) == [(1, "b"), (2, "c")]


def test_what_was_acked_in_an_epoch_that_is_gone_is_lost() -> None:
    window = window_with("a", "b", "c", accepted=7)
    window.take(100, 1000)
    window.ack(9)
    assert window.lost == 0
    window.resume(ready(9))
    window.resume(ready(0))  # the producer is forgotten, the log is there
    assert window.lost == 0
    window.resume(ready(0, "e2"))
    assert window.lost == 2  # the first seven are those of an earlier program
    window.take(100, 1000)
    window.resume(ready(1, "e2"))
    window.resume(ready(0, "e3"))
    assert window.lost == 3


def test_an_epoch_that_goes_on_from_the_last_one_keeps_numbers_and_what_it_has() -> None:
    window = window_with("a", "b", "c")
    window.take(100, 1000)
    window.ack(1)
    window.resume(ready(2, "e2", "e1"))  # the ack was lost with the gateway
    assert (window.epoch, window.acked, window.lost) == ("e2", 2, 0)
    assert taken(window) == [(3, "c")]


def test_what_an_epoch_that_goes_on_has_not_is_lost_and_nothing_else() -> None:
    window = window_with("a", "b", "c", "d", accepted=7)
    window.take(3, 1000)
    window.ack(10)
    window.resume(ready(9, "e2", "e1"))
    assert window.lost == 1
    assert taken(window) == [(10, "d")]
    window.ack(10)
    window.resume(ready(5, "e3", "e2", "e1"))
    assert window.lost == 4, "the first seven are those of an earlier program"


def test_a_gateway_that_continues_nothing_and_knows_an_earlier_program_gets_everything() -> None:
    window = window_with("a", "b", "c", "d", "e")
    window.take(100, 1000)
    window.resume(ready(3, "e2"))
    assert taken(window) == [(4, "a"), (5, "b"), (6, "c"), (7, "d"), (8, "e")]
    assert window.lost == 0


def test_a_number_beyond_what_was_sent_is_of_an_earlier_program_in_another_epoch() -> None:
    window = window_with("a", "b")
    window.take(100, 1000)
    window.resume(ready(40, "e2"))
    assert taken(window) == [(41, "a"), (42, "b")]


def test_a_gateway_that_forgot_the_producer_within_an_epoch_gets_new_numbers_too() -> None:
    window = window_with("a", "b")
    window.take(1, 1000)
    window.ack(1)
    window.resume(ready(0))
    assert taken(window) == [(1, "b")]


def test_a_producer_id_with_a_history_goes_on_from_there() -> None:
    assert taken(window_with("a", accepted=41)) == [(42, "a")]


def test_an_ack_may_cover_what_went_out_on_an_earlier_connection() -> None:
    window = window_with("a", "b", "c")
    window.take(100, 1000)
    window.resume(ready(0))
    window.take(1, 1000)
    window.ack(3)
    assert window.acked == 3
    assert not window


def test_an_old_ack_changes_nothing() -> None:
    window = window_with("a", "b")
    window.take(100, 1000)
    window.ack(2)
    window.ack(1)
    assert window.acked == 2


def test_an_ack_of_what_was_never_sent_is_another_program_with_the_same_id() -> None:
    window = window_with("a", "b")
    window.take(1, 1000)
    with pytest.raises(ProtocolFault, match="same producer id"):
        window.ack(2)
    with pytest.raises(ProtocolFault, match="same producer id"):
        window.resume(ready(2))


def test_a_refused_event_is_forgotten_and_its_number_goes_to_the_next() -> None:
    window = window_with("a", "b")
    window.take(1, 1000)
    assert window.refuse(1) is False
    assert taken(window) == [(1, "b")]


def test_a_refused_event_with_others_behind_it_needs_a_new_connection() -> None:
    window = window_with("a", "b", "c")
    window.take(100, 1000)
    assert window.refuse(2) is True
    window.resume(ready(1))
    assert taken(window) == [(2, "c")]


@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_refusal_of_what_is_not_under_way_is_a_fault_of_the_gateway(number: int) -> None:
    window = window_with("a", "b", "c")
    window.take(2, 1000)
    window.ack(1)
    with pytest.raises(ProtocolFault):
        window.refuse(number)


def test_a_window_holds_at_least_one_event() -> None:
    with pytest.raises(ValueError, match="window"):
        Window(0)


class PublisherSession:
    """A window that publishes 1, 2, 3 … to a gateway which may lose connections, answers and its memory."""

    def __init__(self) -> None:
        self.window = Window(1000)
        self.count = 0
        self.epoch = 0
        self.continues: list[str] = []
        self.last = 0
        self.log: list[int] = []
        self.lost: list[int] = []
        self.reconnect()

    def append(self) -> None:
        self.count += 1
        self.window.append(make_event(TextDelta(str(self.count))), 10)

    def deliver(self) -> None:
        for event in self.window.take(3, 10_000):
            number = event.producer_seq
            assert isinstance(number, int)
            assert number <= self.last + 1, "a hole"
            if number == self.last + 1:
                self.last = number
                self.log.append(int(event.data.text))

    def lose(self) -> None:
        """Sent into a connection that is dead already."""
        self.window.take(2, 10_000)
        self.reconnect()

    def ack(self) -> None:
        self.window.ack(self.last)

    def reconnect(self) -> None:
        self.window.resume(ready(self.last, f"e{self.epoch}", *self.continues))

    def move(self) -> None:
        """Another gateway goes on, in an epoch that continues the last one."""
        self.continues.insert(0, f"e{self.epoch}")
        self.epoch += 1
        self.reconnect()

    def restart(self) -> None:
        self.epoch, self.last = self.epoch + 1, 0
        self.continues.clear()
        self.lost += self.log
        self.log = []
        self.reconnect()


STEPS = (
    PublisherSession.append,
    PublisherSession.deliver,
    PublisherSession.lose,
    PublisherSession.ack,
    PublisherSession.reconnect,
    PublisherSession.restart,
    PublisherSession.move,
)


@given(st.lists(st.sampled_from(STEPS), max_size=60))
def test_whatever_gets_lost_every_event_is_in_the_log_once_and_in_order(
    steps: list[Callable[[PublisherSession], None]],
) -> None:
    it = PublisherSession()
    for step in steps:
        step(it)
    it.reconnect()
    while it.window.has_unsent:
        it.deliver()
    it.ack()
    assert not it.window
    assert it.log == list(range(it.count - len(it.log) + 1, it.count + 1)), "the latest events, once and in order"
    assert {*it.lost, *it.log} == set(range(1, it.count + 1)), "what is missing went with the gateway's memory"
