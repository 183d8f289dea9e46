"""Recorded answers of providers, published by the command and read back live, late and resumed."""

from __future__ import annotations

import asyncio
import random
from asyncio.subprocess import PIPE
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest
from msgspec import UnsetType

from gateway.client import Subscriber
from gateway.config import Settings
from gateway.server import Gateway
from protocol.events import Data, Event, MessageStop, TextDelta, Thinking, ToolDelta, Usage
from protocol.position import Position
from protocol.providers import TRANSLATORS
from tests.cli.processes import ROOT, Start

TRANSCRIPTS = ROOT / "../shared/transcripts"
FOLDERS = {"anthropic-sse": "anthropic", "openai-chat-sse": "openai-chat"}
RECORDINGS = [
    (form, path)
    for form, folder in FOLDERS.items()
    for path in sorted((TRANSCRIPTS / folder).glob("*"))
    if path.is_file()
]


class Answer(NamedTuple):
    """What of an answer has to arrive at everyone."""

    text: str
    thinking: str
    tools: str
    usage: list[Usage]
    stops: list[tuple[str, str, int | UnsetType]]


def gather(items: Iterable[Data]) -> Answer:
    items = list(items)
    return Answer(
        "".join(item.text for item in items if isinstance(item, TextDelta)),
        "".join(item.thinking for item in items if isinstance(item, Thinking)),
        "".join(item.partial_json for item in items if isinstance(item, ToolDelta)),
        [item for item in items if isinstance(item, Usage)],
        [(item.message_id, item.stop_reason, item.choice) for item in items if isinstance(item, MessageStop)],
    )


async def read(url: str, position: Position | None = None, count: int | None = None) -> tuple[list[Data], Position]:
    """Read `count` events, or all to the end of the stream; where that was."""
    items: list[Data] = []
    async with Subscriber(url, "demo", position=position) as subscriber:
        async for item in subscriber:
            assert isinstance(item, Event)
            items.append(item.data)
            if len(items) == count:
                break
        assert subscriber.position is not None
        return items, subscriber.position


@pytest.mark.skipif(not RECORDINGS, reason="no recorded transcripts beside the repository")
@pytest.mark.parametrize(("form", "path"), RECORDINGS, ids=lambda value: getattr(value, "name", value))
async def test_a_recorded_answer_is_the_same_for_live_late_and_resumed_readers(
    form: str, path: Path, start: Start
) -> None:
    body = path.read_bytes()  # noqa: ASYNC240 - a small file
    translator = TRANSLATORS[form]()
    expected = gather([*translator.feed(body), *translator.finish()])
    dice = random.Random(path.name)
    async with Gateway(Settings(port=0)) as gateway, asyncio.TaskGroup() as tasks:
        live = tasks.create_task(read(gateway.url))
        begun = tasks.create_task(read(gateway.url, count=dice.randint(1, 3)))
        writer = await start("publish", "demo", f"--format={form}", "--close", f"--url={gateway.url}", stdin=PIPE)
        assert writer.stdin is not None
        while body:
            size = dice.randint(1, 500)
            writer.stdin.write(body[:size])
            await writer.stdin.drain()
            body = body[size:]
        writer.stdin.close()
        assert await writer.wait() == 0
        first_part, position = await begun
        second_part, _ = await read(gateway.url, position)
        late, _ = await read(gateway.url)
        assert gather((await live)[0]) == expected
        assert gather(late) == expected
        assert gather([*first_part, *second_part]) == expected
