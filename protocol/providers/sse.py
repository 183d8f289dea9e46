"""An incremental decoder of event streams: bytes in, events out (WHATWG HTML §9.2.6, server-sent events).

Written here because no push-style library fits: httpx-sse's decoder is private and tied to httpx, and assel shares the
state of its UTF-8 decoder between instances.

It departs from WHATWG where WHATWG throws away what a stream said:

- an event that the end of the body cuts off before its blank line is dispatched by `finish`;
- an event with a name and no data is dispatched with empty data;
- lines that are no field at all (in practice: a JSON error body where a stream was expected) are dispatched as the
  data of an unnamed event.

Dropped are comments, and the fields `id` and `retry`, which steer a browser's reconnecting.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from deltawire.protocol.errors import DeltawireError

MAX_EVENT = 8 * 1024 * 1024
"""Bytes one event may hold: a hundred times the largest seen, and small enough for a hostile body to do no harm."""

_BOM = b"\xef\xbb\xbf"
_DROPPED_FIELDS = frozenset({"", "id", "retry"})  # the empty name is a comment's


class ServerSentEvent(NamedTuple):
    """One event of a stream; an event without a name has the empty one."""

    event: str
    data: str


class EventTooLargeError(DeltawireError):
    """One event holds more bytes than the decoder keeps.

    Args:
        limit: the bytes it may hold.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return f"one server-sent event is larger than {self.limit} bytes"


class EventStreamDecoder:
    """Decodes one body, however it is split; the time taken is linear in its bytes.

    Lines are decoded from UTF-8 when they are whole. CR and LF are never part of a longer sequence, so this gives what
    decoding the body at once would give: U+FFFD for what is invalid.

    Args:
        max_event: bytes one event may hold.
    """

    def __init__(self, max_event: int = MAX_EVENT) -> None:
        self._max_event = max_event
        self._line = bytearray()
        self._after_cr = False
        self._at_start = True
        self._held = 0
        self._event = ""
        self._data: list[str] = []
        self._stray: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        """The events that end within these bytes; to be iterated to its end before anything else is fed.

        Args:
            chunk: the next bytes of the body, split anywhere.

        Raises:
            EventTooLargeError: an event is over the limit; those before it have been given. The decoder is done for.
        """
        if not chunk:
            return
        if self._after_cr:
            chunk = chunk.removeprefix(b"\n")  # the other half of a CRLF, which has ended its line already
        self._after_cr = chunk.endswith(b"\r")
        for piece in chunk.splitlines(keepends=True):
            text = piece.rstrip(b"\r\n")
            self._line += text
            if self._held + len(self._line) > self._max_event:
                raise EventTooLargeError(self._max_event)
            if len(text) < len(piece):
                yield from self._end_line()

    def finish(self) -> Iterator[ServerSentEvent]:
        """What the end of the body cut off: the last event, if no blank line ended it."""
        if self._line:
            yield from self._end_line()
        yield from self._dispatch()

    def _end_line(self) -> list[ServerSentEvent]:
        if self._at_start:
            self._line = self._line.removeprefix(_BOM)
            self._at_start = False
        size = len(self._line)
        line = self._line.decode("utf-8", "replace")
        self._line.clear()
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
            self._held += size
        elif name not in _DROPPED_FIELDS:
            self._stray.append(line)
            self._held += size
        return []

    def _dispatch(self) -> list[ServerSentEvent]:
        events = []
        if self._event or self._data:
            events.append(ServerSentEvent(self._event, "\n".join(self._data)))
        if self._stray:
            events.append(ServerSentEvent("", "\n".join(self._stray)))
        self._event, self._data, self._stray, self._held = "", [], [], 0
        return events
