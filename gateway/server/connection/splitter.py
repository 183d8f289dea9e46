"""Splits a socket's bytes into frames: a fast path around the library's parser.

That parser takes a frame apart in a dozen steps of a generator, and every delta of a producer would pay for each. But
nearly all frames are whole text or binary messages. They are recognised by their first byte and unmasked here. Every
other frame goes to the library, whole, so that it alone judges what is unusual or wrong (RFC 6455 §5).
"""

from __future__ import annotations

from typing import Final

from websockets.frames import apply_mask  # type: ignore[attr-defined]  # the compiled one where there is one

from deltawire.protocol.framing import BINARY, TEXT

OTHER: Final = 0
"""In place of a first byte: marks bytes for the library's parser."""

_MESSAGES = (TEXT, BINARY)
_FIN_OF_FRAGMENTS = 0x80
_FRAGMENTS_BEGIN = (0x01, 0x02)
_MASKED = 0x80
_RESERVED = 0x70


class FrameSplitter:
    """Splits one connection's incoming bytes into messages, and frames for the library.

    Args:
        limit: most bytes of a frame's payload; the library refuses a longer frame by its header.
    """

    __slots__ = ("_is_fragmented", "_is_given_up", "_limit", "_rest", "_wanted")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest: bytearray | None = None  # the beginning of an incomplete frame
        self._wanted = 0  # bytes it must have before it is parsed again
        self._is_fragmented = False
        self._is_given_up = False

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Return the frames that are complete now.

        Args:
            data: bytes from the socket.

        Returns:
            In order: (`TEXT` or `BINARY`, a whole message, unmasked) or (`OTHER`, bytes for the library).
        """
        if self._rest is not None:
            self._rest += data
            if len(self._rest) < self._wanted:
                return []
            data = self.take_rest()
        frames: list[tuple[int, bytes]] = []
        at, end = 0, len(data)
        while at < end and not self._is_given_up:
            first = data[at]
            if end - at > 5 and first in _MESSAGES and _MASKED <= (length := data[at + 1]) < _MASKED + 126:
                start = at + 6  # most frames: their extent is known without a call
                stop = start + length - _MASKED
            else:
                start, stop = self._extent(data, at, end)
                if self._is_given_up:
                    break
            if stop > end:
                self._wanted = stop - at
                self._rest = bytearray(memoryview(data)[at:])
                return frames
            if first in _MESSAGES and not self._is_fragmented:
                frames.append((first, apply_mask(data[start:stop], data[start - 4 : start])))
            else:
                frames.append(self._other(data[at:stop]))
            at = stop
        if at < end:
            frames.append((OTHER, data[at:]))
        return frames

    def _other(self, piece: bytes) -> tuple[int, bytes]:
        """Return a frame for the library; whole messages follow only where no fragments do."""
        if piece[0] in _FRAGMENTS_BEGIN:
            self._is_fragmented = True
        elif piece[0] == _FIN_OF_FRAGMENTS:
            self._is_fragmented = False
        return OTHER, piece

    def _extent(self, data: bytes, at: int, end: int) -> tuple[int, int]:
        """Return where the payload of the frame at `at` begins and ends, as far as its header is complete."""
        if end - at < 2:
            return end, at + 2
        length = data[at + 1]
        if length < _MASKED or data[at] & _RESERVED:
            self._is_given_up = True  # no valid frame: the library handles the rest
            return end, end
        length -= _MASKED
        if length < 126:
            start = at + 6
            return start, start + length
        start = at + (8 if length == 126 else 14)
        if start > end:
            return start, start
        length = int.from_bytes(data[at + 2 : start - 4])
        if length > self._limit:
            self._is_given_up = True
        return start, start + length

    @property
    def held_bytes(self) -> int:
        """Bytes held of an incomplete frame."""
        return 0 if self._rest is None else len(self._rest)

    def take_rest(self) -> bytes:
        """Return the beginning of an incomplete frame, and no longer hold it."""
        rest, self._rest = self._rest, None
        return bytes(rest or b"")
