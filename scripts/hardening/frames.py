"""What a hostile client puts on the wire: frames no library would send (RFC 6455 §5.2)."""

from __future__ import annotations

import json
import zlib
from typing import Any, Final

TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

FINAL: Final = 0x80
COMPRESSED: Final = 0x40

MIB: Final = 1024 * 1024

_MASKED = 0x80
_NO_MASK = bytes(4)
"""A mask like any other to a server."""


def frame(first: int, payload: bytes = b"", *, masked: bool = True) -> bytes:
    """A frame.

    Args:
        first: its first byte, all of it.
        payload: what it carries.
        masked: whether it is masked, as a client's frames must be.
    """
    size, mask = len(payload), _MASKED if masked else 0
    if size < 126:
        head = bytes((first, mask | size))
    elif size < 1 << 16:
        head = bytes((first, mask | 126)) + size.to_bytes(2)
    else:
        head = bytes((first, mask | 127)) + size.to_bytes(8)
    return head + (_NO_MASK if masked else b"") + payload


def text(message: Any) -> bytes:
    """A message as a whole text frame; text and bytes as they are."""
    if isinstance(message, str):
        message = message.encode()
    return frame(FINAL | TEXT, message if isinstance(message, bytes) else json.dumps(message).encode())


def delta(words: str) -> bytes:
    """An event of a producer."""
    return text({"type": "text_delta", "data": {"text": words}})


def announced(length: int) -> bytes:
    """The beginning of a text frame that says it will have so many bytes."""
    return bytes((FINAL | TEXT, _MASKED | 127)) + length.to_bytes(8) + _NO_MASK


OVERSIZE: Final = [
    announced(1 << 62),
    announced((1 << 64) - 1),
    announced(MIB + 1),
    frame(FINAL | TEXT, b"x" * (MIB + 1)),
    frame(TEXT, b"x" * MIB) + frame(FINAL, b"x"),
]
"""Ends in close 1009."""

BROKEN: Final = [
    frame(FINAL | TEXT, b"{}", masked=False),
    frame(0xF1, b"{}"),
    frame(0x83, b"x"),
    frame(0x8B, b"x"),
    frame(FINAL, b"continues nothing"),
    frame(TEXT, b"{") + frame(FINAL | TEXT, b"}"),
    frame(PING, b"a ping in pieces"),
    frame(FINAL | PING, b"x" * 126),
    frame(FINAL | CLOSE, b"\x03"),
    frame(FINAL | CLOSE, b"\x03\xed"),
]
"""Ends in close 1002."""

_DEFLATE = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
_BIT_OF_BOMB = _DEFLATE.compress(b"0" * MIB) + _DEFLATE.flush(zlib.Z_FULL_FLUSH)  # one can follow another

BOMB: Final = frame(FINAL | COMPRESSED | TEXT, (_BIT_OF_BOMB * 50)[: -len(b"\0\0\xff\xff")])
"""50 MiB in 50 KiB, as permessage-deflate would have it (RFC 7692 §7.2.1)."""

BAD_TEXT: Final = [
    frame(FINAL | TEXT, b'{"type":"\xff\xfe"}'),
    frame(FINAL | TEXT, b'{"type":"\xed\xa0\x80"}'),
    text(b'{"type":"extension","data":{"provider":"p","name":"n","data":' + b"[" * 30_000),
    text(b'{"type":"signal","name":"n","data":' + b'{"a":' * 10_000),
    text(b'{"type":"usage","data":{"prompt_tokens":' + b"9" * 60_000 + b"}}"),
    text(b'{"type":"signal","name":"n","data":' + b"9" * 60_000 + b"}"),
    text(b'{"type":"extension","data":{"provider":"p","name":"n","data":1e999}}'),
    text(b"x" * 65_537),
    text(b"x" * MIB),
    text(b"\0"),
    text(b""),
    frame(FINAL | BINARY, b"\xc1"),
]
"""Each is one problem, after which the connection is still there."""
