"""Urgent events on sockets: ahead for a consumer that is behind, once for one that is not (SPEC §5.9)."""

from __future__ import annotations

import asyncio

import pytest

from deltawire.protocol.events import Error, TextDelta
from tests.server.conftest import StartGateway
from tests.server.scraping import Scraper
from tests.server.stalling import consumers_of, say, stalled
from tests.support.peers import consumer, producer, publish, text_delta, types_of
from tests.support.waiting import DEADLINE, eventually, turn

BEHIND = 10_000


@pytest.mark.parametrize("policy", ["coalesce", "drop_newest", "drop_oldest"])
async def test_it_is_what_a_socket_takes_first_that_was_full_for_ten_thousand_events(
    start_gateway: StartGateway, policy: str
) -> None:
    gateway = await start_gateway()
    scraper = Scraper(gateway)
    await scraper.look()
    stream = gateway.hub.create("demo")
    async with stalled(gateway, f"policy={policy}&buffer=100&urgent=error") as slow:
        say(stream, BEHIND)
        seq = stream.send_nowait(Error("stop"))
        say(stream, 100)
        before, *after = await slow.raw.read_until("urgent"), *await slow.raw.read_until("error")
    assert before[-1]["event"] == after[-1]
    assert after[-1]["seq"] == seq
    written = [message["seq"] for message in before if "seq" in message]
    assert max(written) <= slow.cursor, "only what was in the socket already comes before it"
    assert types_of(after).count("urgent") == 0
    assert await scraper.moved("deltawire_urgent_total") == 1


async def test_it_comes_ahead_to_a_consumer_that_holds_producers_up(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    stream = gateway.hub.create("demo")
    async with stalled(gateway, "policy=block&buffer=50&urgent=error") as slow:
        say(stream, 48)
        seq = stream.send_nowait(Error("stop"))
        messages = await slow.raw.read_until("urgent")
        assert messages[-1]["event"]["seq"] == seq
        assert (await slow.raw.read_until("error"))[-1]["seq"] == seq


async def test_a_reader_that_resumes_far_behind_gets_it_before_most_of_the_rest(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    stream = gateway.hub.create("demo")
    say(stream, BEHIND)
    seq = stream.send_nowait(Error("stop"))
    async with consumer(gateway, "after=1&policy=disconnect&urgent=error") as reading:
        ahead = await reading.read_until("urgent")
        assert max(message.get("seq", 0) for message in ahead) < BEHIND // 5
        assert (await reading.read_until("error"))[-1]["seq"] == seq


@pytest.mark.parametrize("policy", ["coalesce", "block", "drop_newest", "drop_oldest", "disconnect"])
async def test_a_consumer_that_keeps_up_gets_it_once(start_gateway: StartGateway, policy: str) -> None:
    gateway = await start_gateway()
    async with consumer(gateway, f"policy={policy}&urgent=error,message_stop") as reading, producer(gateway) as writing:
        await reading.read_until("caught_up")
        error = {"type": "error", "urgent": True, "data": {"error": "x"}}
        await publish(writing, text_delta("a"), error, text_delta("b"), upto=3)
        messages = await reading.read_until("text_delta", seq=3)
    assert types_of(messages) == ["text_delta", "error", "text_delta"]
    assert messages[1]["urgent"] is True


async def test_an_interval_makes_no_consumer_be_behind(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    stream = gateway.hub.create("demo")
    async with consumer(gateway, "interval=300&urgent=error") as reading:
        await reading.read_until("caught_up")
        say(stream, 1)
        await reading.read_until("text_delta", seq=1)
        for data in (TextDelta("a"), TextDelta("b"), Error("x")):
            stream.send_nowait(data)
            await turn()
        assert types_of(await reading.read_until("error")) == ["text_delta", "error"]


async def test_it_comes_at_once_to_a_consumer_that_waits_for_its_turn_to_read_on(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    stream = gateway.hub.create("demo")
    say(stream, 40_000)
    async with consumer(gateway, "policy=block&urgent=marked") as reading:
        await eventually(lambda: consumers_of(gateway))
        seq = stream.send_nowait(TextDelta("!"), urgent=True)
        ahead = await asyncio.wait_for(reading.read_until("urgent"), DEADLINE)
        assert ahead[-1]["event"]["seq"] == seq
