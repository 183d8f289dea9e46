"""What an SDK yields goes on unchanged, and is published; whatever the gateway does."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import structlog

import deltawire
from deltawire.gateway.client import Publisher, Subscriber, iterate_with_idle_timeout
from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from deltawire.gateway.tee import Tee, tee
from deltawire.protocol.events import ContentEnd, Error, Extension, MessageStart, MessageStop, TextDelta
from deltawire.protocol.messages import Policy
from deltawire.protocol.providers import ANY, TRANSLATORS, OpenAIChat
from tests.support.fakes import AT_ONCE, FakeGateway, closing, frames, stay
from tests.support.provider_bodies import FORMS
from tests.support.sdk_answers import CHUNKS, STREAM, WORDS, Answer, chunk, ids_of, read, text_of
from tests.support.waiting import DEADLINE, eventually

NOWHERE = "ws://127.0.0.1:1"


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with Gateway(Settings(port=0, drain_timeout=0)) as running:
        yield running


class Logged:
    """What tees have logged."""

    def __init__(self, lines: list[Any]) -> None:
        self._lines = lines

    @property
    def lines(self) -> list[Any]:
        return [line for line in self._lines if line["event"].startswith("tee.")]

    @property
    def facts(self) -> list[str]:
        return [line["event"] for line in self.lines]


@pytest.fixture
def logged() -> Iterator[Logged]:
    with structlog.testing.capture_logs() as lines:
        yield Logged(lines)


def publisher(url: str, **arguments: Any) -> Publisher:
    return Publisher(url, STREAM, backoff=AT_ONCE, **arguments)


async def collect(chunks: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in chunks]


async def take(chunks: AsyncIterator[Any], count: int) -> list[Any]:
    return [await anext(chunks) for _ in range(count)]


def test_it_is_public() -> None:
    assert (deltawire.tee, deltawire.Tee) == (tee, Tee)


@pytest.mark.parametrize("form", [ANY, *FORMS])
async def test_every_chunk_goes_on_as_it_is_and_readers_get_its_events(gateway: Gateway, form: str) -> None:
    chunks = FORMS["openai-chat-sse" if form == ANY else form].clean
    async with tee(Answer(*chunks), publisher(gateway.url), format=form) as teed:
        got = await collect(teed)
    assert all(mine is its for mine, its in zip(got, chunks, strict=True))
    translator = TRANSLATORS[form]()
    expected = [data for item in chunks for data in translator.feed_object(item)] + translator.finish()
    events = await read(gateway.url, upto=sum(isinstance(data, MessageStop) for data in expected))
    assert [type(data) for data in events] == [type(data) for data in expected]
    assert text_of(events) == text_of(expected) != ""
    assert (teed.dropped, teed.failure, teed.is_cancelled) == (0, None, False)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda part: part.decode()])
async def test_bytes_and_text_of_a_body_go_on_as_well(gateway: Gateway, kind: Callable[[bytes], Any]) -> None:
    body = FORMS["openai-chat-sse"].encode(*CHUNKS)
    parts = [kind(body[start : start + 7]) for start in range(0, len(body), 7)]
    async with tee(Answer(*parts), publisher(gateway.url)) as teed:
        assert all(mine is its for mine, its in zip(await collect(teed), parts, strict=True))
    events = await read(gateway.url)
    assert text_of(events) == "".join(WORDS)
    assert events[-1] == MessageStop("c-1", "stop")


async def test_what_has_to_be_awaited_first_is(gateway: Gateway) -> None:
    async def create() -> Answer:
        return Answer(*CHUNKS)

    assert await collect(tee(create(), publisher(gateway.url))) == CHUNKS
    assert text_of(await read(gateway.url)) == "".join(WORDS)


async def test_one_publisher_that_is_entered_serves_several_answers(gateway: Gateway) -> None:
    async with publisher(gateway.url) as target:
        for number in range(3):
            chunks = [item | {"id": f"c-{number}"} for item in CHUNKS]
            assert await collect(tee(Answer(*chunks), target)) == chunks
        await target.send(TextDelta("still open"))
    events = await read(gateway.url, upto=3)
    assert ids_of(events) == ["c-0", "c-1", "c-2"]
    assert text_of(events) == "".join(WORDS) * 3


async def test_ids_that_are_made_are_unique_among_answers(gateway: Gateway) -> None:
    async with publisher(gateway.url) as target:
        for _ in range(2):
            await collect(tee(Answer({"choices": [{"delta": {"content": "a"}}]}), target))
    first, second = ids_of(await read(gateway.url, upto=2))
    assert first != second


async def test_thinking_within_the_text_is_told_apart_if_asked(gateway: Gateway) -> None:
    chunks = [chunk("<think>Hm</think>a"), chunk("", finish_reason="stop")]
    await collect(tee(Answer(*chunks), publisher(gateway.url), inline_thinking=True))
    assert text_of(await read(gateway.url)) == "a"


async def test_the_stream_ends_with_the_answer_if_asked(gateway: Gateway) -> None:
    async with Subscriber(gateway.url, STREAM) as subscriber:
        await collect(tee(Answer(*CHUNKS), publisher(gateway.url), close=True))
        assert len([item async for item in subscriber]) > len(WORDS)


# The gateway's failures are none of the program


async def test_without_a_gateway_every_chunk_comes(logged: Logged) -> None:
    teed = tee(Answer(*CHUNKS), publisher(NOWHERE, retry_for=0))
    assert await collect(teed) == CHUNKS
    assert teed.dropped == len(CHUNKS)
    assert teed.failure is not None
    assert teed.failure.startswith(f"no gateway at {NOWHERE}: ")
    assert logged.facts == ["tee.failed", "tee.ended"]
    assert logged.lines[1]["dropped"] == len(CHUNKS)


async def test_a_gateway_that_says_nothing_holds_nobody_up(logged: Logged) -> None:
    async with FakeGateway(stay) as silent:
        teed = tee(Answer(*CHUNKS), publisher(silent.url), linger=0.01)
        assert await collect(teed) == CHUNKS
    assert (teed.dropped, teed.failure) == (len(CHUNKS), "not all was published within 0.01 s of its end (linger)")
    assert logged.facts == ["tee.failed", "tee.ended"]


async def test_the_end_of_an_answer_waits_for_nothing_when_its_rest_is_published_aside(gateway: Gateway) -> None:
    async with FakeGateway(stay) as silent:
        teed = tee(Answer(*CHUNKS), publisher(silent.url), linger=3600, linger_aside=True)
        assert await asyncio.wait_for(collect(teed), DEADLINE) == CHUNKS
        assert teed.failure is None
    await collect(tee(Answer(*CHUNKS), publisher(gateway.url), linger_aside=True))
    assert text_of(await read(gateway.url)) == "".join(WORDS)


@pytest.mark.parametrize("code", [4500, 4501, 4502, 4503])
async def test_a_gateway_that_refuses_costs_the_readers_their_rest_and_the_program_nothing(code: int) -> None:
    ready = {"type": "ready", "stream": STREAM, "epoch": "e", "head": 0, "generation": 0, "producer_seq": 0}
    refused = asyncio.Event()
    async with FakeGateway(frames(ready, then=closing(code, "no"))) as fake:
        target = publisher(fake.url)
        teed = tee(Answer(CHUNKS[0], refused, *CHUNKS[1:]), target)
        assert await anext(teed) is CHUNKS[0]
        await asyncio.wait_for(asyncio.gather(target.wait_ended(), return_exceptions=True), DEADLINE)
        refused.set()
        assert await collect(teed) == CHUNKS[1:]
    assert teed.failure is not None
    assert teed.failure.startswith("refused: no")
    assert teed.dropped >= len(CHUNKS) - 1


async def test_a_cancel_that_comes_with_the_gateways_first_word_is_heeded() -> None:
    ready = {"type": "ready", "stream": STREAM, "epoch": "e", "head": 0, "generation": 0, "producer_seq": 0}
    async with FakeGateway(frames(ready, {"type": "signal", "name": "cancel"}, then=stay)) as fake:
        teed = tee(Answer(CHUNKS[0], asyncio.Event()), publisher(fake.url), stop_on_cancel=True, linger=0.01)
        async with asyncio.timeout(DEADLINE):
            assert await collect(teed) == CHUNKS[:1]
    assert teed.is_cancelled


async def test_a_publisher_that_was_left_is_as_good_as_none(gateway: Gateway) -> None:
    async with publisher(gateway.url) as target:
        pass
    teed = tee(Answer(*CHUNKS), target)
    assert await collect(teed) == CHUNKS
    assert teed.dropped == len(CHUNKS)


async def test_more_bytes_than_the_buffer_holds_end_the_answer_for_readers_alone(
    gateway: Gateway, logged: Logged
) -> None:
    chunks = [chunk(str(number) * 1000) for number in range(10)]
    teed = tee(Answer(*chunks), publisher(gateway.url), buffer=5000)  # none of them gives others a turn
    assert await collect(teed) == chunks
    events = await read(gateway.url)
    assert text_of(events) == "".join(str(number) * 1000 for number in range(4))
    assert events[-3:] == [
        ContentEnd(0),
        Error("the publisher was too slow: the rest of the answer is missing", "overflow"),
        MessageStop("c-1", "incomplete"),
    ]
    assert (teed.failure, teed.dropped) == ("events of 5000 bytes wait for the gateway (buffer)", 6)
    assert logged.facts == ["tee.failed", "tee.ended"]


@pytest.mark.parametrize("done", [b"", b"data: [DONE]\n\n"])
async def test_no_error_is_told_in_a_message_that_is_published_to_its_end(gateway: Gateway, done: bytes) -> None:
    body = FORMS["openai-chat-sse"].encode(*CHUNKS[:-1], chunk("a" * 5000), CHUNKS[-1]) + done
    async with publisher(gateway.url) as target:
        assert await collect(tee(Answer(body, b": the end\n\n"), target, buffer=1000))
        await target.send(Extension("test", "last", None))
    events = await read(gateway.url, upto=1)
    async with Subscriber(gateway.url, STREAM, policy=Policy.BLOCK) as subscriber:
        async for item in subscriber:
            data = getattr(item, "data", None)
            assert not isinstance(data, Error)
            if isinstance(data, Extension):
                break
    assert (text_of(events), events[-1]) == ("".join(WORDS) + "a" * 5000, MessageStop("c-1", "stop"))


async def test_an_answer_of_many_tokens_that_comes_at_once_is_published_whole(gateway: Gateway) -> None:
    words = [f"{number} " for number in range(10_000)]
    chunks = [*map(chunk, words), CHUNKS[-1]]
    teed = tee(Answer(*chunks), publisher(gateway.url))
    assert await collect(teed) == chunks
    events = await read(gateway.url)
    assert text_of(events) == "".join(words)
    assert (teed.failure, teed.dropped) == (None, 0)
    assert len(events) < len(words) / 50, "deltas are joined while they wait"


@pytest.mark.parametrize("on_full", ["wait", "reject"])
async def test_an_event_that_is_refused_costs_itself(on_full: Any, logged: Logged) -> None:
    chunks = [chunk("a"), chunk("b" * 5000), chunk("c"), chunk("", finish_reason="stop")]
    async with Gateway(Settings(port=0, drain_timeout=0, max_message=4096)) as gateway:
        teed = tee(Answer(*chunks), publisher(gateway.url, on_full=on_full))
        assert await collect(teed) == chunks
        assert text_of(await read(gateway.url)) == "ac"
    assert (teed.failure, teed.dropped) == (None, 1)
    assert logged.facts == ["tee.event_refused", "tee.ended"]


async def test_a_defect_of_a_translator_is_no_fault_of_the_program(
    gateway: Gateway, logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(OpenAIChat, "feed_object", fail)
    teed = tee(Answer(*CHUNKS), publisher(gateway.url), format="openai-chat-sse")
    assert await collect(teed) == CHUNKS
    assert (teed.failure, teed.dropped) == ("a defect of deltawire", len(CHUNKS) - 1)
    assert logged.lines[0]["exc_info"]


async def test_a_chunk_that_is_none_is_told_to_readers_and_goes_on(gateway: Gateway) -> None:
    odd = object()
    assert await collect(tee(Answer(CHUNKS[0], odd, *CHUNKS[1:]), publisher(gateway.url))) == [
        CHUNKS[0],
        odd,
        *CHUNKS[1:],
    ]
    events = await read(gateway.url)
    assert text_of(events) == "".join(WORDS)
    assert any(isinstance(data, Extension) and data.name == "unparsed" for data in events)


# The end of the stream, and of the program's interest in it


class ApiError(Exception):
    """An error as SDKs raise it, with what the provider said in one of these attributes."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__("the key sk-secret is wrong")
        vars(self).update(attributes)


