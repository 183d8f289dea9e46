"""How many connections there may be: each limit at the cap, one over it, and after somebody has left."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from deltawire.gateway.server.accepting.handshakes import GRACE, TICK
from deltawire.gateway.server.accepting.limits import Counts, Limits
from deltawire.protocol.codes import CloseCode, ProblemCode
from tests.server.conftest import StartGateway
from tests.support.minting import claims, sign, write_secret
from tests.support.peers import consumer, peer, producer, publish, text_delta, types_of
from tests.support.rawpeer import HANDSHAKE, RawPeer, raw_peer
from tests.support.waiting import eventually

SUBSCRIBE = "/v1/streams/demo/subscribe"


async def ask(gateway: Gateway, path: str = SUBSCRIBE, headers: str = "") -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer to a handshake."""
    it = await RawPeer.connect(gateway.port)
    try:
        head = (await it.upgrade(path, headers)).decode()
        status, *lines = head.split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines)
        body = b"" if " 101 " in status else await it.read_rest()
        return int(status.split(" ")[1]), fields, body
    finally:
        it.close()


async def refused(gateway: Gateway, status: int, setting: str, path: str = SUBSCRIBE, headers: str = "") -> None:
    """One more is refused, in words that name the setting, and told when to come again."""
    answered, fields, body = await ask(gateway, path, headers)
    assert answered == status, body
    assert fields["content-type"] == "application/problem+json"
    assert int(fields["retry-after"]) >= 1
    assert f"({setting}" in json.loads(body)["detail"] or setting in json.loads(body)["detail"]


async def everybody_left(gateway: Gateway) -> None:
    await eventually(
        lambda: gateway._limits.is_unused and not len(gateway._handshakes), "that every place is given back"
    )


@pytest.mark.parametrize(("setting", "status"), [("max_connections", 503), ("max_connections_per_address", 429)])
async def test_one_connection_more_than_the_limit_is_refused_until_one_has_left(
    start_gateway: StartGateway, setting: str, status: int
) -> None:
    gateway = await start_gateway(**{setting: 3})
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(consumer(gateway))
        writing = await stack.enter_async_context(producer(gateway))
        leaving = await stack.enter_async_context(consumer(gateway))
        for _ in range(5):
            await refused(gateway, status, setting)
        await publish(writing, text_delta("unharmed"), upto=1)
        assert (await first.read_until("text_delta"))[-1]["seq"] == 1
        await leaving.connection.close()
        await eventually(lambda: gateway._limits.connections == 2)
        again = await stack.enter_async_context(consumer(gateway))
        assert (await again.read())["type"] == "subscribed"
    await everybody_left(gateway)


