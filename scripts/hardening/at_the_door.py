"""Attacks before the upgrade: origins, tokens, permissions, handshakes."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator

from scripts.hardening.answers import DROPPED
from scripts.hardening.attack import STREAM, Target, attack

ORIGIN = "https://app.example.org"
"""The one that is allowed."""

SUBSCRIBE = f"/v1/streams/{STREAM}/subscribe"

HALF_OPEN = 500
DRIP_INTERVAL = 0.5
OPEN_INTERVAL = 0.004
"""Seconds between two sockets."""

ATTEMPTS_A_MINUTE = 10_000


@attack("pages of other sites", "403")
async def origins(target: Target) -> AsyncIterator[str]:
    """Origins that are nearly, but not to the letter, the one that is allowed."""
    for origin in (
        "https://evil.example",
        "null",
        f"{ORIGIN}.evil.example",
        f"{ORIGIN}:444",
        f"{ORIGIN}/",
        ORIGIN.upper(),
        ORIGIN.replace("https", "http"),
        f"{ORIGIN}\r\nOrigin: {ORIGIN}",
    ):
        yield await target.upgrade(SUBSCRIBE, target.everything, f"Origin: {origin}\r\n")


@attack("tokens in wrong places", "401")
async def places(target: Target) -> AsyncIterator[str]:
    """A good token where it is not taken from, twice, or none."""
    token = target.everything
    basic = base64.b64encode(token.encode()).decode()
    yield await target.upgrade(SUBSCRIBE)
    yield await target.upgrade(f"{SUBSCRIBE}?access_token={token}")
    yield await target.upgrade(f"{SUBSCRIBE}?%61ccess_token={token}", token)
    for headers in (
        f"Authorization: Digest {token}\r\n",
        f"Authorization: Basic {basic}\r\n",
        f"Authorization: {token}\r\n",
        "Authorization: Bearer\r\n",
        f"Cookie: access_token={token}\r\n",
        f"Authorization: Bearer {token}\r\nAuthorization: Bearer {token}\r\n",
        f"Authorization: Bearer {token}\r\nSec-WebSocket-Protocol: deltawire.v1.json, deltawire.bearer.{token}\r\n",
    ):
        yield await target.upgrade(SUBSCRIBE, headers=headers)


@attack("forged tokens", "401")
async def forged(target: Target) -> AsyncIterator[str]:
    """`alg` none and confused, claims that are missing or huge, signatures of others, nesting."""
    for token in target.mint.forgeries():
        yield await target.upgrade(SUBSCRIBE, token)


@attack("streams the token does not name", "403", "404")
async def scope(target: Target) -> AsyncIterator[str]:
    """Paths that a check and a look-up might read differently."""
    token = target.mint.token(subscribe=["mine-*", "mine"], publish=["mine-*"], admin=["mine-*"])
    for name in (
        STREAM,
        STREAM.upper(),
        f"mine/../{STREAM}",
        f"mine-%2F..%2F{STREAM}/../../{STREAM}",
        f"..%2F{STREAM}",
        "%6Eeighbours",
        "%256Eeighbours",
        "neighbours%00mine-",
        "neighbours%3Fmine-",
        "%EF%BD%8Dine-",
        f"{STREAM};mine-",
        "*",
        "%2A",
        "",
    ):
        for action in ("subscribe", "publish"):
            yield await target.upgrade(f"/v1/streams/{name}/{action}", token)
        for method, rest in (("GET", ""), ("GET", "/events"), ("PUT", ""), ("DELETE", "")):
            asked = f"{method} /v1/streams/{name}{rest} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {token}\r\n\r\n"
            if name:
                yield await target.ask(asked.encode())


@attack("is there such a stream?", "401", "403")
async def oracle(target: Target) -> AsyncIterator[str]:
    """Whole answers for a stream that exists and for one that does not, which must be the same bytes."""
    stranger = target.mint.token(subscribe=["mine-*"], publish=["mine-*"], admin=["mine-*"], signal=["*"])
    for token in ("", stranger):
        auth = f"Authorization: Bearer {token}\r\n" if token else ""
        for request in (f"{method} /v1/streams/{{}}" for method in ("GET", "PUT", "DELETE")):
            told = {
                await _whole_answer(target, f"{request.format(name)} HTTP/1.1\r\nHost: g\r\n{auth}\r\n")
                for name in (STREAM, "nobody-has-this-name")
            }
            (status,) = {answer[0] for answer in told}
            yield str(status) if len(told) == 1 else "told apart"


async def _whole_answer(target: Target, request: str) -> tuple[int, bytes]:
    async with target.hostile() as it:
        return await it.ask(request.encode()), await it.read_rest()


@attack("no handshakes", "400", "404", "405", "414", "426", "431", "401", DROPPED)
async def garbage(target: Target) -> AsyncIterator[str]:
    """What is no WebSocket handshake, or none that ends."""
    for data in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"EHLO gateway\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: g\r\nContent-Length: 100000\r\n\r\n",
        b"POST /v1/streams HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"GET / HTTP/1.1\r\nX: \xff\x00\r\n\r\n",
        b"\0" * 5000 + b"\r\n\r\n",
        f"GET {SUBSCRIBE} HTTP/1.1\r\nHost: g\r\n\r\n".encode(),
        f"OPTIONS {SUBSCRIBE} HTTP/1.1\r\nHost: g\r\n\r\n".encode(),
    ):
        yield await target.ask(data)


@attack("bodies that are none", "400", "411", "413", "415", "501", DROPPED)
async def bodies(target: Target) -> AsyncIterator[str]:
    """Requests that publish, with bodies cut short, mislabelled, too long, or of the smallest chunks."""
    lines, chunked = "application/x-ndjson", "Transfer-Encoding: chunked"
    for kind, fields, body in (
        (lines, "X: y", b""),
        (lines, "Content-Length: 5\r\nContent-Length: 6", b"hello"),
        (lines, f"Content-Length: 5\r\n{chunked}", b"0\r\n\r\n"),
        (lines, "Content-Length: 1e9", b"hello"),
        (lines, "Transfer-Encoding: gzip", b"hello"),
        (lines, "Content-Length: 9999999999", b"\0" * 200_000),
        (lines, chunked, b"ffffffffffff\r\n" + b"x" * 200_000),
        (lines, chunked, b"no size\r\n"),
        (lines, chunked, b"1\r\nx\r\n" * 100_000),
        (lines, chunked, b"1\r\n\n\r\n" * 100_000 + b"x\r\n"),
        (lines, chunked, b"0\r\n" + b"X: y\r\n" * 10_000),
        ("application/json", chunked, b"3;" + b"x" * 10_000),
        ("application/json", "Content-Length: 100000", b"[" * 100_000),
        ("text/html", "Content-Length: 5", b"hello"),
    ):
        head = f"POST /v1/streams/{target.name()}/events HTTP/1.1\r\nAuthorization: Bearer {target.everything}\r\n"
        yield await target.ask(f"{head}Content-Type: {kind}\r\n{fields}\r\n\r\n".encode() + body)


@attack(f"{HALF_OPEN} half-open handshakes", DROPPED, is_repeated=False)
async def dripping(target: Target) -> AsyncIterator[str]:
    """Requests that come a byte at a time, and never end; each socket comes and drips by itself."""
    async with asyncio.TaskGroup() as tasks:
        sockets = [tasks.create_task(_drip(target, number * OPEN_INTERVAL)) for number in range(HALF_OPEN)]
    for it in sockets:
        yield it.result()


async def _drip(target: Target, delay: float) -> str:
    await asyncio.sleep(delay)
    async with target.hostile() as it:
        ending = asyncio.create_task(it.read_rest())
        for letter in SUBSCRIBE * 2:
            await it.send(letter.encode())
            done, _ = await asyncio.wait([ending], timeout=DRIP_INTERVAL)
            if done:
                break
        return DROPPED if await ending == b"" else "answered"


@attack("500 connections in one moment", "401", is_repeated=False)
async def burst(target: Target) -> AsyncIterator[str]:
    """As when a network comes back."""
    for answer in await asyncio.gather(*(target.upgrade(SUBSCRIBE) for _ in range(500))):
        yield answer


@attack(f"{ATTEMPTS_A_MINUTE:,} connections a minute", "401", "429")
async def connections(target: Target) -> AsyncIterator[str]:
    """Attempts of one address at a steady rate."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number in range(200):
        await asyncio.sleep(began + number * 60 / ATTEMPTS_A_MINUTE - loop.time())
        yield await target.upgrade(SUBSCRIBE, number=0)


ATTACKS = (origins, places, forged, scope, oracle, garbage, bodies, dripping, burst, connections)
