"""A body whose format is not given, but found from what it begins with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Final

import msgspec

from deltawire.protocol.events import Data
from deltawire.protocol.providers.fields import Fields
from deltawire.protocol.providers.not_a_stream import NOT_A_STREAM, is_failure
from deltawire.protocol.providers.objects import encode_chunk
from deltawire.protocol.providers.recognition import recognise
from deltawire.protocol.providers.translator import BodyTranslator

MAX_HELD: Final = 1 << 20
"""Bytes of a body that are held until its format is known; after that it is taken to have none."""


class Unrecognised(BodyTranslator):
    """Translates a body of no known format: failures are errors, everything else is an extension.

    Attributes:
        format: the name of a format that it turns out to have; None as long as it has none.
    """

    provider: ClassVar[str] = "unknown"
    retryable: ClassVar[Mapping[str, bool]] = {}
    format: str | None = None

    def _take(self, event: str, payload: Fields) -> None:
        self.format = self.format or recognise(payload.source)
        if event == "error" or is_failure(payload.source):
            self._take_error(payload)
        else:
            self._fail_stray(payload)
        if rest := payload.left():
            self._is_read = True
            self._extend(payload.peek("type") or event or "unknown", rest)

    def _close(self) -> None:
        if self._is_read and not self._failed:
            self._fail("the format of the provider's answer is not known", NOT_A_STREAM)

    def _forget_message(self) -> None:
        super()._forget_message()
        self._is_read = False  # whether there is anything of it that nobody understands


class AnyProvider:
    """Translates one body of any of the formats.

    Its events are those of the format's own translator. They are held until the format is known, which it is with the
    first object that is no mere failure.

    Args:
        make: makes the translator of a format that was found, from its name.
        body: as for every translator.
        inline_thinking: likewise.
    """

    def __init__(self, make: Callable[[str], BodyTranslator], *, body: str = "", inline_thinking: bool = False) -> None:
        self._make = make
        self._unrecognised = Unrecognised(body=body, inline_thinking=inline_thinking)
        self._translator: BodyTranslator | None = None
        self._held: list[bytes | msgspec.Raw] = []
        self._size = 0
        self._events: list[Data] = []  # of what is held, if it has no format

    @property
    def unparsed(self) -> int:
        """How much of the body so far was no event of the provider."""
        return (self._translator or self._unrecognised).unparsed

    def feed(self, chunk: bytes) -> list[Data]:
        """The events that are complete with these bytes, once the format is known."""
        return self._feed(chunk) if self._translator is None else self._translator.feed(chunk)

    def feed_object(self, chunk: object) -> list[Data]:
        """The events of one chunk that an SDK has read from the body, once the format is known."""
        if self._translator is not None:
            return self._translator.feed_object(chunk)
        text = encode_chunk(chunk)
        return [] if text is None else self._feed(msgspec.Raw(text.encode()))

    def finish(self) -> list[Data]:
        """The remaining events at the end of the body; all of them, if its format never was known."""
        if self._translator is None:
            self._events += self._unrecognised.finish()
            events = self._choose()
            translator = self._translator or self._unrecognised
            return events if translator is self._unrecognised else events + translator.finish()
        return self._translator.finish()

    def _feed(self, chunk: bytes | msgspec.Raw) -> list[Data]:
        self._held.append(chunk)
        self._size += len(memoryview(chunk))
        self._events += _feed(self._unrecognised, chunk)
        return self._choose() if self._unrecognised.format is not None or self._size > MAX_HELD else []

    def _choose(self) -> list[Data]:
        """Decide which translator the body has from now on; the events of what is held."""
        events, self._events = self._events, []
        held, self._held = self._held, []
        self._translator = self._unrecognised
        if self._unrecognised.format is not None:
            self._translator = self._make(self._unrecognised.format)
            events = [data for chunk in held for data in _feed(self._translator, chunk)]
        return events


def _feed(translator: BodyTranslator, chunk: bytes | msgspec.Raw) -> list[Data]:
    return translator.feed_object(chunk) if isinstance(chunk, msgspec.Raw) else translator.feed(chunk)
