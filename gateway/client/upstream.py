"""What feeds a publisher: a source that falls silent, and how an answer ends whose source has failed."""

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
"""Code of the error that readers get when a source falls silent, and the stop reason of what it leaves unfinished."""

INCOMPLETE: Final = "incomplete"
"""Stop reason that translators give a message whose body ended before it."""


class SourceStalled(DeltawireError):  # noqa: N818 - it says what happened, as the names in `errors` do
    """A source brought nothing for too long.

    Args:
        seconds: how long that was.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds

    def __str__(self) -> str:
        return f"nothing came from the source for {self.seconds:g} s"

    @property
    def error(self) -> Error:
        """What readers are to be told."""
        return Error(error=str(self), code=STALLED, retryable=True)

    def end(self, rest: Iterable[Data]) -> list[Data]:
        """The end of an answer that is given up for this, for its readers.

        Args:
            rest: what the translator's `finish()` gives. What would stop as `incomplete` stops as `stalled`, after the
                error. Where the provider has said why it stops, the answer is whole, and there is no error to tell.
        """
        rest = list(rest)
        reasons = [data.stop_reason for data in rest if isinstance(data, MessageStop)]
        if reasons and INCOMPLETE not in reasons:
            return rest
        return list(with_error(self.error, map(_as_stalled, rest)))


def iterate_with_idle_timeout(source: AsyncIterable[T], seconds: float | None) -> AsyncIterator[T]:
    """What a source brings, until it ends or is silent for too long, as a provider may be whose connection stays open.

    Wrap the bytes of a response, not the events made of them: a provider that still thinks sends comments or pings,
    which are bytes and no events. Only waiting for the source counts, not what is done between two items.

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
        source: what is waited for; waiting is cancelled when the time is over.
        seconds: how long it may be silent, before its first item too; None or 0 is for ever.

    Raises:
        ValueError: the seconds are negative or not finite.
        SourceStalled: while iterating, the source was silent for so long.
    """
    if seconds is not None and not (isfinite(seconds) and seconds >= 0):
        raise ValueError(f"seconds: expected a finite number from 0, or None, got {seconds!r}")
    return _Watched(aiter(source), seconds) if seconds else aiter(source)


class _Watched(AsyncIterator[T]):
    """An iterator whose items must not take too long to come."""

    def __init__(self, source: AsyncIterator[T], seconds: float) -> None:
        self._source = source
        self._seconds = seconds

    async def __anext__(self) -> T:
        try:
            async with asyncio.timeout(self._seconds) as silence:
                return await anext(self._source)
        except TimeoutError:
            if not silence.expired():
                raise  # the source's own
            raise SourceStalled(self._seconds) from None


def _as_stalled(data: Data) -> Data:
    if isinstance(data, MessageStop) and data.stop_reason == INCOMPLETE:
        return structs.replace(data, stop_reason=STALLED)
    return data


def with_error(error: Error, items: Iterable[Item]) -> Iterator[Item | Error]:
    """The end of an input with an error in it: before the first message that stops, else after everything."""
    is_told = False
    for item in items:
        data = item.data if isinstance(item, Event) else item
        if isinstance(data, MessageStop) and not is_told:
            is_told = True
            yield error
        yield item
    if not is_told:
        yield error
