"""The splitter finds what the library's own parser finds, however the bytes come."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame
from websockets.server import ServerProtocol

from deltawire.gateway.server.connection.splitter import OTHER, FrameSplitter
from deltawire.protocol import framing
from tests.support.rawpeer import BINARY, KEY, PING, PONG, TEXT, frame
from tests.support.soaking import lasting

LIMIT = 70_000

sizes = st.sampled_from((0, 1, 125, 126, 127, 200, 65_535, 65_536, LIMIT))
messages = st.builds(lambda opcode, size: frame(opcode, b"x" * size), st.sampled_from((TEXT, BINARY)), sizes)
controls = st.builds(
    lambda opcode, size: frame(opcode, b"c" * size), st.sampled_from((PING, PONG)), st.integers(0, 125)
)
fragmented = st.builds(
    lambda opcode, size, ping: b"".join(
        (frame(opcode, b"a" * size, first=opcode), ping, frame(0, b"b", first=0), frame(0, b"c"))
    ),
    st.sampled_from((TEXT, BINARY)),
    st.sampled_from((0, 1, 126)),
    st.sampled_from((b"", frame(PING, b"p"))),
)
traffic = st.lists(st.one_of(messages, controls, fragmented), max_size=6).map(b"".join)


def frames_of(protocol: ServerProtocol) -> list[tuple[int, bytes]]:
    """What the library makes of what it was given: opcodes and payloads."""
    events = protocol.events_received()
    return [(event.opcode.value, bytes(event.data)) for event in events if isinstance(event, Frame)]


def opened() -> ServerProtocol:
    """The library's parser, past the handshake."""
    protocol = ServerProtocol(max_size=LIMIT)
    protocol.receive_data(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    (request,) = protocol.events_received()
    assert not isinstance(request, Frame)
    protocol.send_response(protocol.accept(request))  # type: ignore[arg-type]  # a request, as nothing else comes first
    return protocol


def split(pieces: list[bytes]) -> list[tuple[int, bytes]]:
    """What comes out of splitter and library together."""
    return split_until_its_end(pieces)[0]


def split_until_its_end(pieces: list[bytes]) -> tuple[list[tuple[int, bytes]], str]:
    """What comes out of splitter and library together until a close or a broken frame, and what was broken."""
    splitter, protocol = FrameSplitter(LIMIT), opened()
    found: list[tuple[int, bytes]] = []
    for piece in pieces:
        for first, data in splitter.feed(piece):
            if protocol.close_expected():
                return found, str(protocol.parser_exc)
            if first == OTHER:
                protocol.receive_data(data)
                found += frames_of(protocol)
            else:
                found.append((first & 0x0F, data))
    if not protocol.close_expected():
        protocol.receive_data(splitter.take_rest())
    return found + frames_of(protocol), str(protocol.parser_exc)


@st.composite
def any_frame(draw: st.DrawFn) -> bytes:
    """A frame of any first byte, with its length in any of the three forms, masked or not, cut short or not."""
    first = draw(
        st.one_of(st.sampled_from((0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8A)), st.integers(0, 255))
    )
    payload = draw(st.binary(max_size=140))
    form = draw(st.sampled_from((1, 1, 2, 8)))
    said = draw(st.sampled_from((len(payload),) * 8 + (0, LIMIT, LIMIT + 1, 1 << 63)))
    mask = draw(st.sampled_from((0x80,) * 6 + (0,)))
    head = bytes((first, mask | (min(said, 125) if form == 1 else 126 if form == 2 else 127)))
    length = b"" if form == 1 else min(said, 0xFFFF).to_bytes(2) if form == 2 else said.to_bytes(8)
    return head + length + (draw(st.binary(min_size=4, max_size=4)) if mask else b"") + payload


@given(data=st.lists(any_frame(), max_size=8).map(b"".join), cuts=st.lists(st.integers(0, 2000), max_size=6))
@settings(max_examples=lasting(150, 2000))
def test_whatever_comes_it_finds_what_the_library_finds_and_breaks_where_that_breaks(
    data: bytes, cuts: list[int]
) -> None:
    whole = opened()
    whole.receive_data(data)
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    found, broken = split_until_its_end([data[a:b] for a, b in pairwise(places)])
    assert (found, broken) == (frames_of(whole), str(whole.parser_exc))


@given(data=traffic, cuts=st.lists(st.integers(0, 200_000), max_size=8))
def test_it_finds_what_the_library_finds_however_the_bytes_are_cut(data: bytes, cuts: list[int]) -> None:
    whole = opened()
    whole.receive_data(data)
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    assert split([data[a:b] for a, b in pairwise(places)]) == frames_of(whole)


def test_bytes_one_at_a_time_make_the_same_frames() -> None:
    data = frame(TEXT, b"hello") + frame(PING, b"p") + frame(BINARY, b"x" * 200)
    assert split([bytes((byte,)) for byte in data]) == [(TEXT, b"hello"), (PING, b"p"), (BINARY, b"x" * 200)]


@pytest.mark.parametrize(
    "wrong",
    [
        frame(TEXT, b"{}", masked=False),
        frame(TEXT, b"{}", first=0xC1),
        b"\x81\xff" + (LIMIT + 1).to_bytes(8) + KEY,
    ],
    ids=["unmasked", "a reserved bit", "too long"],
)
def test_after_a_wrong_frame_everything_is_for_the_library(wrong: bytes) -> None:
    splitter = FrameSplitter(LIMIT)
    good = frame(TEXT, b"{}")
    assert splitter.feed(good + wrong) == [(framing.TEXT, b"{}"), (OTHER, wrong)]
    assert splitter.feed(good) == [(OTHER, good)]


def test_a_message_inside_a_fragmented_one_is_for_the_library_to_refuse() -> None:
    splitter = FrameSplitter(LIMIT)
    begin, whole = frame(TEXT, b"a", first=TEXT), frame(TEXT, b"b")
    assert splitter.feed(begin + whole) == [(OTHER, begin), (OTHER, whole)]


def test_a_long_frame_that_drips_is_looked_at_once_it_is_whole() -> None:
    splitter = FrameSplitter(LIMIT)
    data = frame(TEXT, b"x" * 60_000)
    assert [splitter.feed(data[at : at + 100]) for at in range(0, len(data) - 100, 100)] == [[]] * (len(data) // 100)
    ((first, payload),) = splitter.feed(data[len(data) // 100 * 100 :])
    assert (first, len(payload)) == (framing.TEXT, 60_000)
