"""Recorded answers through the whole product: the command publishes them, three kinds of consumers read them back."""

from __future__ import annotations

import asyncio
import random
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

from deltawire.gateway.client import Subscriber
from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from deltawire.protocol.events import Data, Event
from deltawire.protocol.position import Position
from deltawire.protocol.providers import TRANSLATORS
from tests.support.forking import start_module
from tests.support.processes import COMMAND, clean_environment
from tests.support.transcripts import format_of, split_randomly, told_by_events, told_by_transcript, transcripts

STREAM = "answer"

TWO_CHOICES = """\
data: {"id":"c1","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"Yes"},"finish_reason":null}]}

data: {"id":"c1","model":"m","choices":[{"index":1,"delta":{"role":"assistant","content":"Nein"},"finish_reason":null}]}

data: {"id":"c1","model":"m","choices":[{"index":0,"delta":{"content":", gladly – ☀"},"finish_reason":null}]}

data: {"id":"c1","model":"m","choices":[{"index":1,"delta":{"content":" danke"},"finish_reason":null}]}

data: {"id":"c1","model":"m","choices":[{"index":1,"delta":{},"finish_reason":"length"}]}

data: {"id":"c1","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}

data: {"id":"c1","model":"m","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":9,"total_tokens":14,\
"prompt_tokens_details":{"cached_tokens":2},"completion_tokens_details":{"reasoning_tokens":1}}}

data: [DONE]

"""
"""Two answers at once, interleaved: no recording has that."""


@asynccontextmanager
async def publishing(form: str, url: str) -> AsyncIterator[Process]:
    """`deltawire publish` as a process that reads a pipe."""
    options = ("publish", STREAM, "--close", "--format", form, "--url", url)
    process = await start_module(COMMAND[-1], *options, stdin=PIPE, stderr=PIPE, env=clean_environment())
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def write(process: Process, chunks: Iterable[bytes]) -> None:
    assert process.stdin is not None
    for chunk in chunks:
        process.stdin.write(chunk)
        await process.stdin.drain()


async def read(url: str, position: Position | None = None, upto: int | None = None) -> tuple[list[Data], Position]:
    """The events after a position, up to a seq or to the end of the stream, and where that was."""
    events: list[Data] = []
    async with Subscriber(url, STREAM, position=position) as subscriber:
        async for item in subscriber:
            assert isinstance(item, Event), f"something was missed: {item}"
            events.append(item.data)
            if item.seq == upto:
                break
        assert subscriber.position is not None
        return events, subscriber.position


async def publish_and_read(path: Path) -> dict[str, list[Data]]:
    """What each consumer got of a transcript; one joins, and one leaves to resume, when the first half is out."""
    seed = random.randrange(2**32)  # from the seed that pytest-randomly prints
    print(f"chunks split with seed {seed}")  # noqa: T201 - shown when the test fails
    dice = Random(seed)
    body = path.read_bytes()  # noqa: ASYNC240 - a small file
    cut = body.index(b"\n", len(body) // 2) + 1  # some bodies have most of their bytes in one line
    first, second = (list(split_randomly(half, dice)) for half in (body[:cut], body[cut:]))
    translator = TRANSLATORS[format_of(path)]()
    half_way = sum(len(translator.feed(chunk)) for chunk in first)
    assert half_way, "there is something to resume after"
    async with Gateway(Settings(port=0)) as gateway, publishing(format_of(path), gateway.url) as process:
        live = asyncio.create_task(read(gateway.url))
        before = asyncio.create_task(read(gateway.url, upto=half_way))
        await write(process, first)
        seen, position = await before
        assert position.seq == half_way
        late = asyncio.create_task(read(gateway.url))
        resumed = asyncio.create_task(read(gateway.url, position))
        await write(process, second)
        assert process.stdin is not None
        process.stdin.close()
        _, errors = await process.communicate()
        told = told_by_transcript(path).errors
        said = "".join(f"deltawire: error: the provider failed: {error}" for error in told)
        assert (process.returncode, errors.decode()[: len(said)]) == (int(bool(told)), said)
        assert len(errors.splitlines()) == len(told)
        return {"live": (await live)[0], "late": (await late)[0], "resumed": seen + (await resumed)[0]}


@transcripts
async def test_a_recorded_answer_is_the_same_to_live_late_and_resumed_consumers(path: Path) -> None:
    expected = told_by_transcript(path)
    for name, events in (await publish_and_read(path)).items():
        assert told_by_events(events) == expected, name


async def test_two_choices_at_once_are_the_same_to_live_late_and_resumed_consumers(tmp_path: Path) -> None:
    path = tmp_path / "openai-chat" / "two_choices.sse"
    path.parent.mkdir()
    path.write_text(TWO_CHOICES, encoding="utf-8")
    expected = told_by_transcript(path)
    assert expected.text == {0: "Yes, gladly – ☀", 1: "Nein danke"}
    for name, events in (await publish_and_read(path)).items():
        assert told_by_events(events) == expected, name
