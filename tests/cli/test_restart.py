"""A service with a store restarts under load: nobody notices more than a reconnect."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from deltawire.gateway.client import Publisher, Subscriber
from deltawire.protocol.events import Event, MessageStart, MessageStop, TextDelta
from tests.support.processes import Serve, passing
from tests.support.soaking import lasting
from tests.support.waiting import DEADLINE, eventually

RESTARTS = 3
STREAMS = 8


class Answer:
    """One stream with its producer and its reader, through all restarts."""

    def __init__(self, url: str, number: int) -> None:
        self.url = url
        self.id = f"answer-{number}"
        self.sent: list[str] = []
        self.read: list[object] = []
        self.done = asyncio.Event()
        self.publisher: Publisher | None = None

    async def publish(self) -> None:
        async with Publisher(self.url, self.id, producer="p") as publisher:
            self.publisher = publisher
            await publisher.send(MessageStart("m"))
            while not self.done.is_set():
                text = f"{len(self.sent)} "
                await publisher.send(TextDelta(text))
                self.sent.append(text)
                await asyncio.sleep(0)
            await publisher.send(MessageStop("m", "end_turn"))

    async def follow(self) -> int:
        """Read until the message ends; returns how many digests proved the text."""
        async with Subscriber(self.url, self.id) as subscriber:
            async for item in subscriber:
                self.read.append(item)
                if isinstance(item, Event) and isinstance(item.data, MessageStop):
                    break
            return subscriber.proven

    async def progress(self) -> None:
        """Return when something was read since the call."""
        before = len(self.read)
        await eventually(lambda: len(self.read) > before)

    @property
    def text(self) -> str:
        events = [it for it in self.read if isinstance(it, Event)]
        return "".join(it.data.text for it in events if isinstance(it.data, TextDelta))


@pytest.mark.soak
@pytest.mark.parametrize("sync", lasting(["always"], ["always", "off"]))
async def test_a_restart_under_load_costs_nobody_more_than_a_reconnect(serve: Serve, tmp_path: Path, sync: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        options = (f"--data-dir={tmp_path / 'data'}", f"--sync={sync}", "--drain-timeout=2")
        served = await serve(*options, **passing(listening.fileno()))
        answers = [Answer(served.url, number) for number in range(STREAMS)]
        async with asyncio.timeout(DEADLINE * 2), asyncio.TaskGroup() as tasks:
            for it in answers:
                tasks.create_task(it.publish())
            following = [tasks.create_task(it.follow()) for it in answers]
            for _ in range(RESTARTS):
                for it in answers:
                    await it.progress()
                served.process.terminate()
                assert await served.process.wait() == 0
                served = await serve(*options, **passing(listening.fileno()))
            for it in answers:
                it.done.set()
    for it in answers:
        assert it.text == "".join(it.sent)
        assert not [item for item in it.read if not isinstance(item, Event)], "no gap"
    assert [task.result() for task in following] == [1] * STREAMS