@pytest.mark.parametrize(
    ("attributes", "error"),
    [
        ({}, Error("the provider's stream failed: ApiError", "stream_failed")),
        ({"body": "text"}, Error("the provider's stream failed: ApiError", "stream_failed")),
        ({"body": {"message": "No", "code": "server_error"}}, Error("No", "server_error", retryable=True)),
        ({"body": {"type": "error", "error": {"message": "No", "type": "x"}}}, Error("No", "x")),
        ({"details": {"error": {"message": "No", "code": 503}}}, Error("No", "503", retryable=True)),
        ({"error": "No"}, Error("No")),
    ],
)
async def test_an_error_of_the_stream_reaches_the_program_and_its_readers(
    gateway: Gateway, attributes: dict[str, Any], error: Error
) -> None:
    failure = ApiError(**attributes)
    answer = Answer(CHUNKS[0], failure)
    with pytest.raises(ApiError) as raised:
        await collect(tee(answer, publisher(gateway.url)))
    assert raised.value is failure
    assert answer.was_closed
    events = await read(gateway.url)
    assert [data for data in events if isinstance(data, Error)] == [error]
    assert events[-1] == MessageStop("c-1", "error")
    assert "secret" not in repr(events)


async def test_an_error_before_the_stream_began_is_told_as_well(gateway: Gateway) -> None:
    async def create() -> Answer:
        raise ApiError(body={"error": {"message": "No"}})

    with pytest.raises(ApiError):
        await collect(tee(create(), publisher(gateway.url)))
    async with Subscriber(gateway.url, STREAM) as subscriber:
        assert (await anext(aiter(subscriber))).data == Error("No")  # type: ignore[union-attr]


