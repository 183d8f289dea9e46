"""`tee` around the streams of real SDKs, each against a provider in this process.

Each test is skipped where its SDK is not installed; `tests/test_sdks.py` makes an environment that has them all.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from msgspec import structs

from deltawire.gateway.client import Publisher
from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from deltawire.gateway.tee import tee
from deltawire.gateway.tee.folding import fold
from deltawire.protocol.events import Data, Error, Extension, MessageStart, MessageStop, Thinking, ToolDelta, Usage
from deltawire.protocol.providers import ANY, TRANSLATORS
from tests.support.sdk_answers import STREAM, read, text_of
from tests.support.sdk_provider import ANTHROPIC, CHAT, GEMINI, OLLAMA, RESPONSES, Provider, sse
from tests.support.waiting import eventually


def openai(url: str) -> Any:
    sdk = pytest.importorskip("openai")
    return sdk.AsyncOpenAI(api_key="sk-secret", base_url=f"{url}/v1", max_retries=0)


def anthropic(url: str) -> Any:
    sdk = pytest.importorskip("anthropic")
    return sdk.AsyncAnthropic(api_key="sk-secret", base_url=url, max_retries=0)


MESSAGES: list[Any] = [{"role": "user", "content": "Hi"}]


def openai_chat(url: str) -> Any:
    return openai(url).chat.completions.create(model="m", messages=MESSAGES, stream=True)


def openai_responses(url: str) -> Any:
    return openai(url).responses.create(model="m", input="Hi", stream=True)


def anthropic_messages(url: str) -> Any:
    return anthropic(url).messages.create(model="m", max_tokens=9, messages=MESSAGES, stream=True)


def gemini(url: str) -> Any:
    genai = pytest.importorskip("google.genai")
    options = genai.types.HttpOptions(base_url=url)
    client = genai.Client(api_key="sk-secret", http_options=options)
    return client.aio.models.generate_content_stream(model="m", contents="Hi")


def ollama(url: str) -> Any:
    sdk = pytest.importorskip("ollama")
    return sdk.AsyncClient(host=url).chat(model="m", messages=MESSAGES, stream=True)


Ask = Callable[[str], Any]
CASES: dict[str, tuple[str, list[bytes], Ask]] = {
    "openai chat": ("openai-chat-sse", CHAT, openai_chat),
    "openai responses": ("openai-responses-sse", RESPONSES, openai_responses),
    "anthropic": ("anthropic-sse", ANTHROPIC, anthropic_messages),
    "google": ("gemini-sse", GEMINI, gemini),
    "ollama": ("ollama-ndjson", OLLAMA, ollama),
}
sdks = pytest.mark.parametrize(("form", "frames", "ask"), CASES.values(), ids=CASES)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with Gateway(Settings(port=0, drain_timeout=0)) as running:
        yield running


def translate(form: str, frames: list[bytes]) -> list[Data]:
    translator = TRANSLATORS[form]()
    return translator.feed(b"".join(frames)) + translator.finish()


def without_ids(events: list[Data]) -> list[Data]:
    """Events without the ids of messages, which may be made for each answer."""
    return [
        structs.replace(data, message_id="…") if isinstance(data, (MessageStart, MessageStop)) else data
        for data in events
    ]


@sdks
@pytest.mark.parametrize("is_named", [True, False])
async def test_readers_get_what_the_body_says(
    gateway: Gateway, form: str, frames: list[bytes], ask: Ask, *, is_named: bool
) -> None:
    async with Provider(frames) as provider:
        async with tee(ask(provider.url), Publisher(gateway.url, STREAM), format=form if is_named else ANY) as teed:
            chunks = [item async for item in teed]
        assert (teed.dropped, teed.failure) == (0, None)
    assert len(chunks) > 4
    assert all(hasattr(item, "model_dump") for item in chunks), "models of the SDK"
    events = await read(gateway.url)
    assert fold(without_ids(events)) == fold(without_ids(translate(form, frames)))
    assert text_of(events) == "grüße 🌍"
    assert "".join(data.thinking for data in events if isinstance(data, Thinking)) == "Hm"
    arguments = "".join(data.partial_json for data in events if isinstance(data, ToolDelta))
    assert json.loads(arguments) == {"a": 1}
    [*_, usage] = [data for data in events if isinstance(data, Usage)]
    assert (usage.prompt_tokens, usage.completion_tokens) == (3, 5)


async def openai_chat_helper(url: str) -> AsyncIterator[Any]:
    async with openai(url).chat.completions.stream(model="m", messages=MESSAGES) as stream:
        async for item in stream:
            yield item


async def openai_responses_helper(url: str) -> AsyncIterator[Any]:
    async with openai(url).responses.stream(model="m", input="Hi") as stream:
        async for item in stream:
            yield item


async def anthropic_helper(url: str) -> AsyncIterator[Any]:
    async with anthropic(url).messages.stream(model="m", max_tokens=9, messages=MESSAGES) as stream:
        async for item in stream:
            yield item


@pytest.mark.parametrize(
    ("form", "frames", "ask"),
    [
        ("openai-chat-sse", CHAT, openai_chat_helper),
        ("openai-responses-sse", RESPONSES, openai_responses_helper),
        ("anthropic-sse", ANTHROPIC, anthropic_helper),
    ],
    ids=["openai chat", "openai responses", "anthropic"],
)
async def test_what_the_helper_of_an_sdk_adds_changes_nothing(
    gateway: Gateway, form: str, frames: list[bytes], ask: Ask
) -> None:
    async with Provider(frames) as provider:
        async for _ in tee(ask(provider.url), Publisher(gateway.url, STREAM)):
            pass
    assert fold(await read(gateway.url)) == fold(translate(form, frames))


ERRORS = {
    "openai chat": [*CHAT[:3], b'data: {"error": {"message": "No", "type": "server_error", "code": 503}}\n\n'],
    "openai responses": [*RESPONSES[:2], *sse({"type": "error", "error": {"code": "server_error", "message": "No"}})],
    "anthropic": [*ANTHROPIC[:3], *sse({"type": "error", "error": {"type": "overloaded_error", "message": "No"}})],
    "google": [*GEMINI[:2], b'data: {"error": {"message": "No", "code": 503, "status": "UNAVAILABLE"}}\r\n\r\n'],
    "ollama": [*OLLAMA[:2], b'{"error": "No"}\n'],
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Google's leaves its socket open
@pytest.mark.parametrize("name", CASES)
async def test_an_error_amid_an_answer_is_told_as_the_body_tells_it(gateway: Gateway, name: str) -> None:
    form, _, ask = CASES[name]
    frames = ERRORS[name]
    async with Provider(frames) as provider:
        teed = tee(ask(provider.url), Publisher(gateway.url, STREAM))
        with pytest.raises(Exception, match="No"):
            async for _ in teed:
                pass
    events = await read(gateway.url)
    told = [data for data in events if isinstance(data, Error)]
    assert told == [data for data in translate(form, frames) if isinstance(data, Error)]
    assert isinstance(events[-1], MessageStop)
    assert events[-1].stop_reason == "error"
    assert "sk-secret" not in repr(events)


@sdks
async def test_a_program_that_leaves_leaves_the_provider(
    gateway: Gateway, form: str, frames: list[bytes], ask: Ask
) -> None:
    async with Provider(frames[:3], stays=True) as provider:
        async with tee(ask(provider.url), Publisher(gateway.url, STREAM), format=form) as teed:
            await anext(teed)
        await eventually(lambda: provider.was_left)
    events = await read(gateway.url)
    assert isinstance(events[-1], MessageStop)
    assert events[-1].stop_reason == "incomplete"


async def test_events_of_ag_ui_are_read_as_objects_and_as_encoded(gateway: Gateway) -> None:
    ag_ui = pytest.importorskip("ag_ui.core")
    encoder = pytest.importorskip("ag_ui.encoder").EventEncoder()
    chunks = [
        ag_ui.RunStartedEvent(thread_id="th", run_id="run"),
        ag_ui.ReasoningMessageStartEvent(message_id="r"),
        ag_ui.ReasoningMessageContentEvent(message_id="r", delta="Hm"),
        ag_ui.ReasoningMessageEndEvent(message_id="r"),
        ag_ui.TextMessageStartEvent(message_id="m"),
        ag_ui.TextMessageContentEvent(message_id="m", delta="grüße 🌍"),
        ag_ui.TextMessageEndEvent(message_id="m"),
        ag_ui.ToolCallChunkEvent(tool_call_id="t", tool_call_name="get", delta='{"a":1}'),
        ag_ui.StateDeltaEvent(delta=[{"op": "add", "path": "/x", "value": 1}]),
        ag_ui.RunFinishedEvent(
            thread_id="th",
            run_id="run",
            outcome=ag_ui.RunFinishedCancelledOutcome(),
            usage=[ag_ui.TokenUsage(input_tokens=3, output_tokens=5)],
        ),
    ]

    async def stream(items: list[Any]) -> AsyncIterator[Any]:
        for item in items:
            yield item

    async with Publisher(gateway.url, STREAM) as publisher:
        for items in (chunks, [encoder.encode(item) for item in chunks]):
            assert [item async for item in tee(stream(items), publisher)] == items
    events = await read(gateway.url, upto=2)
    assert events[: len(events) // 2] == events[len(events) // 2 :]
    assert text_of(events[: len(events) // 2]) == "grüße 🌍"
    assert events[-1] == MessageStop("run", "cancelled")
    assert {data.name for data in events if isinstance(data, Extension)} == {"RUN_STARTED", "STATE_DELTA"}
