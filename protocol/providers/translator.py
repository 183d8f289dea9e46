"""The common part of the translators of server-sent events: from bytes to JSON objects, from values to events."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from msgspec import UNSET, UnsetType

from deltawire.protocol.events import Data, Error, MessageStart, Usage
from deltawire.protocol.providers.bounds import MAX_ERROR, make_extensions
from deltawire.protocol.providers.fields import Fields, parse_object
from deltawire.protocol.providers.sse import EventStreamDecoder, EventTooLargeError, ServerSentEvent

DONE = "[DONE]"
"""The data of the event that ends a stream, for providers that send one."""


class SseTranslator(ABC):
    """Translates one body of server-sent events as it arrives.

    An event becomes an extension `unparsed` with `event` and `text` if its data is not a JSON object, or is one that
    can't be sent (over 64 levels, a number over 64 bits). An event over the decoder's limit becomes an `error`; it ends
    the translation, and the rest of the body is ignored.
    """

    provider: ClassVar[str]
    retryable: ClassVar[Mapping[str, bool]]
    """Whether an error with this code is retryable; for other codes, the event has no `retryable`."""

    def __init__(self) -> None:
        self.unparsed = 0
        self._decoder = EventStreamDecoder()
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

    def finish(self) -> list[Data]:
        """The remaining events at the end of the body, clean or not; none on the second call."""
        if not self._ended:
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

    def _read(self, events: Iterable[ServerSentEvent]) -> None:
        try:
            for event in events:
                self._read_event(event)
        except EventTooLargeError as error:
            self._fail(str(error), code="event_too_large", retryable=False)
            self._end()

    def _read_event(self, event: ServerSentEvent) -> None:
        if event.data.strip() == DONE:
            self._close()
        elif (payload := parse_object(event.data)) is not None:
            self._take(event.event, Fields(payload))
        else:
            if event.event == "error":
                self._fail("the provider sent an error that is not a JSON object")
            if event.data or event.event not in ("", "ping"):
                self.unparsed += 1
                self._extend("unparsed", {"event": event.event, "text": event.data})

    def _end(self) -> None:
        self._ended = True
        self._close()

    def _forget_message(self) -> None:
        """Reset the state for the next message."""
        self._failed = False
        self._usage: Usage | None = None
        self._usage_details: dict[str, Any] = {}

    def _flush(self) -> list[Data]:
        out, self._out = self._out, []
        return out

    def _emit(self, *data: Data) -> None:
        self._out += data

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

    def _take_error(self, holder: Fields) -> None:
        """Translate `error`, a text or an object with `message` and `code` or `type`; without it, the holder itself."""
        message = holder.label("error", MAX_ERROR)
        error = holder.object("error") if "error" in holder.source else holder
        message = message or error.label("message", MAX_ERROR) or "the provider sent an error without a message"
        code = error.label("code") or error.count("code") or error.label("type")
        kind = error.peek("type") or ""
        name = UNSET if code is None else str(code)
        self._fail(message, name, retryable=self.retryable.get(str(code), self.retryable.get(kind, UNSET)))