async def test_a_stream_that_falls_silent_is_told_as_such(gateway: Gateway) -> None:
    answer = iterate_with_idle_timeout(Answer(CHUNKS[0], asyncio.Event()), 0.05)
    with pytest.raises(deltawire.SourceStalled):
        await collect(tee(answer, publisher(gateway.url)))
    events = await read(gateway.url)
    assert any(isinstance(data, Error) and data.code == "stalled" for data in events)
    assert events[-1] == MessageStop("c-1", "stalled")


async def test_a_stream_that_just_ends_is_incomplete_for_its_readers(gateway: Gateway) -> None:
    answer = Answer(*CHUNKS[:2])
    await collect(tee(answer, publisher(gateway.url)))
    assert (await read(gateway.url))[-1] == MessageStop("c-1", "incomplete")
    assert answer.was_left
    assert not answer.was_closed, "it ended by itself"


async def test_a_program_that_closes_it_closes_the_stream(gateway: Gateway) -> None:
    answer = Answer(*CHUNKS)
    teed = tee(answer, publisher(gateway.url))
    assert await take(teed, 2) == CHUNKS[:2]
    await teed.aclose()
    assert (answer.was_left, answer.was_closed, answer.asked) == (True, True, 2)
    events = await read(gateway.url)
    assert (text_of(events), events[-1]) == ("Hello from ", MessageStop("c-1", "incomplete"))
    with pytest.raises(StopAsyncIteration):
        await anext(teed)