async def test_a_gateway_that_is_full_still_answers_probes(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(max_connections=1)
    async with consumer(gateway):
        for path in ("/livez", "/readyz", "/healthz", "/metrics"):
            it = await RawPeer.connect(gateway.port)
            for piece in (f"GET {path} HT", "TP/1.1\r\n", "Host: x\r\n\r\n"):
                await it.send(piece.encode())
            assert (await it.read_head()).startswith(b"HTTP/1.1 200"), path
            it.close()
        await refused(gateway, 503, "max_connections", "/v1/streams")
    await everybody_left(gateway)


async def test_an_address_that_connects_too_often_is_told_when_to_come_again(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(connection_rate=0.5, connection_burst=2)
    now = gateway.hub.now()
    gateway._handshakes._now = lambda: now
    async with consumer(gateway) as reader, producer(gateway) as writing:
        for _ in range(20):
            await refused(gateway, 429, "connection_rate")
        assert int((await ask(gateway))[1]["retry-after"]) == 2
        now += 2
        assert (await ask(gateway))[0] == 101
        await refused(gateway, 429, "connection_rate")
        await publish(writing, text_delta("unharmed"), upto=1)
        assert (await reader.read_until("text_delta"))[-1]["seq"] == 1
    await everybody_left(gateway)


async def test_the_holder_of_one_token_more_than_the_limit_is_refused_and_no_other(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    gateway = await start_gateway(max_connections_per_token=1, auth_key=write_secret(tmp_path))
    ann, bob = (
        f"Authorization: Bearer {sign(claims(subscribe=['*']) | {'sub': subject})}\r\n" for subject in ("ann", "bob")
    )
    async with raw_peer(gateway.port, SUBSCRIBE, headers=ann):
        await refused(gateway, 429, "max_connections_per_token", headers=ann)
        async with raw_peer(gateway.port, SUBSCRIBE, headers=bob):
            assert gateway._limits.connections == 2
    await everybody_left(gateway)
    async with raw_peer(gateway.port, SUBSCRIBE, headers=ann):
        assert gateway._limits.connections == 1


async def test_peers_behind_a_trusted_proxy_are_counted_by_what_it_says(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(max_connections_per_address=1, trusted_proxies="127.0.0.1")
    one, other = "X-Forwarded-For: 192.0.2.1\r\n", "X-Forwarded-For: 192.0.2.1, 192.0.2.2\r\n"
    async with raw_peer(gateway.port, SUBSCRIBE, headers=one), raw_peer(gateway.port, SUBSCRIBE, headers=other):
        await refused(gateway, 429, "max_connections_per_address", headers=one)
        await refused(gateway, 429, "max_connections_per_address", headers=other)
        async with raw_peer(gateway.port, SUBSCRIBE, headers="X-Forwarded-For: 192.0.2.3\r\n"):
            assert gateway._limits.connections == 3
    await everybody_left(gateway)


async def test_nobody_else_is_believed(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(max_connections_per_address=1, trusted_proxies="192.0.2.0/24")
    async with raw_peer(gateway.port, SUBSCRIBE):
        await refused(gateway, 429, "max_connections_per_address", headers="X-Forwarded-For: 192.0.2.77\r\n")


# Handshakes


async def test_for_one_handshake_too_many_the_oldest_is_dropped(
    start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await start_gateway(max_handshakes=10)
    monkeypatch.setattr(gateway._handshakes, "_tick_later", lambda: None)  # time goes on by hand
    dripping = [await RawPeer.connect(gateway.port) for _ in range(10)]
    for it in dripping:
        await it.send(b"GET /v1")
    await eventually(lambda: len(gateway._handshakes) == 10)
    async with consumer(gateway) as reader:
        assert (await reader.read())["type"] == "subscribed"
    assert len(gateway._handshakes) == 10, "none had its second yet"
    gateway._handshakes._tick += round(GRACE / TICK)
    async with consumer(gateway) as reader:
        assert (await reader.read())["type"] == "subscribed"
    assert await dripping[0].read_rest() == b""
    assert len(gateway._handshakes) == 9
    for it in dripping:
        it.close()
    await everybody_left(gateway)


async def test_500_dripping_sockets_keep_nobody_out_and_are_dropped_in_time(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(max_handshakes=100)
    async with consumer(gateway) as reader, producer(gateway) as writing:
        dripping = [await RawPeer.connect(gateway.port) for _ in range(500)]
        for number, it in enumerate(dripping):
            await it.send(HANDSHAKE[: 10 + number % 20].encode())
        for seq in range(1, 51):
            await publish(writing, text_delta("x"), upto=seq)
            if seq % 10 == 0:
                async with consumer(gateway) as late:
                    assert (await late.read())["type"] == "subscribed"
        assert (await reader.read_until("text_delta", seq=50))[-1]["seq"] == 50
        assert len(gateway._handshakes)
        gateway._handshakes.sweep(gateway.hub.now() + gateway.settings.handshake_timeout + 1)
        await eventually(lambda: not len(gateway._handshakes), "that all are dropped")
        for it in dripping:
            it.close()
    await everybody_left(gateway)


@pytest.mark.parametrize("sent", [b"", b"GET", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n", b"nonsense\r\n\r\n"])
async def test_whatever_becomes_of_a_handshake_its_place_is_given_back(gateway: Gateway, sent: bytes) -> None:
    it = await RawPeer.connect(gateway.port)
    await it.send(sent)
    await eventually(lambda: gateway._limits.connections or sent.endswith(b"\n\r\n"))
    it.close()
    await everybody_left(gateway)


async def test_a_refused_socket_that_never_asks_is_dropped_in_time(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(max_connections=1)
    async with consumer(gateway):
        it = await RawPeer.connect(gateway.port)
        await eventually(lambda: len(gateway._handshakes) == 1)
        gateway._handshakes.sweep(gateway.hub.now() + gateway.settings.handshake_timeout + 1)
        assert await it.read_rest() == b""
        it.close()
    await everybody_left(gateway)


async def test_a_request_without_an_end_to_a_full_gateway_is_refused(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(max_connections=1)
    async with consumer(gateway):
        it = await RawPeer.connect(gateway.port)
        await it.send(b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000)
        assert (await it.read_head()).startswith(b"HTTP/1.1 503")
        it.close()


# Streams and their peers


@pytest.mark.parametrize("setting", ["max_consumers", "max_producers", "max_streams"])
@pytest.mark.hears(ProblemCode.OVERLOADED, CloseCode.OVERLOADED)
async def test_one_too_many_on_streams_is_a_problem_that_names_the_setting(
    start_gateway: StartGateway, setting: str
) -> None:
    gateway = await start_gateway(**{setting: 1})
    side = "publish" if setting == "max_producers" else "subscribe"
    other = "another" if setting == "max_streams" else "demo"
    async with peer(gateway, f"demo/{side}") as first:
        await first.read()
        async with peer(gateway, f"{other}/{side}") as more:
            messages = await more.read_all()
        assert types_of(messages) == ["problem"]
        assert messages[0]["code"] == "overloaded"
        assert messages[0]["retryable"] is True
        assert setting in messages[0]["message"]
        assert more.code == 4003
        assert first.code is None
    await eventually(lambda: all(info.consumers + info.producers == 0 for info in gateway.hub.list_info()))
    async with peer(gateway, f"{other}/{side}") as again:
        assert (await again.read())["type"] in ("subscribed", "ready")


async def test_put_of_one_stream_too_many_is_503(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(max_streams=1)
    async with consumer(gateway):
        it = await RawPeer.connect(gateway.port)
        await it.send(b"PUT /v1/streams/more HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await it.read_head()
        assert head.startswith(b"HTTP/1.1 503")
        assert b"Retry-After: " in head
        assert "max_streams (1)" in json.loads(await it.read_rest())["detail"]
        it.close()


# The counters themselves


class Coming(RuleBasedStateMachine):
    """Connections that come, are refused at any step, and leave, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.limits = Limits(
            Settings(
                max_connections=6,
                max_connections_per_address=3,
                max_connections_per_token=2,
                connection_rate=1.0,
                connection_burst=8,
            )
        )
        self.addresses: dict[int, str] = {}
        self.tokens: dict[int, str] = {}
        self.number = 0

    @rule(address=st.sampled_from("abc"), token=st.sampled_from(["", "t", "u"]))
    def come(self, address: str, token: str) -> None:
        self.number += 1
        if (
            self.limits.come(self.number)
            or self.limits.identify(self.number, address, self.now)
            or self.limits.authenticate(self.number, token)
        ):
            self.limits.leave(self.number)
        else:
            self.addresses[self.number], self.tokens[self.number] = address, token

    @rule(pick=st.integers(0, 9))
    def leave(self, pick: int) -> None:
        if self.addresses:
            number = list(self.addresses)[pick % len(self.addresses)]
            for _ in range(2):
                self.limits.leave(number)
            del self.addresses[number], self.tokens[number]

    @rule()
    def wait(self) -> None:
        self.now += 3.0

    @invariant()
    def counts_are_those_of_who_is_there(self) -> None:
        assert self.limits.connections == len(self.addresses) <= 6
        assert self.limits.is_unused == (not self.addresses)
        assert all(count <= 3 for count in Counter(self.addresses.values()).values())
        assert all(count <= 2 for token, count in Counter(self.tokens.values()).items() if token)


TestComing = Coming.TestCase


def test_counts_of_nobody_take_no_memory() -> None:
    counts = Counts()
    for number in range(100):
        assert counts.take(number, ("address", number), 1)
        assert not counts.take(f"another of {number}", ("address", number), 1)
        counts.give_back(number)
    assert (len(counts), counts._held) == (0, {})
