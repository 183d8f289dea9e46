"""An incremental decoder of event streams: bytes in, events out (WHATWG HTML §9.2.6, server-sent events).

No existing push-style library fits: httpx-sse's decoder is private and tied to httpx, and assel shares the state of its
UTF-8 decoder between instances.

It differs from WHATWG where WHATWG discards data:

- an event that the end of the body cuts off before its blank line is dispatched by `finish`;
- an event with a name and no data is dispatched with empty data;
- lines that are no field at all (in practice: a JSON error body where a stream was expected) are dispatched as the
  data of an unnamed event, `Stray`; a page of HTML as one, whatever blank lines it has;
- an event ends with its line of data where whoever reads it says that this is whole: some servers send no blank line;
- bytes that are no UTF-8 are kept, as lone surrogates (PEP 383): the next event may have the rest of the character.

Comments are dropped, and so are the fields `id` and `retry`, which control how browsers reconnect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from deltawire.protocol.errors import DeltawireError

MAX_EVENT = 8 * 1024 * 1024
"""Maximum bytes of one event: a hundred times the largest seen, and small enough to be harmless in a hostile body."""

_MAX_TRIES = 16
_BOM = b"\xef\xbb\xbf"
_DROPPED_FIELDS = frozenset({"", "id", "retry"})  # the empty name is a comment's


class ServerSentEvent(NamedTuple):
    """One event of a stream; `event` is empty if it has no name."""

    event: str
    data: str


class Stray(ServerSentEvent):
    """Lines that are no part of an event stream."""

    __slots__ = ()


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

    Lines are decoded from UTF-8 when they are whole. CR and LF are never part of a longer sequence, so this gives what
    decoding the body at once would give.

    Args:
        max_event: bytes one event may hold.
        is_whole: whether one line is all of an event's data, which then ends without a blank line; asked for the first
            line of data, and for the first of lines that are no field.
    """

    def __init__(self, max_event: int = MAX_EVENT, *, is_whole: Callable[[str], bool] = lambda _: False) -> None:
        self._max_event = max_event
        self._is_whole = is_whole
        self._line = bytearray()
        self._after_cr = False
        self._at_start = True
        self._held = 0
        self._event = ""
        self._data: list[str] = []
        self._stray: list[str] = []
        self._tries = 0  # how often the lines that are no field were read to see whether they are whole
        self._is_after_whole = False  # whether a whole event was given before its blank line
        self._is_dense = False  # whether no blank line comes

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
        yield from self._dispatch(is_end=True)

    def _end_line(self) -> list[ServerSentEvent]:
        if self._at_start:
            self._line = self._line.removeprefix(_BOM)
            self._at_start = False
        size = len(self._line)
        line = self._line.decode("utf-8", "surrogateescape")
        self._line.clear()
        if not line:
            self._is_after_whole = False
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._note_density()
            events = self._dispatch() if self._is_dense and self._data else []
            self._event = value
            return events
        if name == "data":
            return self._take_data(value, size)
        if name not in _DROPPED_FIELDS:
            self._held += size
            is_whole = self._is_whole(line)
            events = [self._take_stray()] if is_whole and self._stray and self._is_json() else []
            self._stray.append(line)
            return events + (self._dispatch() if (is_whole and len(self._stray) == 1) or _ends_page(line) else [])
        return []

    def _take_data(self, value: str, size: int) -> list[ServerSentEvent]:
        self._note_density()
        events: list[ServerSentEvent] = []
        if self._stray and not self._data:
            events.append(self._take_stray())
        if self._data and self._data[-1].endswith("}") and value.startswith("{"):  # never so within one JSON value
            events += self._dispatch()
            self._is_dense = True
        is_whole = (self._is_dense or not self._data) and self._is_whole(value)
        if is_whole and self._data:
            events += self._dispatch()
        self._data.append(value)
        self._held += size
        if is_whole:
            events += self._dispatch()
            self._is_after_whole = True
        return events

    def _note_density(self) -> None:
        """A line of another event comes where no blank line has ended the last one: so it may be with all of them."""
        self._is_dense |= self._is_after_whole
        self._is_after_whole = False

    def _dispatch(self, *, is_end: bool = False) -> list[ServerSentEvent]:
        events: list[ServerSentEvent] = []
        if not self._data and not is_end and self._stray and not self._is_over():
            self._stray.append("")
            self._held += 1
            return events
        if self._data or (self._event and not self._stray):
            events.append(ServerSentEvent(self._event, "\n".join(self._data)))
            self._event = ""
        if self._stray:
            events.append(self._take_stray(self._event))
        self._event, self._data, self._held = "", [], 0
        return events

    def _take_stray(self, event: str = "") -> Stray:
        stray = Stray(event, "\n".join(self._stray))
        self._stray, self._held, self._tries = [], 0, 0
        return stray

    def _is_over(self) -> bool:
        """Whether a blank line ends the lines that are no field: it ends neither a page of HTML nor a JSON value."""
        last = self._stray[-1].rstrip()
        if self._stray[0].lstrip().startswith("<"):
            return _ends_page(last)
        if not self._is_json():
            return True
        self._tries += last.endswith(("}", "]"))
        return self._tries <= _MAX_TRIES and last.endswith(("}", "]")) and self._is_whole("\n".join(self._stray))

    def _is_json(self) -> bool:
        return self._stray[0].lstrip().startswith(("{", "["))


def _ends_page(line: str) -> bool:
    return line.rstrip()[-7:].lower() == "</html>"
