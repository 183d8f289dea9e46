"""How `deltawire top` asks a gateway."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack, suppress
from itertools import pairwise
from typing import Self

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Response

from deltawire.gateway.cli.asking import Asker
from deltawire.gateway.cli.top.looking import (
    PAGE_PAUSE,
    Failed,
    FirstToken,
    Glance,
    Looker,
    News,
    Page,
    RoundOver,
    Trouble,
)
from deltawire.gateway.client import Publisher
from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from deltawire.protocol.events import MessageStart, TextDelta
from tests.support.fakes import FakeGateway
from tests.support.serving import listening
from tests.support.waiting import DEADLINE, eventually


class Looking:
    """A looker that looks, and what it has told; it stops when the block ends."""

    def __init__(self, url: str) -> None:
        self.looker = Looker(Asker(url, None, None), 0.01, self._tell)
        self._loop = asyncio.get_running_loop()
        self._news: asyncio.Queue[News] = asyncio.Queue()

    def _tell(self, news: News) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._news.put_nowait, news)

    async def until(self, kind: type[News]) -> list[News]:
        """What is told until something of this kind is, that included."""
        told = [await self._news.get()]
        while not isinstance(told[-1], kind):
            told.append(await self._news.get())
        return told

    async def __aenter__(self) -> Self:
        self.looker.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.looker.stop()
        await eventually(lambda: all(it.name != "looking" for it in threading.enumerate()), "the end of the thread")


async def test_all_pages_are_asked_for_with_a_pause_between_them() -> None:
    async with Gateway(Settings(port=0, drain_timeout=0)) as gateway:
        names = [f"s-{number:04}" for number in range(2001)]
        for name in names:
            gateway.hub.create(name)
        async with Looking(gateway.url) as looking:
            *pages, _ = await looking.until(RoundOver)
    assert [info.id for page in pages if isinstance(page, Page) for info in page.infos] == names
    times = [page.at for page in pages if isinstance(page, Page)]
    assert len(times) == 3
    assert all(later - earlier >= PAGE_PAUSE for earlier, later in pairwise(times))


async def test_the_first_token_of_a_stream_on_the_screen_is_read_from_its_events() -> None:
    async with Gateway(Settings(port=0, drain_timeout=0)) as gateway, Publisher(gateway.url, "a") as publisher:
        await publisher.send(MessageStart(message_id="m"))
        await publisher.send(TextDelta(text="x"))
        await publisher.flush()
        async with Looking(gateway.url) as looking:
            looking.looker.want_first_tokens(["absent", "a"])
            told = await looking.until(FirstToken) + await looking.until(FirstToken)
    absent, present = (news for news in told if isinstance(news, FirstToken))
    assert absent == FirstToken("absent", None)
    assert present.stream == "a"
    assert present.seconds is not None
    assert 0 <= present.seconds < 10
    assert any(isinstance(news, Glance) and news.text.startswith("readers 0") for news in told)


async def test_a_stream_that_is_open_is_looked_at_alone() -> None:
    async with Gateway(Settings(port=0, drain_timeout=0)) as gateway:
        gateway.hub.create("a")
        gateway.hub.create("b")
        async with Looking(gateway.url) as looking:
            await looking.until(RoundOver)
            looking.looker.open("b")
            while ids(page := (await looking.until(Page))[-1]) != ["b"]:
                pass  # a look at all had begun
            looking.looker.open(None)
            *_, page, _ = await looking.until(RoundOver)
            assert ids(page) == ["a", "b"]


def ids(news: News) -> list[str]:
    assert isinstance(news, Page)
    return [info.id for info in news.infos]


async def test_a_gateway_that_says_not_now_at_first_is_asked_again() -> None:
    later = Response(503, "Service Unavailable", Headers(), b"{}")
    async with FakeGateway(later) as gateway, Looking(gateway.url) as looking:
        trouble, failed = await looking.until(Failed)
    assert isinstance(trouble, Trouble)
    assert "the gateway is away: HTTP 503: Service Unavailable; asking again in" in trouble.text
    assert isinstance(failed, Failed)
    assert "HTTP 404" in str(failed.error)


async def test_a_first_look_that_fails_is_the_last_and_a_later_one_is_not() -> None:
    async with FakeGateway() as refusing, Looking(refusing.url) as looking:
        [failed] = await looking.until(Failed)
    assert isinstance(failed, Failed)
    assert "HTTP 404" in str(failed.error)
    async with AsyncExitStack() as running:
        gateway = await running.enter_async_context(Gateway(Settings(port=0, drain_timeout=0)))
        async with Looking(gateway.url) as looking:
            await looking.until(Glance)
            await running.aclose()
            trouble = (await looking.until(Trouble))[-1]
    assert isinstance(trouble, Trouble)
    assert trouble.text.startswith("the gateway is away: connection refused; asking again in ")


async def test_a_gateway_that_leaves_during_the_first_look_is_asked_again() -> None:
    bodies = iter([b"[]"])

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if (body := next(bodies, None)) is not None:
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body)

    async with listening(answer) as port, Looking(f"ws://127.0.0.1:{port}") as looking, asyncio.timeout(DEADLINE):
        page, *_, trouble = await looking.until(Trouble)
    assert ids(page) == []
    assert isinstance(trouble, Trouble)
    assert trouble.text.startswith("the gateway is away: ")


async def test_a_bug_in_the_thread_is_told_to_the_main_one(monkeypatch: pytest.MonkeyPatch) -> None:
    bug = ValueError("a bug")

    def fail(_: Asker) -> None:
        raise bug

    monkeypatch.setattr(Asker, "pages", fail)
    async with Looking("ws://127.0.0.1:1") as looking:
        assert await looking.until(Failed) == [Failed(bug)]
