"""The input formats of `publish`: chunks of bytes of any size in, events out.

A source has `feed(chunk)` and `finish()`, like the provider translators, and `cut_short(stop_reason)`, which ends the
message in progress with the given reason.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Protocol
from uuid import uuid4

from msgspec import UNSET, structs

from deltawire.gateway.client.upstream import end_as
from deltawire.gateway.config import MIB
from deltawire.protocol.codec import JSON
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import WireError
from deltawire.protocol.events import Data, Error, Event, MessageStart, MessageStop, TextDelta, make_event
from deltawire.protocol.messages import Message
from deltawire.protocol.providers import TRANSLATORS, Translator

MAX_LINE = MIB
"""Maximum length of a line, in bytes: no gateway can be configured to accept a larger message."""

CANCELLED = "cancelled"
"""Stop reason of a message that was cancelled by a reader, a signal or the absence of readers."""

FAILED = "error"
"""Stop reason of a message whose command failed."""

_UNDECODED = re.compile("[\udc80-\udcff]")


class Source(Protocol):
    """Input in one format."""

    @property
    def place(self) -> str:
        """The place of the last event in the input, such as `line 7: `; empty for formats without lines."""
        ...

    def feed(self, chunk: bytes) -> Iterable[Data | Event]:
        """The events that this chunk completes."""
        ...

    def finish(self) -> Iterable[Data | Event]:
        """The remaining events at the end of the input."""
        ...

    def cut_short(self, stop_reason: str) -> Iterable[Data | Event]:
        """The remaining events if the input was cancelled (`CANCELLED`) or its command failed (`FAILED`)."""
        ...


def open_source(
    form: str, refuse: Callable[[str], None], warn: Callable[[str], None], *, inline_thinking: bool = False
) -> Source:
    """The source for a format.

    Args:
        form: `events`, `text`, or the name of a translator.
        refuse: called for each invalid line of events, for a provider's failure, and at the end if parts of its body
            were unreadable.
        warn: called for text that is not UTF-8.
        inline_thinking: whether `<think>…</think>` within the text of a provider is thinking.
    """
    match form:
        case "events":
            return EventsSource(refuse)
        case "text":
            return TextSource(warn)
        case _:
            translator = TRANSLATORS[form](body=uuid4().hex, inline_thinking=inline_thinking)
            return ProviderSource(translator, refuse, warn)


class Utf8:
    """Text that comes in pieces; a character cut in two waits for its other half.

    Args:
        warn: called once if it is not UTF-8; U+FFFD replaces each invalid byte.
    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._has_warned = False

    def decode(self, chunk: bytes, *, final: bool = False) -> str:
        """The characters that are complete with this chunk."""
        valid, count = _UNDECODED.subn("\N{REPLACEMENT CHARACTER}", self._decoder.decode(chunk, final=final))
        if count and not self._has_warned:
            self._has_warned = True
            self._warn("input is not all UTF-8: U+FFFD replaces what can't be read")
        return valid


class ProviderSource:
    """A provider's response body.

    Args:
        translator: reads bodies of this provider.
        refuse: called for the first failure that the provider reports, and at the end with the number of others and of
            unreadable parts.
        warn: called once if the body is not UTF-8.
    """

    place = ""

    def __init__(self, translator: Translator, refuse: Callable[[str], None], warn: Callable[[str], None]) -> None:
        self._translator = translator
        self._refuse = refuse
        self._text = Utf8(warn)
        self._failures = 0

    def feed(self, chunk: bytes) -> Iterator[Data]:
        """What this chunk completes."""
        self._text.decode(chunk)  # translators replace invalid bytes silently
        return self._heed(self._translator.feed(chunk))

    def finish(self) -> Iterator[Data]:
        """The end of the message, if the body lacks it."""
        self._text.decode(b"", final=True)
        yield from self._heed(self._translator.finish())
        self._tell_failures()
        self._tell_unparsed()

    def cut_short(self, stop_reason: str) -> Iterator[Data]:
        """The end of the message; if the message is incomplete, with the given stop reason."""
        self._tell_unparsed()  # before `finish`: parts that we cut off are not the provider's fault
        yield from end_as(stop_reason, self._translator.finish())
        self._tell_failures()

    def _heed(self, items: Iterable[Data]) -> Iterator[Data]:
        for item in items:
            if isinstance(item, Error):
                self._failures += 1
                if self._failures == 1:
                    self._refuse(f"the provider failed: {item.error}{f' ({item.code})' if item.code else ''}")
            yield item

    def _tell_failures(self) -> None:
        if (more := self._failures - 1) > 0:
            self._refuse(f"the provider told of {more} more {'failure' if more == 1 else 'failures'}")

    def _tell_unparsed(self) -> None:
        if count := self._translator.unparsed:
            self._refuse(
                f"{count} {'part' if count == 1 else 'parts'} of the input could not be read as --format says, and "
                f"went out as `extension` events named `unparsed`"
            )


