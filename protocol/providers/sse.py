"""An incremental decoder of event streams: bytes in, events out (WHATWG HTML §9.2.6, server-sent events).

No existing push-style library fits: httpx-sse's decoder is private and tied to httpx, and assel shares the state of its
UTF-8 decoder between instances.

It differs from WHATWG where WHATWG discards data:

- `finish` dispatches an event that is cut off by the end of the body before its blank line;
- an event with a name but no data is dispatched with empty data;
- lines that are not fields (in practice: a JSON error body instead of a stream) are dispatched as the data of an
  unnamed event.

Comments are dropped, and so are the fields `id` and `retry`, which control how browsers reconnect.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from deltawire.protocol.errors import DeltawireError

MAX_EVENT = 8 * 1024 * 1024
"""Maximum bytes of one event: a hundred times the largest seen, and small enough to be harmless in a hostile body."""

_BOM = b"\xef\xbb\xbf"
_DROPPED_FIELDS = frozenset({"", "id", "retry"})  # the empty name is a comment's


class ServerSentEvent(NamedTuple):
    """One event of a stream; `event` is empty if it has no name."""

    event: str
    data: str


class EventTooLargeError(DeltawireError):
    """One event has more bytes than the decoder keeps.

    Args:
        limit: the maximum bytes of an event.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return f"one server-sent event is larger than {self.limit} bytes"


class EventStreamDecoder:
    """Decodes one body, however it is split, in time linear in its bytes.

    Complete lines are decoded from UTF-8. CR and LF are never part of a longer sequence, so the result is the same as
    for decoding the whole body at once: U+FFFD for invalid bytes.

    Args:
        max_event: maximum bytes of one event.
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
        """The events that end within these bytes; iterate to the end before the next call.

        Args:
            chunk: the next bytes of the body, split anywhere.

        Raises:
            EventTooLargeError: an event exceeds the limit. Earlier events were yielded; the decoder is unusable.
        """
        if not chunk:
            return
        if self._after_cr:
            chunk = chunk.removeprefix(b"\n")  # the second half of a CRLF, whose line has already ended
        self._after_cr = chunk.endswith(b"\r")
        for piece in chunk.splitlines(keepends=True):
            text = piece.rstrip(b"\r\n")
            self._line += text
            if self._held + len(self._line) > self._max_event:
                raise EventTooLargeError(self._max_event)
            if len(text) < len(piece):
                yield from self._end_line()

    def finish(self) -> Iterator[ServerSentEvent]:
        """The last event, if the body ended before its blank line."""
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
