"""Detect the encoding of an input by its first bytes: Windows programs add a mark to UTF-8, or write UTF-16."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from deltawire.gateway.cli.publish.sources import Source
from deltawire.protocol.errors import DeltawireError
from deltawire.protocol.events import Data, Event

SAMPLE: Final = 64
"""Bytes to examine: in JSON lines and event streams, enough of them are ASCII in any language."""

ENOUGH: Final = 8
"""Bytes to wait for before a decision, if there is a NUL among them."""

_MARKS: Final = {  # UTF-32 first: one of its marks begins with one of UTF-16
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


class _Form(NamedTuple):
    """How a wide encoding represents ASCII: in units of `width` bytes, of which all but one are NUL."""

    name: str
    width: int
    place: int


_FORMS: Final = (_Form("UTF-16LE", 2, 0), _Form("UTF-16BE", 2, 1), _Form("UTF-32LE", 4, 0), _Form("UTF-32BE", 4, 3))


class NotUtf8Error(DeltawireError):
    """An input is in another encoding.

    Args:
        encoding: its name for iconv.
    """

    def __init__(self, encoding: str) -> None:
        super().__init__(encoding)
        self.encoding = encoding

    def __str__(self) -> str:
        return (
            f"the input is {self.encoding}, and only UTF-8 can be read: save it as UTF-8, or convert it "
            f"(iconv -f {self.encoding} -t UTF-8)"
        )


def recognise_wide(sample: bytes) -> str | None:
    """The name of the wide encoding of an input; None if the input may be UTF-8.

    Args:
        sample: its first bytes; without a byte order mark, at least two units are needed.
    """
    for mark, name in _MARKS.items():
        if sample.startswith(mark):
            return name
    for name, width, place in _FORMS:
        units = [sample[at : at + width] for at in range(0, len(sample) - width + 1, width)]
        ascii_units = sum(unit[place] != 0 and unit.count(0) == width - 1 for unit in units)
        if len(units) > 1 and 2 * ascii_units > len(units):
            return name
    return None


class Preamble:
    """The beginning of an input, without its byte order mark.

    Bytes are held back only while they may be part of a mark, or while there is a NUL among them. All other input is
    passed on at once, however slowly it arrives.
    """

    def __init__(self) -> None:
        self._sample = b""
        self._held = b""
        self._is_over = False

    def feed(self, chunk: bytes) -> bytes:
        """The input that is now known to be text.

        Raises:
            NotUtf8Error: the input is in another encoding.
        """
        if self._is_over:
            return chunk
        self._sample = (self._sample + chunk)[:SAMPLE]
        self._held += chunk
        if len(self._sample) < ENOUGH and self._may_be_other(self._sample):
            return b""
        return self._judge(is_over=len(self._sample) == SAMPLE)

    def finish(self) -> bytes:
        """The bytes held back at the end of the input.

        Raises:
            NotUtf8Error: like `feed`.
        """
        return b"" if self._is_over else self._judge(is_over=True)

    def give_up(self) -> bytes:
        """The bytes held back, if the input is cut short."""
        rest, self._held, self._is_over = self._held, b"", True
        return rest

    def _judge(self, *, is_over: bool) -> bytes:
        rest, self._held = self._held, b""
        if encoding := recognise_wide(self._sample):
            self._is_over = True
            raise NotUtf8Error(encoding)
        is_marked = rest.startswith(codecs.BOM_UTF8) and self._sample.startswith(codecs.BOM_UTF8)
        self._is_over = is_over or is_marked
        return rest.removeprefix(codecs.BOM_UTF8) if is_marked else rest

    @staticmethod
    def _may_be_other(sample: bytes) -> bool:
        return 0 in sample or any(mark.startswith(sample) for mark in (codecs.BOM_UTF8, *_MARKS) if mark != sample)


class Utf8Source:
    """A source whose input may begin with a byte order mark.

    Iterating over its events may raise `NotUtf8Error`; after that, only the events that end an open message remain.

    Args:
        source: the source that gets the text.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._preamble = Preamble()

    @property
    def place(self) -> str:
        """The place in the source."""
        return self._source.place

    def feed(self, chunk: bytes) -> Iterable[Data | Event]:
        """The events that this chunk completes."""
        return self._source.feed(self._preamble.feed(chunk))

    def finish(self) -> Iterator[Data | Event]:
        """The remaining events at the end of the input."""
        yield from self._source.feed(self._preamble.finish())
        yield from self._source.finish()

    def cut_short(self, stop_reason: str) -> Iterator[Data | Event]:
        """The remaining events if the input was cut short."""
        yield from self._source.feed(self._preamble.give_up())
        yield from self._source.cut_short(stop_reason)
