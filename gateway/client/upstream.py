"""Sources of a publisher: detect a silent source, and end the answer of a source that failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from math import isfinite
from typing import Final, TypeVar

from msgspec import structs

from deltawire.protocol.errors import DeltawireError
from deltawire.protocol.events import Data, Error, Event, MessageStop

T = TypeVar("T")
Item = TypeVar("Item", Data, Event, Data | Event)

STALLED: Final = "stalled"
"""Code of the error event for a silent source, and stop reason of its unfinished messages."""

INCOMPLETE: Final = "incomplete"
"""Stop reason that translators use if the body ends before the message."""


class SourceStalled(DeltawireError):  # noqa: N818 - says what happened, like the names in `errors`
    """A source was silent for too long.

    Args:
        seconds: the time without data.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds

    def __str__(self) -> str:
        return f"nothing came from the source for {self.seconds:g} s"

    @property
    def error(self) -> Error:
        """The error event for readers."""
        return Error(error=str(self), code=STALLED, retryable=True)

    def end(self, rest: Iterable[Data]) -> list[Data]:
        """The events that end an answer after its source fell silent.

        Args:
            rest: the result of the translator's `finish()`. Messages with the stop reason `incomplete` get `stalled`
                instead, after the error. If the provider has sent a stop reason, the answer is complete, and there is
                no error.
        """
        return cut_short(self.error, STALLED, rest)


def iterate_with_idle_timeout(source: AsyncIterable[T], seconds: float | None) -> AsyncIterator[T]:
    """Iterate over a source until it ends or is silent for too long, as a stalled provider with an open connection is.

    Wrap the bytes of a response, not the events made from them: a provider that is still thinking sends comments or
    pings, which are bytes but not events. Only the time spent waiting for the source counts, not the time between
    items.

        try:
            async for chunk in iterate_with_idle_timeout(response.aiter_raw(), 30):
                for data in translator.feed(chunk):
                    await publisher.send(data)
            rest = translator.finish()
        except SourceStalled as stalled:
            rest = stalled.end(translator.finish())
        for data in rest:
            await publisher.send(data)

    Args:
        source: the source; waiting for it is cancelled after `seconds`.
        seconds: maximum silence, also before the first item; None or 0 means no limit.

    Raises:
        ValueError: the seconds are negative or not finite.
        SourceStalled: while iterating, the source was silent for that long.
    """
    if seconds is not None and not (isfinite(seconds) and seconds >= 0):
        raise ValueError(f"seconds: expected a finite number from 0, or None, got {seconds!r}")
    return _Watched(aiter(source), seconds) if seconds else aiter(source)


class _Watched(AsyncIterator[T]):
    """An iterator with a time limit for each item."""

    def __init__(self, source: AsyncIterator[T], seconds: float) -> None:
        self._source = source
        self._seconds = seconds

    async def __anext__(self) -> T:
        try:
            async with asyncio.timeout(self._seconds) as silence:
                return await anext(self._source)
        except TimeoutError:
            if not silence.expired():
                raise  # raised by the source itself
            raise SourceStalled(self._seconds) from None


def cut_short(error: Error, stop_reason: str, rest: Iterable[Data]) -> list[Data]:
    """The end of an answer of which no more comes: as it is if the provider has sent a stop reason, or with an error.

    Args:
        error: tells readers why the rest is missing.
        stop_reason: for unfinished messages, in place of `incomplete`.
        rest: the result of the translator's `finish()`.
    """
    rest = list(rest)
    reasons = [data.stop_reason for data in rest if isinstance(data, MessageStop)]
    if reasons and INCOMPLETE not in reasons:
        return rest
    return list(with_error(error, end_as(stop_reason, rest)))


def end_as(stop_reason: str, items: Iterable[Data]) -> Iterator[Data]:
    """The end of a translation, with another stop reason for unfinished messages."""
    for data in items:
        is_unfinished = isinstance(data, MessageStop) and data.stop_reason == INCOMPLETE
        yield structs.replace(data, stop_reason=stop_reason) if is_unfinished else data


def with_error(error: Error, items: Iterable[Item]) -> Iterator[Item | Error]:
    """The end of an input with an error event added: before the first `message_stop`, or else at the end."""
    is_told = False
    for item in items:
        data = item.data if isinstance(item, Event) else item
        if isinstance(data, MessageStop) and not is_told:
            is_told = True
            yield error
        yield item
    if not is_told:
        yield error
