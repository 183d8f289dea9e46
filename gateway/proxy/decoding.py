"""The content of an answer whose bytes are compressed. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

from deltawire.protocol.events import Error

MAX_GROWTH: Final = 1 << 20
"""Bytes that one piece of a body may become. A piece has at most 64 KiB, and text shrinks to a tenth."""

_WINDOWS: Final = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}

READABLE: Final = frozenset(_WINDOWS) | {"identity"}
"""Codings whose content can be read, as `Accept-Encoding` names them."""

Decode = Callable[[bytes], bytes]


class UnreadableContent(ValueError):  # noqa: N818 - the name says what is wrong
    """The content of a body can't be read.

    Attributes:
        error: the event that tells readers.
    """

    error: Final = Error("the provider's answer is compressed in a way that can't be read", "stream_failed")


def make_decoder(coding: str) -> Decode:
    """A function that decodes the pieces of one body.

    Args:
        coding: as `Content-Encoding` names it; empty for none.

    Raises:
        UnreadableContent: the coding is not known; when the function is called, the body is not of that coding.
    """
    if not coding:
        return bytes
    if coding not in _WINDOWS:
        raise UnreadableContent(f"the content coding {coding!r} is not known")
    inflater = zlib.decompressobj(_WINDOWS[coding])

    def decode(piece: bytes) -> bytes:
        nonlocal inflater
        content = b""
        while piece:
            if inflater.eof:  # gzip may have several members (RFC 1952 §2.2)
                inflater = zlib.decompressobj(_WINDOWS[coding])
            try:
                content += inflater.decompress(piece, MAX_GROWTH + 1 - len(content))
            except zlib.error as error:
                raise UnreadableContent(f"the body is not {coding}: {error}") from None
            if len(content) > MAX_GROWTH:
                raise UnreadableContent(f"a piece of the body has over {MAX_GROWTH} bytes")
            piece = inflater.unused_data
        return content

    return decode
