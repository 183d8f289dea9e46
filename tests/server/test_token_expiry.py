"""Tokens that expire on a connection, and tokens that replace them there (SPEC §11.4)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from deltawire.protocol.codes import CloseCode, ProblemCode
from tests.server.conftest import StartGateway
from tests.support import minting
from tests.support.minting import everything, sign, token, write_secret
from tests.support.peers import Peer, consumer, producer, publish, text_delta, types_of

STREAM: dict[str, Any] = {"publish": ["demo"], "subscribe": ["demo"]}


class Clock:
    """The wall's clock, set by hand."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that the gateway goes by, and whoever mints tokens."""
    clock = Clock()
    monkeypatch.setattr(minting, "time", SimpleNamespace(time=clock))
    return clock


@pytest.fixture
async def guarded(tmp_path: Path, clock: Clock) -> AsyncIterator[Gateway]:
    async with Gateway(Settings(port=0, drain_timeout=0.05, auth_key=write_secret(tmp_path)), clock=clock) as gateway:
        yield gateway


async def renew(it: Peer, held: str) -> dict[str, Any]:
    """Send a token; the answer."""
    await it.say({"type": "token", "token": held})
    return await it.read()


@pytest.mark.parametrize("connect", [consumer, producer], ids=["consumer", "producer"])
@pytest.mark.hears(ProblemCode.TOKEN_EXPIRED, CloseCode.TOKEN_EXPIRED)
async def test_a_connection_ends_with_its_token(guarded: Gateway, clock: Clock, connect: Callable[..., Any]) -> None:
    async with connect(guarded, token=token(lifetime=60, **STREAM)) as it:
        if connect is consumer:
            await it.read_until("caught_up")
        clock.now += 58
        assert (await renew(it, "bad"))["code"] == "invalid_token", "it is still there"
        clock.now += 3
        last = (await it.read_all())[-1]
        assert (last["code"], last["retryable"], it.code) == ("token_expired", True, 4001)


async def test_what_was_accepted_before_the_end_can_be_read_after_it(guarded: Gateway, clock: Clock) -> None:
    async with producer(guarded, token=everything(60)) as writing:
        await publish(writing, text_delta("a"), upto=1)
        async with consumer(guarded, token=everything(60)) as reading:
            await reading.read_until("caught_up")
            clock.now += 61
            last = (await reading.read_all())[-1]
        assert (last["code"], last["resume_after"]) == ("token_expired", 1)
        assert (await writing.read_all())[-1]["code"] == "token_expired"


@pytest.mark.parametrize("connect", [consumer, producer], ids=["consumer", "producer"])
async def test_a_fresh_token_lets_a_connection_outlive_the_first(
    guarded: Gateway, clock: Clock, connect: Callable[..., Any]
) -> None:
    async with connect(guarded, token=token(lifetime=60, **STREAM)) as it:
        if connect is consumer:
            await it.read_until("caught_up")
        assert await renew(it, token(lifetime=120.5, **STREAM)) in (
            {"type": "token_accepted", "expires_in": seconds} for seconds in (119, 120)
        )
        clock.now += 61
        bad = await renew(it, "bad")  # answered, and so the connection is there
        assert (bad["type"], bad["code"]) == ("problem", "invalid_token")
        clock.now += 60
        assert (await it.read_all())[-1]["code"] == "token_expired"


@pytest.mark.parametrize("held", ["bad", "a.b.c", sign({"exp": 1}), sign({"exp": 10**30}), token(x=["*"])])
@pytest.mark.hears(ProblemCode.INVALID_TOKEN)
async def test_a_bad_token_changes_nothing(guarded: Gateway, held: str) -> None:
    async with consumer(guarded, token=token(**STREAM, signal=["demo"])) as reading:
        await reading.read_until("caught_up")
        answer = await renew(reading, held)
        assert (answer["type"], answer["code"], answer["retryable"]) == ("problem", "invalid_token", False)
        assert held not in answer["message"]
        await reading.say({"type": "signal", "name": "cancel"})
        assert (await reading.read())["type"] == "signal_result"


@pytest.mark.parametrize(
    ("connect", "query", "allowed"),
    [
        (consumer, "", {"subscribe": ["other"]}),
        (consumer, "", {}),
        (consumer, "policy=block", {"subscribe": ["*"], "policies": ["coalesce"]}),
        (producer, "", {"subscribe": ["*"]}),
    ],
)
async def test_a_token_with_fewer_rights_ends_what_it_does_not_allow(
    guarded: Gateway, connect: Callable[..., Any], query: str, allowed: dict[str, Any]
) -> None:
    async with connect(guarded, query, token=everything()) as it:
        await it.say({"type": "token", "token": token(**allowed)})
        messages = await it.read_all()
        assert messages[-1]["code"] == "forbidden"
        assert "token_accepted" not in types_of(messages)
        assert it.code == 4503


async def test_a_policy_that_was_not_asked_for_is_nobody_s_choice(guarded: Gateway) -> None:
    async with consumer(guarded, token=everything()) as reading:
        await reading.read_until("caught_up")
        assert (await renew(reading, token(subscribe=["*"], policies=["block"])))["type"] == "token_accepted"


async def test_tokens_of_producers_stand_alone_and_are_limited(start_gateway: StartGateway, tmp_path: Path) -> None:
    guarded = await start_gateway(auth_key=write_secret(tmp_path), signal_rate=1e-3)
    async with producer(guarded, token=everything()) as writing:
        await writing.say([{"type": "token", "token": everything()}])
        assert (await writing.read())["code"] == "invalid_event"
        for _ in range(4):
            await writing.say({"type": "token", "token": everything()})
        messages = await writing.read_all()
        assert types_of(messages) == ["token_accepted", "problem"]
        assert (messages[-1]["code"], writing.code) == ("rate_limited", 4002)
