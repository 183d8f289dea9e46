"""The client side of RFC 6455, as little of it as a load generator needs, and stamps in payloads.

A stamp is 15 digits, microseconds of the monotonic clock, before a marker of two bytes that nothing else on the wire
contains: how many events a read brought is a count of markers, how old one is stands right before its marker. Both
survive folding, which concatenates texts, and reads that end anywhere.
"""

from __future__ import annotations

import struct

MARKER = b"|^"
"""Two bytes of no JSON and no header of the peers. A frame's length could contain them only at 31,838 bytes."""

STAMP_DIGITS = 15

_BLANK = b"0" * STAMP_DIGITS

TEXT = 0x1
BINARY = 0x2

_MASKED = 0x80
_FINAL = 0x80
_NO_MASK = bytes(4)
"""The mask 0 is one like any other to a server, which unmasks all the same, and saves this side the masking."""


def request(path: str, port: int, subprotocol: str = "", token: str = "") -> bytes:
    """A WebSocket handshake.

    Args:
        path: with its query.
        port: on the loopback interface.
        subprotocol: offered, if any.
        token: sent as a bearer, if any.
    """
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: ZGVsdGF3aXJlIGJlbmNoIQ==",
        "Sec-WebSocket-Version: 13",
    ]
    if subprotocol:
        lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
    if token:
        lines.append(f"Authorization: Bearer {token}")
    return "\r\n".join([*lines, "", ""]).encode()


def masked(payload: bytes, opcode: int = TEXT) -> bytes:
    """A whole message of a client (RFC 6455 §5.2)."""
    size = len(payload)
    if size < 126:
        header = struct.pack("!BB", _FINAL | opcode, _MASKED | size)
    elif size < 1 << 16:
        header = struct.pack("!BBH", _FINAL | opcode, _MASKED | 126, size)
    else:
        header = struct.pack("!BBQ", _FINAL | opcode, _MASKED | 127, size)
    return header + _NO_MASK + payload


def unmasked(payload: bytes, opcode: int = TEXT) -> bytes:
    """A whole message of a server of at most 125 bytes."""
    return struct.pack("!BB", _FINAL | opcode, len(payload)) + payload


EVENT = b'{"type":"text_delta","data":{"text":" w ' + _BLANK + MARKER + b'"}}'
"""What is published to every peer: 60 bytes."""


class Template:
    """A message to publish, whole but for its stamp.

    Args:
        message: as it goes on the wire, with a blank stamp in it.
    """

    __slots__ = ("_head", "_tail")

    def __init__(self, message: bytes) -> None:
        self._head, found, self._tail = message.partition(_BLANK)
        assert found, "there is a stamp to fill in"

    def fill(self, stamp: int) -> bytes:
        """The message with its stamp in microseconds."""
        return b"%b%015d%b" % (self._head, stamp, self._tail)


def first_stamp(data: bytearray, size: int) -> int:
    """The stamp of the first event in the first `size` bytes that is whole there; 0 if there is none."""
    at = data.find(MARKER, STAMP_DIGITS, size)
    return int(data[at - STAMP_DIGITS : at]) if at > 0 else 0


def last_stamp(data: bytearray, size: int) -> int:
    """The stamp of the last event in the first `size` bytes that is whole there; 0 if there is none."""
    at = data.rfind(MARKER, STAMP_DIGITS, size)
    return int(data[at - STAMP_DIGITS : at]) if at > 0 else 0
