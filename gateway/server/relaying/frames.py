"""Where the frames end that a gateway sends a peer, while their bytes go by in pieces of any size. Pure.

Frames from server to client are unmasked (RFC 6455 §5.2): a header of 2, 4 or 10 bytes, then the payload.
"""

from __future__ import annotations

from typing import Final

CLOSE: Final = 0x88
"""First byte of a close frame."""


class FrameEnds:
    """The frames of one connection.

    Attributes:
        is_whole: whether the last frame is complete, so that another one may follow.
        is_closed: whether a close frame has begun.
    """

    __slots__ = ("_header", "_left", "is_closed")

    def __init__(self) -> None:
        self._left = 0  # bytes of a payload yet to come
        self._header = b""  # the beginning of a header
        self.is_closed = False

    @property
    def is_whole(self) -> bool:
        """Whether the last frame is complete."""
        return not self._left and not self._header

    def feed(self, data: bytes) -> int:
        """Take the next bytes.

        Returns:
            How many of them belong to frames that are complete now; 0 if none is.
        """
        earlier = len(self._header)
        if earlier:
            data = self._header + data
            self._header = b""
        at, end, whole = self._left, len(data), 0
        while at < end:
            whole = at
            if data[at] == CLOSE:
                self.is_closed = True
            if at + 1 < end and (length := data[at + 1]) < 126:  # nearly all
                at += 2 + length
                continue
            size = 2 if at + 1 == end else 4 if data[at + 1] == 126 else 10
            if at + size > end:
                self._header = data[at:]
                self._left = 0
                return max(whole - earlier, 0)
            at += size + int.from_bytes(data[at + 2 : at + size])
        self._left = at - end
        return max((whole if self._left else end) - earlier, 0)
