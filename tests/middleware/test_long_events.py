"""A long event is redacted over several turns of the loop: none is long, and what comes next waits for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from cProfile import Profile
from functools import partial
from itertools import chain, repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json

pytest.importorskip("re2", reason="needs the extra: pip install 'deltawire[redact]'")

from deltawire.gateway.config import Settings
from deltawire.gateway.hub import Hub
from deltawire.gateway.middleware import PERSONAL, SECRETS, make_middleware, redact, split_thinking
from deltawire.gateway.middleware.redacting import AT_ONCE
from deltawire.gateway.middleware.scanning import Scanner
from deltawire.gateway.middleware.screen import Screen
from deltawire.gateway.middleware.stage import Context, plan_function
from deltawire.gateway.server import Gateway
from deltawire.gateway.streams.producers import Writer
from deltawire.protocol.events import Data, Error, Extension, TextDelta, ToolDelta
from tests.middleware.streaming import STAMP, Screened
from tests.support.asking import http_client
from tests.support.peers import consumer, peer, text_delta, text_of
from tests.support.waiting import eventually

KEY = "sk-abcdefghijklmnopqrstuvwxyz"
LARGEST = 64 * 1024
MOST_CALLS = 4 * LARGEST
"""Calls of functions in a turn, at most: a few for each tag of thinking, and for each text between two. The time that
regular expressions take grows as their text does (RE2); `scripts.hardening.turns` says how long turns are."""


def work_off(screened: Screened) -> int:
    """Let the stages go on until nothing is left to do; return how often they were called."""
    calls = 0
    while screened.screen.is_working:
        screened.screen.work(0.0)
        calls += 1
    return calls


@given(st.integers(0, 3 * AT_ONCE), st.integers(0, 40), st.integers(0, 40))
def test_a_long_event_is_redacted_as_a_short_one(at: int, before: int, after: int) -> None:
    text = "-" * at + f" {KEY} " + "." * (3 * AT_ONCE - at)
    screened = Screened(redact(SECRETS))
    screened.send("x" * before, text, "y" * after + " z")
    work_off(screened)
    assert screened.text() == "x" * before + text.replace(KEY, "[redacted]") + "y" * after + " z"


def test_what_comes_behind_a_long_event_waits_for_it() -> None:
    screened = Screened(redact(SECRETS))
    assert screened.send(KEY + " a" * LARGEST, "b", Error(f"not {KEY}"), TextDelta("c")) == [None] * 4
    assert screened.read() == []
    assert work_off(screened) > LARGEST // AT_ONCE
    assert [it.type for it in screened.read()] == ["text_delta", "text_delta", "error", "text_delta"]
    assert KEY not in str(screened.read())
    assert screened.screen.due_at is None


def test_an_event_of_many_short_parts_comes_out_whole() -> None:
    def split(data: Data, _: Context) -> Iterable[Data]:
        return map(TextDelta, data.text.split("|")) if isinstance(data, TextDelta) else [data]

    screened = Screened(plan_function("split", split), redact(SECRETS))
    assert screened.send("|".join([" a short part"] * AT_ONCE)) == [None]
    assert screened.read() == []
    work_off(screened)
    assert screened.text() == " a short part" * AT_ONCE


def test_the_end_of_a_stream_does_not_wait_for_the_rest_of_a_long_event() -> None:
    screened = Screened(redact(SECRETS))
    screened.send(KEY + " a" * LARGEST, "b")
    screened.screen.finish(0.0)
    assert screened.text() == "[redacted]" + " a" * LARGEST + "b"


def test_all_texts_of_a_long_extension_are_redacted() -> None:
    value = {"list": ["a@b.co", "", {KEY: [KEY, 1, None]}] * 200, "text": f"my {KEY}, " * 100}
    screened = Screened(redact(SECRETS + PERSONAL))
    assert screened.send(Extension("p", "n", value)) == [None]
    work_off(screened)
    expected = {"list": ["[redacted]", "", {KEY: ["[redacted]", 1, None]}] * 200, "text": "my [redacted], " * 100}
    assert screened.read() == [Extension("p", "n", expected)]


UNITS = (
    *("1 ", "1111 ", "1234-", "a@b.co ", "eyJ", "sk-", "a", "a.", "a@a.", "-----BEGIN ", "+1", "DE89 ", "DE89AAAA"),
    *("éa@b.co ", "é+12345678 ", "é4111111111111111 "),
)


def shapes(unit: str) -> Iterator[Data]:
    """Events of the largest size that are made of a unit."""
    parts = [unit] * (LARGEST // (len(unit.encode()) + 3))
    text = unit * (LARGEST // len(unit.encode()))
    yield from (TextDelta(text), ToolDelta(0, text), ToolDelta(0, f'["{text}'), Error(text), Extension("p", "n", parts))
    yield ToolDelta(0, '["' + '","'.join(parts) + '"]')
    yield TextDelta("<think>".join(chain.from_iterable(zip(parts, repeat("</think>"), strict=False))))


def calls_of(turn: Callable[[], object]) -> int:
    """How many functions a turn calls, Python's own among them."""
    profile = Profile()
    profile.runcall(turn)
    return sum(entry.callcount for entry in profile.getstats())