class TextSource:
    """Plain text as one answer: a `text_delta` per chunk, between `message_start` and `message_stop`.

    Args:
        warn: called once if the text is not UTF-8; U+FFFD replaces each invalid byte.
    """

    place = ""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._text = Utf8(warn)
        self._message_id = f"msg_{uuid4().hex}"
        self._has_started = False

    def feed(self, chunk: bytes) -> Iterator[Data]:
        """The chunk as a delta; a character cut in two waits for its other half."""
        return self._deltas(self._text.decode(chunk))

    def finish(self) -> Iterator[Data]:
        """The end of the answer, if it has begun."""
        return self._end("end_turn")

    def cut_short(self, stop_reason: str) -> Iterator[Data]:
        """The end of the answer, if it has begun, with the given stop reason."""
        return self._end(stop_reason)

    def _end(self, stop_reason: str) -> Iterator[Data]:
        yield from self._deltas(self._text.decode(b"", final=True))
        if self._has_started:
            yield MessageStop(message_id=self._message_id, stop_reason=stop_reason)

    def _deltas(self, text: str) -> Iterator[Data]:
        if not text:
            return
        if not self._has_started:
            self._has_started = True
            yield MessageStart(message_id=self._message_id)
        yield TextDelta(text=text)


class EventsSource:
    """One JSON event per line, as producers send them or as `tail --json` prints them.

    Control messages of a recording are skipped, and fields that the gateway added are removed: the next gateway adds
    its own.

    Args:
        refuse: called for each invalid line, with its number and the reason; reading goes on with the next line.
    """

    def __init__(self, refuse: Callable[[str], None]) -> None:
        self._refuse = refuse
        self._rest = b""
        self._line = 0
        self._is_overlong = False
        self._has_advised = False
        self._open: dict[str, None] = {}  # ids of the messages in progress, in order

    @property
    def place(self) -> str:
        """The line of the last event."""
        return f"line {self._line}: "

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events of the lines that this chunk completes."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            yield from self._events(line)
        if len(self._rest) > MAX_LINE:
            self._is_overlong = True
            self._rest = b""

    def finish(self) -> Iterator[Event]:
        """The event of a last line without a newline."""
        if self._rest or self._is_overlong:
            yield from self._events(self._rest)

    def cut_short(self, stop_reason: str) -> Iterator[Event]:
        """The event of a last line, if it is complete, and the ends of the messages in progress."""
        with suppress(WireError):
            if (event := parse_line(self._rest.removeprefix(codecs.BOM_UTF8))) is not None:
                self._note(event)
                yield event
        for message_id in self._open:
            yield make_event(MessageStop(message_id=message_id, stop_reason=stop_reason))

    def _note(self, event: Event) -> None:
        match event.data:
            case MessageStart(message_id=message_id):
                self._open[message_id] = None
            case MessageStop(message_id=message_id):
                self._open.pop(message_id, None)

    def _events(self, line: bytes) -> Iterator[Event]:
        self._line += 1
        line = line.removeprefix(codecs.BOM_UTF8)  # of each recording, where several were put together
        if self._is_overlong:
            self._is_overlong = False
            self._refuse(f"{self.place}longer than {MAX_LINE} bytes")
        elif line.strip():
            try:
                event = parse_line(line)
            except WireError as error:
                self._refuse(f"{self.place}{error.message}{self._advice(line)}")
            else:
                if event is not None:
                    self._note(event)
                    yield event

    def _advice(self, line: bytes) -> str:
        """What to do about the first line that is not even an object."""
        if self._has_advised or line.lstrip().startswith(b"{"):
            return ""
        self._has_advised = True
        return " (a line is an event in JSON; --format text takes plain text, --format auto a provider's response)"


def without_gateways_part(event: Event) -> Event:
    """A relayed event without the numbers and the digest of its gateway; the next gateway adds its own."""
    data = event.data
    if isinstance(data, MessageStop):
        data = structs.replace(data, digest=UNSET)
    return structs.replace(event, seq=UNSET, first=UNSET, data=data)


def parse_line(line: bytes) -> Event | None:
    """The event in a line; None for a control message of a recording.

    Raises:
        WireError: the line is neither an event nor a control message.
    """
    try:
        message = JSON.decode_from_producer(line)
    except WireError as error:
        with suppress(WireError):
            match JSON.decode_to_consumer(line):
                case Event() as event if event.seq is not UNSET:
                    return without_gateways_part(event)
                case Message():
                    return None
        raise error from None
    if isinstance(message, Event):
        return message
    raise WireError(ProblemCode.INVALID_EVENT, "a stream is closed with --close, not by a line")
