"""What the machine comes upon seldom, each by itself: producers that are held up, and who takes over from them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.codec import JSON
from deltawire.protocol.codes import CloseCode, ProblemCode
from deltawire.protocol.messages import Policy
from tests.contract.follower import Follower
from tests.contract.test_gateway_machine import GatewayMachine
from tests.contract.world import BLOCK_TIMEOUT, SWEEP, TIMEOUT
from tests.contract.writer import WriterPeer


def begin(*, is_interrupted: bool = False) -> GatewayMachine:
    """A gateway with two producers and four consumers, one of each of four policies."""
    it = GatewayMachine()
    it.start(
        write_limit=300,
        policy=Policy.COALESCE,
        retention_events=50_000,
        retention_bytes=8 << 20,
        buffer_bytes=1 << 20,
        is_interrupted=is_interrupted,
    )
    return it


@pytest.fixture
def machine() -> Iterator[GatewayMachine]:
    """A gateway and its peers; they are looked at afterwards."""
    it = begin()
    yield it
    it.check_waiting()
    it.invariant_3_appended_once_in_order_and_never_by_an_older_generation()
    it.teardown()


def hold_up(machine: GatewayMachine) -> tuple[Follower, WriterPeer]:
    """Have the `block` consumer stand still until the producer with an id is held up; who they are."""
    blocking = next(it for it in machine.followers if it.policy is Policy.BLOCK)
    writer = next(it for it in machine.writers if it.producer == "p")
    blocking.stall(0)
    machine.settle()
    machine.publish_by(writer, ["text"] * 30, is_batch=False)
    assert writer.pending
    machine.check_waiting()
    return blocking, writer


def test_invariant_7_a_held_producer_goes_on_at_once_when_the_consumer_reads(machine: GatewayMachine) -> None:
    blocking, writer = hold_up(machine)
    blocking.go_on()
    machine.settle()
    assert not writer.pending


def test_invariant_7_a_held_producer_goes_on_at_once_when_the_consumer_is_ended(machine: GatewayMachine) -> None:
    blocking, writer = hold_up(machine)
    machine.wait(BLOCK_TIMEOUT + 2 * SWEEP)
    assert not writer.pending
    blocking.go_on()
    machine.settle()
    assert blocking.problems == [ProblemCode.SLOW_CONSUMER]


def test_invariant_7_consumers_that_hold_producers_up_have_block_timeout_each(machine: GatewayMachine) -> None:
    machine.subscribe("a", {"policy": Policy.BLOCK}, JSON)
    earlier, later = [it for it in machine.followers if it.policy is Policy.BLOCK]
    earlier.stall(0)
    later.stall(1_500)  # it takes what comes before the other one holds the producers up
    first, second = machine.writers
    machine.publish_by(first, ["text"] * 30, is_batch=True)
    machine.publish_by(second, ["text"], is_batch=True)
    assert not later.socket.is_full
    machine.wait(BLOCK_TIMEOUT + 2 * SWEEP)
    assert second.pending, "the first one took all the room there was"
    assert later.socket.is_full
    machine.wait(BLOCK_TIMEOUT + 2 * SWEEP)
    assert not second.pending


def test_invariant_3_a_held_producer_is_acked_for_nothing_it_waits_with(machine: GatewayMachine) -> None:
    _, writer = hold_up(machine)
    assert writer.acks
    assert len(writer.pending) == 30 - writer.book.head


@pytest.mark.parametrize("generation", [0, 1])
def test_invariant_3_what_a_held_producer_sent_is_not_appended_after_its_successor(
    machine: GatewayMachine, generation: int
) -> None:
    blocking, older = hold_up(machine)
    machine.add_writer("a", "p", generation, "wait", JSON)
    newer = machine.writers[-1]
    head = older.book.head
    assert older.problems == [ProblemCode.FENCED] * generation, "of a newer generation it hears at once"
    blocking.go_on()
    machine.settle()
    assert older.problems == [ProblemCode.FENCED]
    assert older.book.head == head
    machine.publish_by(newer, ["text"], is_batch=False)
    assert not newer.pending


def test_invariant_3_a_held_producer_is_fenced_by_its_successor_even_as_the_gateway_goes(
    machine: GatewayMachine,
) -> None:
    _, older = hold_up(machine)
    machine.add_writer("a", "p", 0, "wait", JSON)
    assert not older.problems, "it hears of it when the consumer reads on: at the end, as everybody does"


def test_invariant_8_a_stalled_consumer_that_is_found_dead_is_watched_no_more(machine: GatewayMachine) -> None:
    [stalled] = [it for it in machine.followers if it.policy is Policy.DISCONNECT]
    [writer] = [it for it in machine.writers if it.producer is None]
    stalled.stall(0)
    machine.publish_by(writer, ["text"] * 4, is_batch=True)  # one short of its buffer
    [channel] = machine.hub.dispatcher._channels.values()
    assert len(channel._trips) == 1
    machine.wait(TIMEOUT + 2 * SWEEP)
    assert stalled.socket.is_lost
    assert not channel._trips


def test_invariant_8_a_write_that_was_put_off_goes_with_its_consumer(machine: GatewayMachine) -> None:
    machine.subscribe("a", {"interval": 16}, JSON)
    [writer] = [it for it in machine.writers if it.producer is None]
    for _ in range(2):  # the first is written at once, the second after the interval
        machine.publish_by(writer, ["text"], is_batch=False)
    assert "Consumer._end_interval" in machine.loop.timers
    for peer in machine.peers:
        peer.cut()
    machine.settle()
    assert "Consumer._end_interval" not in machine.loop.timers


def test_invariant_5_whoever_has_everything_hears_of_the_end_at_once(machine: GatewayMachine) -> None:
    followers = machine.followers
    machine.hub.close_all()
    machine.settle()
    assert all(it.has_ended for it in followers)
    assert all(it.is_over for it in followers)


def test_invariant_5_nothing_is_said_after_stream_end_though_it_fills_the_socket(machine: GatewayMachine) -> None:
    slow = machine.followers[0]
    slow.stall(0)
    [writer] = [it for it in machine.writers if it.producer is None]
    machine.publish_by(writer, ["text"] * 3, is_batch=True)
    assert not slow.socket.is_full
    machine.hub.close("a")
    machine.settle()
    assert slow.socket.is_full
    slow.send(b'{"type":"signal","name":"cancel"}')
    machine.settle()
    slow.go_on()
    machine.settle()  # it holds that `stream_end` is the last word
    assert slow.has_ended
    assert slow.close_code == CloseCode.STREAM_ENDED


def test_invariant_5_whoever_has_everything_it_asked_for_hears_of_the_end_after_its_interval(
    machine: GatewayMachine,
) -> None:
    machine.subscribe("a", {"interval": 16, "types": "usage"}, JSON)
    slow = machine.followers[-1]
    [writer] = [it for it in machine.writers if it.producer is None]
    machine.publish_by(writer, ["usage"], is_batch=False)
    machine.settle(0.016)
    machine.publish_by(writer, ["text"], is_batch=False)
    assert not slow.lacks()
    writer.close_stream()
    machine.settle()
    machine.check_waiting()
    assert not slow.has_ended, "what it did not ask for is passed over with its next write"
    machine.settle(0.016)
    assert slow.has_ended


def test_invariant_8_a_lease_that_nobody_needs_any_more_is_forgotten_with_the_next_sweep(
    machine: GatewayMachine,
) -> None:
    lost, other = machine.writers
    machine.publish_by(lost, ["start"], is_batch=False)
    lost.cut()
    machine.settle()
    machine.publish_by(other, ["stop"], is_batch=False)
    machine.add_writer("a", "p", 0, "wait", JSON)
    assert machine.hub.dispatcher._leased
    for peer in machine.peers:
        peer.cut()
    machine.settle()
    machine.invariant_8_nothing_is_left_of_whoever_is_gone()
    machine.settle(SWEEP)
    assert not machine.hub.dispatcher._leased


def test_a_machine_that_can_not_be_stopped_leaves_nothing_behind_at_which_the_next_would_fail() -> None:
    append = Stream.append
    it = GatewayMachine()
    it.listen_to_appends()

    def spin() -> None:
        it.loop.call_soon(spin)

    spin()
    with pytest.raises(AssertionError, match="never comes to rest"):
        it.teardown()
    assert Stream.append is append
    assert it.loop.is_closed()


def test_what_failed_keeps_its_frames_while_connections_end(machine: GatewayMachine) -> None:
    frames = None
    try:
        int("what fails")
    except ValueError as failure:
        for peer in machine.peers:
            peer.cut()
        machine.settle()
        frames = failure.__traceback__
    assert frames is not None


def test_invariant_5_producers_hear_of_consumers_though_the_timer_for_that_comes_a_rounding_early() -> None:
    it = begin(is_interrupted=True)
    it.settle(1224.332 - it.now)
    for stream in ("a", "b"):
        it.add_writer(stream, None, 0, "wait", JSON)
        for _ in range(2):
            it.subscribe(stream, {}, JSON)
    it.knock_at_random(request=b"")  # its timers bring time to less than a nanosecond before the next `audience`
    assert [writer.audience for writer in it.writers] == [6, 6, 6, 2]
    it.teardown()


def test_invariant_9_a_consumer_is_ended_for_more_signals_than_it_may_send_and_for_no_fewer(
    machine: GatewayMachine,
) -> None:
    talkative = machine.followers[0]
    for _ in range(19):
        machine.signal(pick=0, times=1)
    machine.wait(0.1)
    for _ in range(2):
        assert not talkative.was_hindered
        assert not talkative.is_over
        machine.signal(pick=0, times=1)
    machine.signal(pick=0, times=1)
    assert talkative.problems == [ProblemCode.RATE_LIMITED]
