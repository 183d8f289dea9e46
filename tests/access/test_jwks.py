"""Keys from a URL: what is trusted, when they are fetched, and what stays when that fails (SPEC §11.1)."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from deltawire.gateway.access import NoKeys
from deltawire.gateway.access.authenticator import Authenticator
from deltawire.gateway.access.jwks import MAX_DOCUMENT, RemoteKeys, check_url, fetch_document
from deltawire.gateway.access.refusals import UnknownKey
from deltawire.gateway.config import ConfigError, Settings
from deltawire.gateway.http_client import NoAnswer
from tests.support.minting import SECRET, base64url, claims, sign
from tests.support.serving import Answer, listening
from tests.support.waiting import eventually

URL = "https://keys.example.org/jwks.json"


class Owner:
    """Somebody who publishes keys, and signs with them."""

    def __init__(self, *names: str) -> None:
        self.keys = {name: ed25519.Ed25519PrivateKey.generate() for name in names}
        self.fetched = 0
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    def document(self) -> bytes:
        keys = [
            json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key())) | {"kid": name}
            for name, key in self.keys.items()
        ]
        return json.dumps({"keys": keys}).encode()

    async def fetch(self, url: str) -> bytes:
        assert url == URL
        self.fetched += 1
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return self.document()

    def add(self, name: str) -> None:
        self.keys[name] = ed25519.Ed25519PrivateKey.generate()

    def token(self, name: str) -> str:
        return sign(claims(subscribe=["*"]), self.keys[name], "EdDSA", {"kid": name})


def authenticator(remote: RemoteKeys) -> Authenticator:
    return Authenticator(Settings(auth_jwks_url=URL), remote=remote)


async def test_an_unknown_key_is_fetched_once_for_all_that_wait() -> None:
    owner = Owner("a")
    async with authenticator(RemoteKeys(URL, owner.fetch, rest=0, max_age=math.inf)) as guard:
        assert (await guard.admit(owner.token("a"))).subject == "tester"
        assert owner.fetched == 1
        await asyncio.sleep(0)
        owner.add("b")
        owner.gate.clear()
        async with asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(guard.admit(owner.token("b"))) for _ in range(20)]
            await asyncio.sleep(0)
            owner.gate.set()
        assert all(task.result().subject == "tester" for task in waiting)
        assert owner.fetched == 2


async def test_invented_key_ids_cause_no_fetch_within_the_rest() -> None:
    owner, stranger = Owner("a"), Owner("x")
    async with authenticator(RemoteKeys(URL, owner.fetch, rest=3600, max_age=math.inf)) as guard:
        for _ in range(50):
            with pytest.raises(UnknownKey):
                await guard.admit(stranger.token("x"))
        assert owner.fetched == 1


async def test_a_key_that_is_withdrawn_is_forgotten_without_being_asked_for() -> None:
    owner = Owner("a", "b")
    remote = RemoteKeys(URL, owner.fetch, rest=0, max_age=0)
    async with authenticator(remote) as guard:
        held = owner.token("b")
        await guard.admit(held)
        del owner.keys["b"]
        seen = owner.fetched
        await eventually(lambda: owner.fetched >= seen + 2, "another fetch")
        with pytest.raises(UnknownKey):
            guard.verify(held)


@pytest.mark.parametrize("failure", [OSError("down"), ValueError("redirected"), TimeoutError()])
async def test_the_last_good_set_stays_while_fetching_fails(failure: Exception) -> None:
    owner = Owner("a")
    remote = RemoteKeys(URL, owner.fetch, rest=0, max_age=math.inf)
    async with authenticator(remote) as guard:
        owner.failure = failure
        await eventually(remote.refresh, "the end of the rest")
        await eventually(lambda: owner.fetched == 2, "a second fetch")
        assert (await guard.admit(owner.token("a"))).subject == "tester"


async def test_before_the_first_set_nobody_can_be_judged_and_fetching_goes_on() -> None:
    owner = Owner("a")
    owner.failure = OSError("down")
    remote = RemoteKeys(URL, owner.fetch, rest=0, max_age=math.inf)
    async with authenticator(remote) as guard:
        with pytest.raises(NoKeys, match="could not be fetched"):
            guard.verify(owner.token("a"))
        owner.failure = None
        await eventually(lambda: remote.keys, "a fetch that succeeds")
        assert guard.verify(owner.token("a")).subject == "tester"


async def test_a_published_secret_is_none() -> None:
    async def fetch(_: str) -> bytes:
        return json.dumps({"keys": [{"kty": "oct", "k": base64url(SECRET)}]}).encode()

    remote = RemoteKeys(URL, fetch, rest=3600)
    async with remote:
        assert remote.keys is None


@pytest.mark.parametrize(
    "url",
    [
        "http://keys.example.org/jwks.json",
        "http://127.0.0.1.example.org/",
        "ftp://127.0.0.1/",
        "https:///jwks",
        "https://user:secret@keys.example.org/",
        "https://keys.example.org/#x",
        "file:///etc/keys",
        "keys.example.org",
        "http://[::1",
        "https://h:99999/",
    ],
)
def test_keys_are_trusted_from_no_such_url(url: str) -> None:
    with pytest.raises(ConfigError, match="auth_jwks_url") as caught:
        check_url(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", [URL, "http://127.0.0.1:80/", "http://[::1]/keys", "http://localhost:8080/jwks?a=b"])
def test_keys_are_trusted_from_https_and_from_loopback(url: str) -> None:
    check_url(url)


@asynccontextmanager
async def serving(answer: bytes | Answer) -> AsyncIterator[str]:
    """A server that gives one answer to everything; its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if isinstance(answer, bytes):
            writer.write(answer)
        else:
            await answer(reader, writer)

    async with listening(serve) as port:
        yield f"http://127.0.0.1:{port}/jwks"


def response(status: str, body: bytes = b"", *headers: str) -> bytes:
    head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}"))
    return f"{head}\r\n".encode() + body


async def test_a_document_is_fetched() -> None:
    async with serving(response("200 OK", b'{"keys":[]}')) as url:
        assert await fetch_document(url) == b'{"keys":[]}'


@pytest.mark.parametrize(
    "answer",
    [
        response("302 Found", b"", "Location: http://127.0.0.1:1/elsewhere"),
        response("404 Not Found", b"{}"),
        response("200 OK", b"x", "Content-Encoding: gzip"),
        response("200 OK", b" " * (MAX_DOCUMENT + 1)),
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{",
    ],
)
async def test_another_answer_is_no_document_and_keeps_the_keys(answer: bytes) -> None:
    async with serving(answer) as url:
        remote = RemoteKeys(url, rest=3600)
        async with remote:
            assert remote.keys is None


async def test_a_slow_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deltawire.gateway.access.jwks.FETCH_TIMEOUT", 0.05)
    given_up = asyncio.Event()

    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        await given_up.wait()

    async with serving(drip) as url:
        with pytest.raises((TimeoutError, NoAnswer)):
            await fetch_document(url)
        given_up.set()
