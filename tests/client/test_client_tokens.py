"""Clients with tokens, against a gateway that asks for them (SPEC §11.1, §11.4)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from deltawire.gateway.client import NotPermitted, Publisher, Refused, Subscriber, TokenUnavailable
from deltawire.gateway.client.backoff import Backoff
from deltawire.gateway.client.tokens import LEAD, PAUSE, Tokens
from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from deltawire.protocol.events import Event, TextDelta
from tests.support.minting import everything, sign, token, write_secret
from tests.support.waiting import eventually

QUICK = Backoff(initial=0.001, longest=0.01)


class Issuer:
    """Gives tokens that are good for a minute of the gateway's clock, which it has in its hands."""

    def __init__(self) -> None:
        self.now = time.time()
        self.given = 0

    def clock(self) -> float:
        return self.now

    def give(self) -> str:
        self.given += 1
        allowed = {"publish": ["*"], "subscribe": ["*"], "signal": ["*"]}
        return sign({"sub": f"token {self.given}", "exp": int(self.now) + 60, "deltawire": allowed})

    async def give_later(self) -> str:
        return self.give()


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
async def gateway(tmp_path: Path, issuer: Issuer) -> AsyncIterator[Gateway]:
    settings = Settings(port=0, drain_timeout=0.05, auth_key=write_secret(tmp_path))
    async with Gateway(settings, clock=issuer.clock) as gateway:
        yield gateway


async def test_a_function_is_asked_again_after_4001_and_nothing_is_lost(gateway: Gateway, issuer: Issuer) -> None:
    reasons: list[str] = []

    def tell(reason: str, _delay: float) -> None:
        reasons.append(reason)

    async with (
        Publisher(gateway.url, "demo", token=issuer.give, on_reconnect=tell, backoff=QUICK) as publisher,
        Subscriber(gateway.url, "demo", token=issuer.give_later, on_reconnect=tell, backoff=QUICK) as subscriber,
    ):
        for text in ("a", "b", "c"):
            await publisher.send(TextDelta(text=text))
            await publisher.flush()
            issuer.now += 61
            await eventually(lambda: not gateway._connections or len(reasons) > 0)
        await publisher.close_stream()
        texts = [item.data.text async for item in subscriber if isinstance(item, Event)]
    assert "".join(texts) == "abc"
    assert {reason.partition(":")[0] for reason in reasons} == {"closed with 4001"}
    assert issuer.given > 2


@pytest.mark.parametrize("kind", [Publisher, Subscriber])
async def test_a_fresh_token_is_sent_before_the_old_one_ends(
    gateway: Gateway, issuer: Issuer, kind: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[float | None] = [0.0, None]  # the first is due at once, the second never
    monkeypatch.setattr("deltawire.gateway.client.tokens.PAUSE", 0.0)
    monkeypatch.setattr("deltawire.gateway.client.tokens._seconds_left", lambda *_: left.pop(0))
    async with Publisher(gateway.url, "demo", token=everything()) as other:
        await other.send(TextDelta(text="a"))
        async with kind(gateway.url, "demo", token=issuer.give) as client:
            if kind is Subscriber:
                frames = client.frames()
                while getattr((await anext(frames)).message, "expires_in", None) is None:
                    pass
            await eventually(lambda: "token 2" in {it.grant.subject for it in gateway._connections})
    assert issuer.given == 2


async def test_a_token_that_ended_on_the_way_is_replaced_and_one_refused_twice_is_told(
    gateway: Gateway, issuer: Issuer
) -> None:
    given = [issuer.give()]
    given += given  # the function has kept it for too long, once
    async with Subscriber(
        gateway.url, "demo", token=lambda: given.pop(0) if given else issuer.give(), backoff=QUICK
    ) as subscriber:
        issuer.now += 61
        await eventually(lambda: not gateway._connections)
        async with Publisher(gateway.url, "demo", token=issuer.give) as publisher:
            await publisher.send(TextDelta(text="a"))
            assert [(await anext(aiter(subscriber))).seq] == [1]
            assert (given, issuer.given) == ([], 3)
            stale = issuer.give()
            given += [stale] * 3
            issuer.now += 61
            await eventually(lambda: not any(it.target.tail == "/subscribe" for it in gateway._connections))
            with pytest.raises(Refused, match="the token has expired"):
                await anext(aiter(subscriber))
            assert given == [stale], "asked for twice"


async def test_text_that_is_refused_is_told_and_not_tried_again(gateway: Gateway) -> None:
    for connecting in (
        Publisher(gateway.url, "demo", token=everything(-1)),
        Subscriber(gateway.url, "demo", token=everything(-1)),
    ):
        with pytest.raises(Refused, match=r"^refused: the token has expired \(HTTP 401\)$"):
            await connecting.__aenter__()
    with pytest.raises(Refused, match="a token is needed"):
        await Subscriber(gateway.url, "demo").__aenter__()
    with pytest.raises(Refused, match="does not allow"):
        await Subscriber(gateway.url, "demo", token=token(publish=["*"])).__aenter__()


@pytest.mark.parametrize("given", [ValueError("the secret of the function"), "", "two words", "line\r\nX-Other: 1", 7])
async def test_a_function_that_gives_no_token_is_told_without_what_it_said(gateway: Gateway, given: Any) -> None:
    def give() -> str:
        if isinstance(given, Exception):
            raise given
        return given  # type: ignore[no-any-return]

    for connecting in (Publisher(gateway.url, "demo", token=give), Subscriber(gateway.url, "demo", token=give)):
        with pytest.raises(TokenUnavailable, match="the token function failed") as caught:
            await connecting.__aenter__()
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "two words", "line\nbreak", "é"])
def test_text_that_can_be_no_token_is_refused_where_it_is_given(text: str) -> None:
    with pytest.raises(ValueError, match="token"):
        Subscriber("ws://127.0.0.1:1", "demo", token=text)


async def test_a_signal_that_is_not_allowed_is_told_and_ends_nothing(gateway: Gateway) -> None:
    async with (
        Publisher(gateway.url, "demo", token=everything()) as publisher,
        Subscriber(gateway.url, "demo", token=token(subscribe=["demo"])) as subscriber,
    ):
        with pytest.raises(NotPermitted, match="does not allow to signal"):
            await subscriber.signal("cancel")
        await publisher.send(TextDelta(text="a"))
        await publisher.close_stream()
        assert [item.seq async for item in subscriber] == [1]


@pytest.mark.parametrize(
    ("left", "wait"), [(3600, 3600 - LEAD), (100, 80), (5, 4), (1, PAUSE), (0, PAUSE), (-100, PAUSE)]
)
async def test_a_token_is_replaced_some_time_before_its_end(
    left: float, wait: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deltawire.gateway.client.tokens._seconds_left", lambda *_: left)
    tokens = Tokens(everything)
    await tokens.take(now=1000)
    assert tokens.renew_at == 1000 + wait


async def test_a_token_that_did_not_change_is_not_sent_again_and_asked_for_later() -> None:
    tokens = Tokens(lambda: "opaque")
    assert await tokens.take(now=0) == "opaque"
    assert tokens.renew_at is None, "when it ends is not known"
    held = everything(600)
    tokens = Tokens(lambda: held)
    await tokens.take(now=0)
    first = tokens.renew_at
    assert first is not None
    assert await tokens.renew(now=first) is None
    assert tokens.renew_at is not None
    assert tokens.renew_at > first


async def test_text_is_never_due() -> None:
    tokens = Tokens(everything())
    await tokens.take(now=0)
    assert tokens.renew_at is None
