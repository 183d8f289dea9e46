"""What the first bytes of an input say of its encoding: programs of Windows mark UTF-8, or write UTF-16."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from deltawire.gateway.cli.sources import Source
from deltawire.protocol.errors import DeltawireError
from deltawire.protocol.events import Data, Event

SAMPLE: Final = 64
"""Bytes looked at: in JSON lines and event streams, more than enough of them are ASCII, whatever the language."""

ENOUGH: Final = 8
"""Bytes with a NUL among them that are waited for before they are judged."""

_MARKS: Final = {  # those of UTF-32 first, as one of them begins like one of UTF-16
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


class _Form(NamedTuple):
    """How a wide encoding writes ASCII: in units of so many bytes, all NUL but one."""

    name: str
    width: int
    place: int


_FORMS: Final = (_Form("UTF-16LE", 2, 0), _Form("UTF-16BE", 2, 1), _Form("UTF-32LE", 4, 0), _Form("UTF-32BE", 4, 3))


class NotUtf8Error(DeltawireError):
    """An input is in another encoding.

    Args:
        encoding: its name, as iconv has it.
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
    """The name of the wide encoding that an input is in; None where it may well be UTF-8.

    Args:
        sample: its first bytes; two units at least are needed to tell without a byte order mark.
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

    Bytes are held back only while they may be part of a mark, or have a NUL among them: the rest of what comes slowly
    goes on at once.
    """

    def __init__(self) -> None:
        self._sample = b""
        self._held = b""
        self._is_over = False

    def feed(self, chunk: bytes) -> bytes:
        """What of the input is now known to be text.

        Raises:
            NotUtf8Error: it is in another encoding.
        """
        if self._is_over:
            return chunk
        self._sample = (self._sample + chunk)[:SAMPLE]
        self._held += chunk
        if len(self._sample) < ENOUGH and self._may_be_other(self._sample):
            return b""
        return self._judge(is_over=len(self._sample) == SAMPLE)

    def finish(self) -> bytes:
        """What was still held at the end of the input.

        Raises:
            NotUtf8Error: as `feed`.
        """
        return b"" if self._is_over else self._judge(is_over=True)

    def give_up(self) -> bytes:
        """What was still held, where the input is cut short."""
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

    What it gives may raise `NotUtf8Error`; then nothing of the input is left but what ends a message that has begun.

    Args:
        source: what the text is for.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._preamble = Preamble()

    @property
    def place(self) -> str:
        """As the source says."""
        return self._source.place

    def feed(self, chunk: bytes) -> Iterable[Data | Event]:
        """What this chunk completes."""
        return self._source.feed(self._preamble.feed(chunk))

    def finish(self) -> Iterator[Data | Event]:
        """What is left at the end of the input."""
        yield from self._source.feed(self._preamble.finish())
        yield from self._source.finish()

    def cut_short(self, stop_reason: str) -> Iterator[Data | Event]:
        """What is left where the input was ended before its end."""
        yield from self._source.feed(self._preamble.give_up())
        yield from self._source.cut_short(stop_reason)