@pytest.mark.parametrize("unit", UNITS)
def test_no_text_makes_a_turn_long(unit: str) -> None:
    for data in shapes(unit):
        screen = Screened(split_thinking(), redact(SECRETS + PERSONAL)).screen
        turns = [calls_of(partial(screen.take, data, STAMP, 0.0, None))]
        turns += [calls_of(partial(screen.work, 0.0)) for _ in range(4)]  # each takes as long as any other
        assert max(turns) < MOST_CALLS


async def test_neither_producer_is_heard_before_a_long_event_is_through() -> None:
    settings = Settings(port=0, drain_timeout=0.5)
    chosen = make_middleware({"*": [redact(SECRETS + PERSONAL)]}, 10.0)
    hostile = text_delta("a@b.co " * (60_000 // 7), producer_seq=1)
    async with (
        Hub(settings, chosen) as hub,
        Gateway(settings, hub) as gateway,
        peer(gateway, "demo/publish?producer=p&on_full=reject") as first,
        peer(gateway, "demo/publish?producer=q&on_full=reject") as second,
    ):
        for writing in (first, second):
            await writing.read_until("ready")
        await first.say(hostile, text_delta("b, ", producer_seq=2))
        await first.read_until("ack", producer_seq=2)
        await second.say(hostile)
        await second.read_until("ack", producer_seq=1)
        async with consumer(gateway) as reading:
            text = text_of(await reading.read_until("caught_up"))
    assert text == "[redacted] " * (60_000 // 7) + "b, " + "[redacted] " * (60_000 // 7)


async def test_a_stream_is_not_ended_before_a_long_event_is_through(monkeypatch: pytest.MonkeyPatch) -> None:
    work, finish, may_go_on = Screen.work, Screen.finish, False

    def go_on(screen: Screen, now: float) -> None:
        if may_go_on:
            work(screen, now)

    def finish_at_once(screen: Screen, now: float) -> None:
        assert not screen.is_working, "all that is left would be done in one turn"
        finish(screen, now)

    monkeypatch.setattr(Screen, "work", go_on)
    monkeypatch.setattr(Screen, "finish", finish_at_once)
    settings = Settings(port=0, drain_timeout=0.5)
    async with (
        Hub(settings, make_middleware({"*": [redact(SECRETS + PERSONAL)]}, 10.0)) as hub,
        Gateway(settings, hub) as gateway,
        http_client(base_url=f"http://127.0.0.1:{gateway.port}") as client,
        peer(gateway, "demo/publish") as first,
        peer(gateway, "demo/publish") as second,
        consumer(gateway) as reading,
    ):
        for writing in (first, second):
            await writing.read_until("ready")
        await first.say(text_delta("a@b.co " * (60_000 // 7)))
        stream = hub.manager.get("demo")
        await eventually(lambda: stream.is_recovering, "that there is work")
        await second.say({"type": "close_stream"})
        refused = await client.delete("/v1/streams/demo")
        may_go_on = True
        text = text_of(await reading.read_all())
    assert refused.status_code == 503
    assert "Retry-After" in refused.headers
    assert text == "[redacted] " * (60_000 // 7)


async def test_a_request_is_answered_when_its_long_event_is_through() -> None:
    settings = Settings(port=0, drain_timeout=0.5)
    body = json.encode([text_delta("a@b.co " * 5000), text_delta("b, ")])
    async with (
        Hub(settings, make_middleware({"*": [redact(SECRETS + PERSONAL)]}, 10.0)) as hub,
        Gateway(settings, hub) as gateway,
        http_client(base_url=f"http://127.0.0.1:{gateway.port}") as client,
    ):
        answer = await client.post(
            "/v1/streams/demo/events", content=body, headers={"Content-Type": "application/json"}
        )
    assert answer.json()["seq"] == 2


def test_a_long_event_on_which_the_redactor_fails_is_dropped_and_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    screened = Screened(redact(SECRETS))
    screened.send("a " * LARGEST, writer=Writer("p", 0))
    monkeypatch.setattr(Scanner, "feed", lambda *_: 1 / 0)
    work_off(screened)
    assert (screened.failures, screened.read()) == ([("redact", "ZeroDivisionError")], [])
    assert (screened.released_, len(screened.reasons)) == ([("p", 0)], 1)
    monkeypatch.undo()
    assert screened.send("b ") == [1]
