"""A gateway whose keys are at a URL, over real sockets (SPEC §11.1, §11.4)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from websockets.exceptions import InvalidStatus

from deltawire.gateway.server import Gateway
from tests.server.conftest import StartGateway
from tests.support.minting import claims, sign
from tests.support.peers import consumer
from tests.support.serving import listening
from tests.support.waiting import DEADLINE

KEYS = {name: ed25519.Ed25519PrivateKey.generate() for name in ("old", "new")}


def token(name: str) -> str:
    return sign(claims(subscribe=["*"]), KEYS[name], "EdDSA", {"kid": name})


class Provider:
    """Serves the keys it is told to, or nothing."""

    def __init__(self) -> None:
        self.names: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        public = [
            json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(KEYS[name].public_key())) | {"kid": name}
            for name in self.names
        ]
        body = json.dumps({"keys": public}).encode()
        status = "200 OK" if public else "503 Service Unavailable"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)


@pytest.fixture
async def provider(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Provider, str]]:
    """A provider, and where its keys are; there is no rest between two fetches."""
    monkeypatch.setattr("deltawire.gateway.access.jwks.RemoteKeys.__init__.__defaults__", (None, 0.0, 600.0))
    it = Provider()
    async with listening(it.serve) as port:
        yield it, f"http://127.0.0.1:{port}/jwks"


async def admitted(gateway: Gateway, name: str) -> int:
    """The status a consumer with a token of a key is answered with."""
    try:
        async with consumer(gateway, token=token(name)) as it:
            assert (await it.read())["type"] == "subscribed"
            return 101
    except InvalidStatus as error:
        return error.response.status_code


async def test_before_there_are_keys_it_is_503_and_then_it_is_not(
    start_gateway: StartGateway, provider: tuple[Provider, str]
) -> None:
    owner, url = provider
    gateway = await start_gateway(auth_jwks_url=url)
    assert await admitted(gateway, "old") == 503
    owner.names = ["old"]
    async with asyncio.timeout(DEADLINE):
        while await admitted(gateway, "old") != 101:
            pass


async def test_a_key_that_is_new_is_fetched_for_who_shows_it(
    start_gateway: StartGateway, provider: tuple[Provider, str]
) -> None:
    owner, url = provider
    owner.names = ["old"]
    gateway = await start_gateway(auth_jwks_url=url)
    assert await admitted(gateway, "new") == 401
    async with consumer(gateway, token=token("old")) as reading:
        await reading.read_until("caught_up")
        owner.names = ["old", "new"]
        await reading.say({"type": "token", "token": token("new")})
        answer = await reading.read()
        while answer.get("code") == "invalid_token":  # the fetch before was not over
            await reading.say({"type": "token", "token": token("new")})
            answer = await reading.read()
        assert answer["type"] == "token_accepted"
    assert await admitted(gateway, "new") == 101


async def test_a_token_of_nobody_on_a_connection_is_refused_after_a_look(
    start_gateway: StartGateway, provider: tuple[Provider, str]
) -> None:
    owner, url = provider
    owner.names = ["old"]
    gateway = await start_gateway(auth_jwks_url=url)
    async with consumer(gateway, token=token("old")) as reading:
        await reading.read_until("caught_up")
        await reading.say({"type": "token", "token": token("new")})
        assert (await reading.read())["code"] == "invalid_token"
        await reading.say({"type": "token", "token": token("old")})
        assert (await reading.read())["type"] == "token_accepted"
