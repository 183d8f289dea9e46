"""The load generator counts right, wherever reads end, and stamps with the time that was due."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from scripts.bench.load import Load
from scripts.bench.reads import clock
from scripts.bench.schedule import evenly
from scripts.bench.wire import BINARY, EVENT, MARKER, Template, first_stamp, last_stamp, masked
from tests.support.waiting import DEADLINE


def text(stamp: int) -> bytes:
    return b"%015d%b" % (stamp, MARKER)


def parse(data: bytes, *, mask: bool) -> Frame:
    reader = StreamReader()
    reader.feed_data(data)
    parsing = Frame.parse(reader.read_exact, mask=mask)
    while True:
        try:
            next(parsing)
        except StopIteration as stop:
            frame: Frame = stop.value
            return frame


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        yield near, far


@pytest.mark.parametrize("size", [0, 60, 125, 126, 65535, 65536])
def test_a_client_frame_is_one(size: int) -> None:
    frame = parse(masked(b"x" * size, BINARY), mask=True)
    assert (frame.opcode, frame.data, frame.fin) == (Opcode.BINARY, b"x" * size, True)


def test_an_event_has_60_bytes_and_its_stamp() -> None:
    assert len(EVENT) == 60
    assert parse(Template(masked(EVENT)).fill(123), mask=True).data == EVENT.replace(b"0" * 15, b"000000000000123")


def test_stamps_are_those_of_whole_events() -> None:
    data = bytearray(text(1)[-9:] + text(2) + text(3) + text(4)[:-1])
    assert (first_stamp(data, len(data)), last_stamp(data, len(data))) == (2, 3)
    assert first_stamp(bytearray(text(1)[-9:]), 9) == 0


@pytest.mark.parametrize("cut", range(1, 34))
def test_events_are_counted_wherever_a_read_ends(pair: tuple[socket.socket, socket.socket], cut: int) -> None:
    near, far = pair
    data = text(1) + text(2)
    with Load() as load:
        load.consume(near, 7)
        far.send(data[:cut])
        load.run(DEADLINE, lambda: load.reads.count == 1)
        far.send(data[cut:])
        load.run(DEADLINE, lambda: load.reads.count == 2)
        assert load.reads.total == 2
        assert load.reads.by_consumer() == {7: 2}


def test_what_came_with_the_handshake_counts() -> None:
    near, far = socket.socketpair()
    with far, Load() as load:
        load.consume(near, 1, b"subscribed" + text(5) + text(6)[:-1])
        far.send(MARKER[-1:])
        load.run(DEADLINE, lambda: load.reads.total == 2)
        assert load.reads.total == 2


def test_a_stamp_is_the_time_that_was_due_however_late_it_is_sent(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    with Load() as load:
        producer = load.produce(near, Template(b"0" * 15 + MARKER))
        start = clock() - 3_000_000_000
        load.start(evenly(1, 2, 1), start)
        load.run(DEADLINE, lambda: not load.sender.is_busy)
        assert far.recv(100) == text(start // 1000) + text((start + 500_000_000) // 1000)
        assert producer.sent == 2


def test_what_a_socket_does_not_take_is_sent_when_it_does(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    far.setblocking(False)
    with Load() as load:
        load.produce(near, Template(b"0" * 15 + MARKER))
        load.start(evenly(1, 200_000, 1), clock() - 1_000_000_000)
        load.run(0.01)
        assert load.sender.is_busy
        got = bytearray()

        def drained() -> bool:
            while True:
                try:
                    got.extend(far.recv(65536))
                except BlockingIOError:
                    return not load.sender.is_busy

        assert load.run(DEADLINE, drained)
        drained()
        assert got.count(MARKER) == 200_000


def test_the_last_ack_is_found(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    with Load() as load:
        producer = load.produce(near, Template(masked(EVENT)))
        far.send(b'{"type":"ready"}{"type":"ack","seq":3}{"type":"ack","seq":41,"producer_seq":41}')
        load.run(DEADLINE, lambda: producer.acked > 0)
        assert producer.acked == 41


def test_a_connection_that_ends_is_noticed(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    with Load() as load:
        load.consume(near, 1)
        far.close()
        load.run(DEADLINE, lambda: load.lost_connections == 1)
        assert load.lost_connections == 1
