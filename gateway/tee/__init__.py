"""Publish an answer while a program reads it: what an SDK yields goes on unchanged, and as events to a stream.

    client = AsyncOpenAI()
    answer = client.chat.completions.create(model="gpt-5", messages=messages, stream=True)
    async with tee(answer, Publisher("ws://127.0.0.1:8765", "chat-7")) as chunks:
        async for chunk in chunks:
            ...

The program comes first. A chunk is translated into events, which are put into a buffer, and is yielded at once; one
task publishes from the buffer. Where the gateway can't be reached, refuses, or is too slow for the buffer, readers of
the stream lose the rest of the answer, and the program nothing: the tee counts what was not published, and logs why.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from inspect import isawaitable
from math import isfinite
from types import TracebackType
from typing import Final, Self, TypeVar
from uuid import uuid4

from deltawire.gateway.client import Publisher
from deltawire.gateway.tee.relay import END, Relay
from deltawire.protocol.providers import ANY, TRANSLATORS

__all__ = ["Tee", "tee"]

T = TypeVar("T")

BUFFER: Final = 4 << 20
"""Bytes of events held while the gateway is slow or away: any answer of today's models, also one that comes at once."""

LINGER: Final = 2.0
"""Seconds that the end of an answer waits for what is still held; a gateway that is well needs milliseconds."""


def tee(  # noqa: PLR0913 - the options of one answer
    stream: AsyncIterable[T] | Awaitable[AsyncIterable[T]],
    publisher: Publisher,
    *,
    format: str = ANY,
    inline_thinking: bool = False,
    stop_on_cancel: bool = False,
    close: bool = False,
    buffer: int = BUFFER,
    linger: float = LINGER,
    linger_aside: bool = False,
) -> Tee[T]:
    """Yield what a stream yields, unchanged, and publish it as events.

    Args:
        stream: chunks of one answer, as an SDK's stream yields them: models, dicts, or the bytes or text of a body;
            or what has to be awaited to get it.
        publisher: where the events go. One that is entered (`async with`) is used and left open, for several answers;
            one that isn't is entered by the tee without waiting for it, and left when the answer has ended.
        format: the name of the chunks' format, a key of `deltawire.protocol.providers.TRANSLATORS`; by default it is
            found from the first chunk.
        inline_thinking: `<think>…</think>` within the text is thinking.
        stop_on_cancel: end the iteration, and the stream, when a reader sends the signal `cancel`. The tee reads the
            publisher's signals, so nobody else should.
        close: end the publisher's stream with the answer.
        buffer: maximum bytes of events held, about, 1 or more; when there are more, readers get an error and no more of
            the answer. Adjacent deltas are joined while they wait.
        linger: maximum seconds that the end of the iteration waits until what is held has been published.
        linger_aside: wait for that in a task, so that the end of the iteration never waits. This is for servers: what
            is held when a program ends is lost.

    Returns:
        An async iterator, and an async context manager. Leaving its context closes the stream, as does `aclose`; a
        program that may stop in the middle needs one of both, so that its provider is not asked for the rest.

    Raises:
        TypeError: `stream` is none.
        ValueError: another argument is wrong; the message says which, and what is expected.
    """
    if not (isawaitable(stream) or hasattr(stream, "__aiter__")):
        hint = "; enter it first (async with)" if hasattr(stream, "__aenter__") else ""
        raise TypeError(f"stream: expected an async iterator, got {type(stream).__name__}{hint}")
    if format not in TRANSLATORS:
        raise ValueError(f"format: expected one of {', '.join(TRANSLATORS)}, got {format!r}")
    if buffer < 1:
        raise ValueError(f"buffer: expected 1 or more bytes, got {buffer}")
    if not (isfinite(linger) and linger >= 0):
        raise ValueError(f"linger: expected a finite number of seconds from 0, got {linger!r}")
    translator = TRANSLATORS[format](body=uuid4().hex, inline_thinking=inline_thinking)
    relay = Relay(publisher, translator, buffer, on_cancel=(lambda: None) if stop_on_cancel else None, close=close)
    return Tee(stream, relay, linger, aside=linger_aside)


class Tee(AsyncIterator[T]):
    """The chunks of one answer; `tee` makes it."""

    def __init__(
        self, stream: AsyncIterable[T] | Awaitable[AsyncIterable[T]], relay: Relay, linger: float, *, aside: bool
    ) -> None:
        self._relay = relay
        self._chunks = _iterate(stream, relay, linger, aside=aside)
        self._unasked: object = stream  # until the first chunk is asked for

    @property
    def dropped(self) -> int:
        """Number of chunks of which readers of the stream did not get everything."""
        return self._relay.dropped

    @property
    def failure(self) -> str | None:
        """Why no more of the answer is published; None as long as it is."""
        return self._relay.failure

    @property
    def is_cancelled(self) -> bool:
        """Whether a reader cancelled, and the iteration ends for that (`stop_on_cancel`)."""
        return self._relay.is_cancelled

    async def __anext__(self) -> T:
        """The next chunk of the stream.

        Raises:
            Exception: the stream's own.
        """
        self._unasked = None
        return await anext(self._chunks)

    async def aclose(self) -> None:
        """End the iteration: close the stream, and tell readers that the answer is incomplete."""
        unasked, self._unasked = self._unasked, None
        await self._chunks.aclose()
        await _close(unasked)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


async def _iterate(
    stream: AsyncIterable[T] | Awaitable[AsyncIterable[T]], relay: Relay, linger: float, *, aside: bool
) -> AsyncGenerator[T, None]:
    """Yield the chunks of a stream.

    A generator that knows nothing of its `Tee`: when a program drops that in the middle, the event loop closes this.
    """
    async with AsyncExitStack() as ending:
        if aside:
            ending.callback(relay.wait_aside, linger)
        else:
            ending.push_async_callback(relay.wait, linger)
        closing = await ending.enter_async_context(AsyncExitStack())
        relay.start()
        try:
            source = await stream if isawaitable(stream) else stream
            closing.push_async_callback(_close, source)
            iterator = aiter(source)
            closing.push_async_callback(_close, iterator)
            while (chunk := await relay.next_of(iterator)) is not END:
                relay.take(chunk)
                yield chunk
            if not relay.is_cancelled:
                closing.pop_all()  # it has ended by itself
        except Exception as error:
            relay.fail(error)
            raise
        finally:
            relay.end()


async def _close(source: object) -> None:
    """Close a stream by the method it has for that."""
    close = getattr(source, "aclose", None) or getattr(source, "close", None)
    if callable(close) and isawaitable(closing := close()):
        await closing
