"""Sources that fall silent, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from deltawire.gateway.client import SourceStalled, iterate_with_idle_timeout
from deltawire.protocol.events import ContentEnd, Data, Error, MessageStop, TextDelta
from deltawire.protocol.providers import AnthropicMessages, OpenAIChat
from tests.support.loop import VirtualLoop

SECONDS = 30.0


class Source:
    """Items, each after being waited for; then silence, unless it ends."""

    def __init__(self, *items: str, ends: bool = False, pause: float = 0) -> None:
        self._items = items
        self._ends = ends
        self._pause = pause
        self.was_left = False

    async def __aiter__(self) -> AsyncIterator[str]:
        try:
            for item in self._items:
                await asyncio.sleep(self._pause)
                yield item
            if not self._ends:
                await asyncio.Event().wait()
        finally:
            self.was_left = True


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    yield loop
    loop.close()


async def collect(source: AsyncIterator[str], got: list[str], pause: float = 0) -> None:
    async for item in source:
        await asyncio.sleep(pause)
        got.append(item)


@pytest.mark.parametrize("items", [(), ("one", "two")])
def test_silence_ends_it_after_what_came(loop: VirtualLoop, items: tuple[str, ...]) -> None:
    source, got = Source(*items), list[str]()
    with pytest.raises(SourceStalled) as raised:
        loop.finish(collect(iterate_with_idle_timeout(source, SECONDS), got), within=SECONDS)
    assert tuple(got) == items
    assert (raised.value.seconds, str(raised.value)) == (SECONDS, "nothing came from the source for 30 s")
    assert source.was_left


@pytest.mark.parametrize("seconds", [None, 0, SECONDS])
async def test_a_source_that_ends_is_read_to_its_end(seconds: float | None) -> None:
    source = Source("one", "two", ends=True)
    assert [item async for item in iterate_with_idle_timeout(source, seconds)] == ["one", "two"]


def test_each_item_begins_the_time_anew(loop: VirtualLoop) -> None:
    source, got = Source(*"abcdef", ends=True, pause=SECONDS - 1), list[str]()
    loop.finish(collect(iterate_with_idle_timeout(source, SECONDS), got), within=6 * SECONDS)
    assert got == list("abcdef")


def test_what_is_done_between_two_items_does_not_count(loop: VirtualLoop) -> None:
    source, got = Source("one", "two", ends=True), list[str]()
    loop.finish(collect(iterate_with_idle_timeout(source, SECONDS), got, pause=2 * SECONDS), within=4 * SECONDS)
    assert got == ["one", "two"]


async def test_a_timeout_of_the_sources_own_is_left_as_it_is() -> None:
    async def fail() -> AsyncIterator[str]:
        await asyncio.sleep(0)
        raise TimeoutError("connect")
        yield ""

    with pytest.raises(TimeoutError, match="connect"):
        await anext(iterate_with_idle_timeout(fail(), SECONDS))


def test_a_timeout_around_it_is_left_as_it_is(loop: VirtualLoop) -> None:
    async def read() -> str:
        async with asyncio.timeout(SECONDS / 2):
            return await anext(iterate_with_idle_timeout(Source(), SECONDS))

    with pytest.raises(TimeoutError):
        loop.finish(read(), within=SECONDS)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_a_wrong_time_is_named(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds: expected a finite number from 0"):
        iterate_with_idle_timeout(Source(), seconds)


OPENAI = b'data: {"id":"m","choices":[{"index":0,"delta":{"content":"Hello"}}]}\n\n'
ANTHROPIC = (
    b'data: {"type":"message_start","message":{"id":"m"}}\n\n'
    b'data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":"Hello"}}\n\n'
)


@pytest.mark.parametrize(("make", "body"), [(OpenAIChat, OPENAI), (AnthropicMessages, ANTHROPIC)])
def test_readers_get_the_error_inside_the_message_that_it_ends(
    make: Callable[[], OpenAIChat | AnthropicMessages], body: bytes
) -> None:
    translator = make()
    translator.feed(body)
    error = Error("nothing came from the source for 30 s", "stalled", retryable=True)
    assert SourceStalled(30).end(translator.finish()) == [ContentEnd(0), error, MessageStop("m", "stalled")]


def test_an_answer_whose_end_the_provider_has_told_is_whole() -> None:
    rest: list[Data] = [TextDelta("x"), MessageStop("m", "length")]
    assert SourceStalled(30).end(rest) == rest


def test_an_answer_is_cut_if_one_of_its_choices_is() -> None:
    rest: list[Data] = [MessageStop("m", "stop"), MessageStop("m", "incomplete", 1)]
    assert SourceStalled(30).end(rest) == [SourceStalled(30).error, rest[0], MessageStop("m", "stalled", 1)]


def test_silence_before_any_answer_is_told_alone() -> None:
    assert SourceStalled(30).end([]) == [SourceStalled(30).error]
