"""Server frames, checked by the client side of websockets' parser."""

from __future__ import annotations

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from deltawire.protocol import framing

BOUNDARY_SIZES = [0, 1, 125, 126, 127, 65535, 65536]
OPCODES = {framing.TEXT: Opcode.TEXT, framing.BINARY: Opcode.BINARY}


def _parse(data: bytes) -> list[Frame]:
    client = ClientProtocol(parse_uri("ws://localhost/"), state=OPEN, max_size=None)
    client.receive_data(data)
    assert client.parser_exc is None
    return [event for event in client.events_received() if isinstance(event, Frame)]


@pytest.mark.parametrize("size", BOUNDARY_SIZES)
@pytest.mark.parametrize("first", list(OPCODES))
def test_a_client_reads_back_the_payload_that_was_framed(first: int, size: int) -> None:
    payload = b"x" * size
    (frame,) = _parse(framing.frame(first, payload))
    assert (frame.opcode, frame.fin, bytes(frame.data)) == (OPCODES[first], True, payload)


@pytest.mark.parametrize("size", BOUNDARY_SIZES)
@pytest.mark.parametrize("first", list(OPCODES))
def test_the_length_is_written_in_the_shortest_form(first: int, size: int) -> None:
    shortest = 2 if size < 126 else 4 if size < 65536 else 10
    assert len(framing.header(first, size)) == shortest
    assert framing.payload_start(framing.frame(first, b"x" * size)) == shortest


def test_frames_written_one_after_the_other_are_read_one_by_one() -> None:
    payloads = [b"x" * size for size in BOUNDARY_SIZES]
    stream = b"".join(framing.frame(framing.TEXT, payload) for payload in payloads)
    assert [bytes(frame.data) for frame in _parse(stream)] == payloads


@pytest.mark.parametrize("first", list(OPCODES))
def test_the_payloads_of_frames_are_found_again(first: int) -> None:
    payloads = [b"x" * size for size in BOUNDARY_SIZES]
    assert list(framing.payloads(b"".join(framing.frame(first, payload) for payload in payloads))) == payloads
    assert list(framing.payloads(b"")) == []