async def test_an_exception_that_leaves_its_context_closes_the_stream(gateway: Gateway) -> None:
    answer = Answer(*CHUNKS)

    async def fail() -> None:
        async with tee(answer, publisher(gateway.url)) as teed:
            async for _ in teed:
                raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert (answer.was_left, answer.was_closed) == (True, True)
    assert (await read(gateway.url))[-1] == MessageStop("c-1", "incomplete")


async def test_a_loop_that_is_left_in_the_middle_closes_the_stream_in_the_end(gateway: Gateway) -> None:
    answer = Answer(*CHUNKS)
    async for _ in tee(answer, publisher(gateway.url)):
        break
    gc.collect()
    await eventually(lambda: answer.was_left and answer.was_closed)
    assert (await read(gateway.url))[-1] == MessageStop("c-1", "incomplete")


async def test_a_cancelled_program_closes_the_stream(gateway: Gateway) -> None:
    answer = Answer(CHUNKS[0], asyncio.Event())
    task = asyncio.create_task(collect(tee(answer, publisher(gateway.url))))
    await eventually(lambda: answer.asked == 2)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert (answer.was_left, answer.was_closed) == (True, True)
    assert (await read(gateway.url))[-1] == MessageStop("c-1", "incomplete")


async def test_a_stream_that_was_never_asked_for_is_closed_and_nothing_published(gateway: Gateway) -> None:
    async def create() -> Answer:
        raise AssertionError("nobody awaits it")

    answer = Answer(*CHUNKS)
    for stream in (answer, create()):
        async with tee(stream, publisher(gateway.url)):
            pass
    assert (answer.asked, answer.was_closed) == (0, True)
    assert [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("tee")] == []


