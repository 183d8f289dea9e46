"""RFC 6455 frames from server to client: unfragmented and unmasked, so all readers get the same bytes (§5.2)."""

from __future__ import annotations

from collections.abc import Iterator

TEXT = 0x81
"""First byte of an unfragmented text frame: FIN and opcode 1."""

BINARY = 0x82
"""First byte of an unfragmented binary frame: FIN and opcode 2."""

COMMON_LENGTH = 1024
"""Payload length below which headers are precomputed; nearly all deltas are shorter."""


def header(first: int, length: int) -> bytes:
    """The frame header for a payload of `length` bytes.

    Args:
        first: `TEXT` or `BINARY`.
        length: payload length in bytes.
    """
    return _HEADERS[first][length] if length < COMMON_LENGTH else _make_header(first, length)


def _make_header(first: int, length: int) -> bytes:
    if length < 126:
        return bytes((first, length))
    if length < 0x10000:
        return bytes((first, 126)) + length.to_bytes(2)
    return bytes((first, 127)) + length.to_bytes(8)


_HEADERS = {first: [_make_header(first, length) for length in range(COMMON_LENGTH)] for first in (TEXT, BINARY)}


def frame(first: int, payload: bytes) -> bytes:
    """A whole frame, ready to write to a socket."""
    return header(first, len(payload)) + payload


def payload_start(frame_bytes: bytes) -> int:
    """The offset of the payload in a frame made here: 2, 4 or 10."""
    length = frame_bytes[1]
    return 2 if length < 126 else 4 if length == 126 else 10


def split_frames(frames: bytes) -> Iterator[bytes]:
    """Split a sequence of whole frames made here."""
    at = 0
    while at < len(frames):
        length = frames[at + 1]
        start = at + payload_start(frames[at : at + 2])
        if length >= 126:
            length = int.from_bytes(frames[at + 2 : start])
        yield frames[at : start + length]
        at = start + length


def payloads(frames: bytes) -> Iterator[bytes]:
    """The payloads of a sequence of whole frames made here."""
    return (frame[payload_start(frame) :] for frame in split_frames(frames))
