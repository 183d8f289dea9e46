"""The common part of all translators: from bytes or objects to JSON objects, from values to events."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from msgspec import UNSET, UnsetType

from deltawire.protocol.events import Data, Error, MessageStart, Usage
from deltawire.protocol.providers.bounds import MAX_ERROR, make_extensions
from deltawire.protocol.providers.fields import Fields, parse_object
from deltawire.protocol.providers.halves import encode_json, mend
from deltawire.protocol.providers.not_a_stream import NOT_A_STREAM, UNREADABLE, describe, is_noise, is_torn, words_of
from deltawire.protocol.providers.objects import encode_chunk
from deltawire.protocol.providers.sse import EventStreamDecoder, EventTooLargeError, ServerSentEvent, Stray
from deltawire.protocol.providers.tolerant import read_documents, read_objects

_FIELDS = ("data:", "event:", "retry:")

DONE = "[DONE]"
"""The data of the event that ends a stream, for providers that send one."""


class BodyTranslator(ABC):
    """Translates one body of server-sent events, or of JSON lines, as it arrives.

    JSON that is not as it should be is read as well as can be (`tolerant`): only what is wrong in it is lost. Several
    objects in one event, or in an array, are taken one after the other. What is no JSON becomes an extension `unparsed`
    with `event` and `text`, and an `error`: its code is `unreadable` where the JSON of an event is torn, `not_a_stream`
    where the body is something else, once each in a message; no error tells of a single word, nor of what the end of
    the body cut off. Once an answer was torn its stop reason is `error`, whatever the provider says.

    An event over the decoder's limit becomes an `error`; it ends the translation, and the rest of the body is ignored.

    Args:
        body: what makes ids that have to be made unique among all bodies; equal bodies give equal ids without it.
        inline_thinking: `<think>…</think>` within the answer's text is thinking (`inline_thinking`).
    """

    provider: ClassVar[str]
    retryable: ClassVar[Mapping[str, bool]]
    """Whether an error with this code is retryable; for other codes, the event has no `retryable`."""
    HAS_LINES: ClassVar[bool] = False
    """Whether the body is JSON lines rather than server-sent events."""

    def __init__(self, *, body: str = "", inline_thinking: bool = False) -> None:
        self.unparsed = 0
        self._body = body
        self._splits_thinking = inline_thinking
        self._decoder = EventStreamDecoder(is_whole=self._is_whole)
        self._whole: tuple[str, dict[str, Any] | None] = ("", None)  # what was read last to see whether it is whole
        self._is_stray = False  # whether the event at hand has not the form of server-sent events
        self._is_foreign = False  # whether it is no part of the body's format
        self._is_at_end = False  # whether the body has ended
        self._is_done = False  # whether the provider says so
        self._out: list[Data] = []
        self._ended = False
        self._messages = 0
        self._forget_message()

    def feed(self, chunk: bytes) -> list[Data]:
        """The events that are complete with these bytes.

        Args:
            chunk: the next bytes of the body, split anywhere; ignored once the body has ended.
        """
        if not self._ended:
            self._read(self._decoder.feed(chunk))
        return self._flush()

    def feed_object(self, chunk: object) -> list[Data]:
        """The events of one chunk that an SDK has read from the body.

        Args:
            chunk: a dict, a model of the SDK, or what else `objects.encode_chunk` can encode; ignored once the body
                has ended.
        """
        if not self._ended and (text := encode_chunk(chunk)) is not None:
            self._read([ServerSentEvent("", text)])
        return self._flush()

    def finish(self) -> list[Data]:
        """The remaining events at the end of the body, clean or not; none on the second call."""
        if not self._ended:
            self._is_at_end = True
            self._read(self._decoder.finish())
            self._end()
        return self._flush()

    @abstractmethod
    def _take(self, event: str, payload: Fields) -> None:
        """Translate one event of the provider.

        Args:
            event: the name on its `event:` line, or an empty one.
            payload: its JSON object.
        """

    @abstractmethod
    def _close(self) -> None:
        """End the open message, if there is one: the provider sends nothing more about it."""

    def _settle(self) -> None:  # noqa: B027 - for most, nothing waits
        """Tell what waits for the next event: it is one that can't be read."""

    def _read(self, events: Iterable[ServerSentEvent]) -> None:
        try:
            for event in events:
                self._read_event(event)
        except EventTooLargeError as error:
            self._settle()
            self._is_torn = True
            self._fail(str(error), code="event_too_large", retryable=False)
            self._end()

    def _read_event(self, event: ServerSentEvent) -> None:
        self._is_stray = isinstance(event, Stray)
        self._is_foreign = self._is_stray and not (self.HAS_LINES and _is_line(event.data))
        text, payload = self._whole
        if text is not event.data:
            payload = parse_object(event.data)
        if payload is not None:
            self._take(mend(event.event), Fields(payload))
        elif event.data.strip() == DONE:
            self._close_done()
        else:
            self._read_odd(mend(event.event), event.data)

    def _is_whole(self, line: str) -> bool:
        """Whether a line is all of an event."""
        line_end = line.rstrip()
        if line.startswith("{") and line_end.endswith("}"):
            payload = parse_object(line)
            self._whole = (line, payload)
            return payload is not None
        return line_end == DONE or (
            line.startswith("[") and line_end.endswith("]") and read_documents(line) is not None
        )

    def _read_odd(self, name: str, text: str) -> None:
        """Read data that is anything but one object."""
        *lines, last = text.split("\n")
        is_done = bool(lines) and last.strip() == DONE
        objects, rest = read_objects("\n".join(lines) if is_done else text)
        for payload in objects:
            self._take(name, Fields(payload))
        if rest or not objects:
            self._take_unread(name, rest if objects else text)
        if is_done:
            self._close_done()

    def _take_unread(self, name: str, text: str) -> None:
        """Tell of data that is no JSON, or torn."""
        self._settle()
        if name == "error":
            self._fail("the provider sent an error that is not a JSON object")
        elif self._is_at_end and self._is_cut_off(text):
            self._is_cut |= is_torn(text) and not DONE.startswith(text)
        elif is_torn(text) and not self._is_foreign:
            self._fail_torn(f"a part of the provider's answer can't be read: {describe(text)}", UNREADABLE)
        elif text and not (is_noise(text) and (self._messages or not self._is_foreign)):
            self._fail_torn(f"the provider's answer is no event stream: {describe(text)}", NOT_A_STREAM)
        if text or name not in ("", "ping"):
            self.unparsed += 1
            self._extend("unparsed", {"event": name, "text": text})

    def _fail_torn(self, error: str, code: str) -> None:
        """Tell that text may be lost, once in each way."""
        if code not in self._torn:
            self._fail(error, code)
        self._is_torn = True
        self._torn.add(code)

    def _is_cut_off(self, text: str) -> bool:
        """Whether what can't be read at the end of the body is the beginning of what could."""
        if DONE.startswith(text):
            return True
        if self._is_foreign:
            return any(field.startswith(text) for field in _FIELDS) or bool(
                self._messages and is_torn(text) and '"error"' not in text
            )
        return is_torn(text)

    def _close_done(self) -> None:
        """End the message that is open, as the provider says."""
        self._is_done = True
        self._close()
        self._is_done = False

    def _end(self) -> None:
        self._ended = True
        self._close()

    def _forget_message(self) -> None:
        """Reset the state for the next message."""
        self._failed = False
        self._is_torn = False  # a part of it couldn't be read
        self._torn: set[str] = set()  # the errors that were told of that
        self._is_cut = False  # the body ended within an event
        self._usage: Usage | None = None
        self._usage_details: dict[str, Any] = {}

    def _flush(self) -> list[Data]:
        out, self._out = self._out, []
        return out

    def _emit(self, *data: Data) -> None:
        self._out += data

    def _make_id(self) -> str:
        """The id of a message that has none, the latest that was counted in `_messages`."""
        return "-".join(filter(None, (self.provider, self._body, str(self._messages))))

    def _emit_start(self, message_id: str, model: str | None) -> None:
        self._emit(MessageStart(message_id, UNSET if model is None else model, self.provider))

    def _emit_usage(self, usage: Usage | None, details: Fields) -> None:
        """Emit the counts if they changed, and the provider's own object if it contains more than the counts.

        Args:
            usage: the counts so far; None if none are known.
            details: the provider's object, from which the counts were taken.
        """
        if usage is not None and usage != self._usage:
            self._usage = usage
            self._emit(usage)
        if details.left() and details.source != self._usage_details:
            self._usage_details = details.source
            self._extend("usage", details.source)
        details.drop_all()

    def _extend(self, name: str, data: dict[str, Any]) -> None:
        self._emit(*make_extensions(self.provider, name, data))

    def _fail(self, error: str, code: str | UnsetType = UNSET, *, retryable: bool | UnsetType = UNSET) -> None:
        self._failed = True
        self._emit(Error(error, code, retryable))

    def _fail_stray(self, payload: Fields) -> None:
        """Tell of an object that came in place of a stream, and that nothing else is told of."""
        if self._is_stray and not (self._messages or self._failed) and payload.left():
            line = describe(encode_json(payload.source))
            self._fail(f"the provider's answer is no event stream: {line}", NOT_A_STREAM)

    def _take_error(self, holder: Fields) -> None:
        """Translate `error`, a text or an object with `message` and `code` or `type`; without it, the holder itself."""
        message = holder.label("error", MAX_ERROR)
        error = _error_in(holder)
        message = message or error.label("message", MAX_ERROR) or words_of(error.source)
        kind = error.peek("type") or ""
        code = error.label("code") or error.count("code")
        if code is None and error.source.get("type") != "error":  # which says no more than that it is one
            code = error.label("type") or error.count("status")
        name = UNSET if code is None else str(code)
        retryable = self.retryable.get(str(code), self.retryable.get(kind, UNSET))
        self._fail(message or "the provider sent an error without a message", name, retryable=retryable)


def _is_line(text: str) -> bool:
    """Whether a text may be a line of a body of JSON lines: one that holds an object, and no failure."""
    return text.startswith("{") and '"error"' not in text


def _error_in(holder: Fields) -> Fields:
    """The object that tells of an error; of several, which all stay to be told, the first one."""
    for name in ("error", "errors"):
        match holder.source.get(name):
            case {}:
                return holder.object(name)
            case [dict(first), *_]:
                return Fields(first)
    return holder