# A reader's cancel


async def cancel(url: str, times: int = 1) -> None:
    """Follow the stream until there is text, and cancel."""
    async with Subscriber(url, STREAM) as subscriber:
        async for item in subscriber:
            if isinstance(getattr(item, "data", None), TextDelta):
                for _ in range(times):
                    assert await subscriber.signal("cancel") == 1
                return


async def test_a_readers_cancel_ends_the_iteration_and_the_stream_if_asked(gateway: Gateway) -> None:
    answer = Answer(CHUNKS[0], asyncio.Event())
    teed = tee(answer, publisher(gateway.url), stop_on_cancel=True)
    reader = asyncio.create_task(cancel(gateway.url))
    assert await asyncio.wait_for(collect(teed), DEADLINE) == CHUNKS[:1]
    await reader
    assert (answer.was_left, answer.was_closed, teed.is_cancelled) == (True, True, True)
    assert (await read(gateway.url))[-1] == MessageStop("c-1", "cancelled")


async def test_a_cancel_while_the_program_is_busy_counts_when_it_asks_again(gateway: Gateway) -> None:
    answer = Answer(*CHUNKS)
    teed = tee(answer, publisher(gateway.url), stop_on_cancel=True)
    assert await anext(teed) is CHUNKS[0]
    await cancel(gateway.url)
    await eventually(lambda: teed.is_cancelled)
    assert await collect(teed) == []
    assert answer.asked == 1


async def test_a_cancel_that_nobody_asked_for_ends_nothing(gateway: Gateway) -> None:
    go = asyncio.Event()
    teed = tee(Answer(CHUNKS[0], go, *CHUNKS[1:]), publisher(gateway.url))
    task = asyncio.create_task(collect(teed))
    await cancel(gateway.url)
    go.set()
    assert await task == CHUNKS
    assert not teed.is_cancelled


async def test_a_cancel_of_one_answer_is_none_of_the_next(gateway: Gateway) -> None:
    async with publisher(gateway.url) as target:
        assert await collect(tee(Answer(*CHUNKS), target, stop_on_cancel=True)) == CHUNKS
        await cancel(gateway.url)
        await target.send(TextDelta("between"))
        await target.flush()  # the ack comes behind the signal
        acked, go = target.acked, asyncio.Event()
        second = asyncio.create_task(collect(tee(Answer(CHUNKS[0], go, *CHUNKS[1:]), target, stop_on_cancel=True)))
        await eventually(lambda: target.acked > acked)
        go.set()
        assert await second == CHUNKS


async def test_a_timeout_of_the_stream_itself_is_no_cancel(gateway: Gateway) -> None:
    with pytest.raises(TimeoutError, match="of its own"):
        await collect(tee(Answer(TimeoutError("of its own")), publisher(gateway.url), stop_on_cancel=True))


# Arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "xml"}, "format: expected one of auto, anthropic-sse, "),
        ({"buffer": 0}, "buffer: expected 1 or more bytes, got 0"),
        ({"linger": -1}, "linger: expected a finite number of seconds from 0, got -1"),
        ({"linger": float("inf")}, "linger: expected a finite number of seconds from 0, got inf"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        tee(Answer(), publisher(NOWHERE), **arguments)


def test_what_is_no_stream_is_said() -> None:
    with pytest.raises(TypeError, match="stream: expected an async iterator, got list"):
        tee([], publisher(NOWHERE))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=re.escape("got Gateway; enter it first (async with)")):
        tee(Gateway(Settings(port=0)), publisher(NOWHERE))  # type: ignore[arg-type]


async def test_events_come_while_the_answer_does(gateway: Gateway) -> None:
    go = asyncio.Event()
    teed = tee(Answer(CHUNKS[0], go, *CHUNKS[1:]), publisher(gateway.url))
    task = asyncio.create_task(collect(teed))
    async with Subscriber(gateway.url, STREAM) as subscriber:
        events = aiter(subscriber)
        first = await anext(events)
        assert isinstance(getattr(first, "data", None), MessageStart)
        while not isinstance(getattr(await anext(events), "data", None), TextDelta):
            pass
    go.set()
    assert await task == CHUNKS
