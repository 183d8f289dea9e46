"""Any bytes in place of a request end in a documented status, or in silence; nothing fails inside (SPEC §2.3)."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from scripts.hardening.answers import STATUSES
from tests.support.minting import everything, token, unsigned, write_secret
from tests.support.rawpeer import RawPeer
from tests.support.soaking import lasting

ORIGIN = "https://app.example.org"
TOKENS = [
    everything(),
    everything(-60),
    token(subscribe=["demo"]),
    unsigned({"exp": 1}),
    "e30.e30.",
    "..",
    "x" * 9000,
    "\u00e9",
]
GOOD = (TOKENS[0], TOKENS[2])

odd = st.one_of(
    st.text(max_size=20),
    st.text(st.characters(max_codepoint=255), max_size=20),
    st.sampled_from(["", " ", "*", ",", "%", "%00", "%FF", "\x00", "\t", "=", "a" * 9000]),
)
tokens = st.one_of(st.sampled_from(TOKENS), odd)
authorizations = st.one_of(
    tokens.map("Bearer {}".format),
    tokens.map(lambda it: f"Basic {base64.b64encode(f'u:{it}'.encode()).decode()}"),
    tokens.map("Basic {}".format),
    odd,
)
subprotocols = st.lists(
    st.one_of(
        st.sampled_from(["deltawire.v1.json", "deltawire.v1.msgpack", "deltawire.v2.json", "deltawire.bearer."]),
        tokens.map("deltawire.bearer.{}".format),
        odd,
    ),
    max_size=4,
).map(", ".join)
origins = st.one_of(st.sampled_from([ORIGIN, "null", ORIGIN.upper(), f"{ORIGIN}.evil", ""]), odd)
usual = st.sampled_from(
    [
        ("Host", "g"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ]
)
others = st.one_of(
    st.tuples(st.just("Authorization"), authorizations),
    st.tuples(st.just("Origin"), origins),
    st.tuples(st.just("Last-Event-ID"), st.one_of(st.sampled_from(["e.0", "e.1", ".1", "1"]), odd)),
    st.tuples(st.just("Sec-WebSocket-Protocol"), subprotocols),
    st.tuples(st.just("Sec-WebSocket-Extensions"), st.one_of(st.just("permessage-deflate"), odd)),
    st.tuples(st.sampled_from(["Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version"]), odd),
    st.tuples(st.sampled_from(["Content-Length", "Transfer-Encoding", "Expect", "X-Forwarded-For", "Cookie"]), odd),
    st.tuples(odd, odd),
)
COMPLETE = [
    ("Host", "g"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
]
headers = st.one_of(
    st.lists(st.one_of(usual, others), max_size=10), st.lists(others, max_size=4).map(lambda more: COMPLETE + more)
)
methods = st.sampled_from(["GET", "GET", "GET", "PUT", "DELETE", "POST", "HEAD", "OPTIONS", "get", "CONNECT", ""])
queries = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "from=start",
                "stream=true",
                "wait=1",
                "after=1",
                "policy=block",
                "producer=p",
                "generation=1",
                "types=usage",
                "&",
            ]
        ),
        tokens.map("access_token={}".format),
        odd,
    ),
    max_size=4,
).map("&".join)
paths = st.one_of(
    st.builds(
        "/v1/streams/{}{}".format,
        st.one_of(st.just("demo"), odd),
        st.sampled_from(["", "/events", "/sse", "/ui-message-stream"]),
    ),
    st.builds("/v1/responses/{}{}".format, st.one_of(st.just("demo"), odd), st.sampled_from(["", "/cancel"])),
    st.builds("/v1/streams/{}/{}".format, st.one_of(st.just("demo"), odd), st.sampled_from(["subscribe", "publish"])),
    st.sampled_from(["/", "*", "/livez", "/readyz", "/metrics", "/v1/schema.json", "/v1/streams", "http://g/livez"]),
    odd,
)


def _write(method: str, path: str, query: str, fields: list[tuple[str, str]], version: str) -> bytes:
    target = f"{path}?{query}" if query else path
    lines = [f"{method} {target} {version}", *(f"{name}: {value}" for name, value in fields), "", ""]
    return "\r\n".join(lines).encode()


requests = st.builds(
    _write, methods, paths, queries, headers, st.sampled_from(["HTTP/1.1"] * 8 + ["HTTP/1.0", "HTTP/2.0", "", "\x00"])
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A request with some bytes put in, taken out, or doubled; or none at all."""
    data = draw(st.one_of(requests, requests, requests, st.binary(max_size=300)))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data)))
        size = draw(st.integers(0, 8))
        data = data[:at] + draw(st.binary(max_size=4)) + data[at + draw(st.sampled_from((0, size))) :]
    return data


class Fuzzed:
    """Two gateways that last for all examples: one asks for tokens, one does not."""

    def __init__(self, runner: asyncio.Runner, gateways: tuple[Gateway, Gateway]) -> None:
        self._runner = runner
        self.gateways = gateways

    def ask(self, data: bytes) -> list[bytes]:
        """What each says to these bytes, until it hangs up."""
        return self._runner.run(self._ask(data))

    async def _ask(self, data: bytes) -> list[bytes]:
        said = []
        for gateway in self.gateways:
            it = await RawPeer.connect(gateway.port)
            await it.send(data)
            it.finish_sending()
            said.append(await it.read_rest())
            it.close()
        return said


@asynccontextmanager
async def _gateways(folder: Path) -> AsyncIterator[tuple[Gateway, Gateway]]:
    wanted: dict[str, Any] = {"port": 0, "drain_timeout": 0.05, "connection_rate": 0, "allowed_origins": ORIGIN}
    key = write_secret(folder)
    async with (
        Gateway(Settings(**wanted)) as without,
        Gateway(Settings(**wanted, auth_key=key, auth_query_token=True)) as guarded,
    ):
        yield without, guarded


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        gateways = _gateways(tmp_path_factory.mktemp("keys"))
        yield Fuzzed(runner, runner.run(gateways.__aenter__()))
        runner.run(gateways.__aexit__(None, None, None))


@given(data=mutated())
@settings(max_examples=lasting(100, 2000))
def test_any_bytes_are_answered_with_a_documented_status_or_not_at_all(fuzzed: Fuzzed, data: bytes) -> None:
    with structlog.testing.capture_logs() as logs:
        said = fuzzed.ask(data)
    for answer in said:
        if answer:
            line, _, rest = answer.partition(b"\r\n")
            version, status, _ = line.split(b" ", 2)
            assert version == b"HTTP/1.1"
            assert int(status) in STATUSES, answer
            assert b"\r\n\r\n" in rest
            if int(status) >= 400:
                assert b"application/problem+json" in rest
    assert [gateway.hub.tally.faults for gateway in fuzzed.gateways] == [0, 0]
    assert [entry for entry in logs if entry["log_level"] in ("error", "critical")] == []


@given(fields=st.lists(others, max_size=4), query=queries)
@settings(max_examples=lasting(100, 2000))
def test_without_a_token_that_verifies_nobody_gets_in(
    fuzzed: Fuzzed, fields: list[tuple[str, str]], query: str
) -> None:
    data = _write("GET", "/v1/streams/demo/subscribe", query, COMPLETE + fields, "HTTP/1.1")
    _, said = fuzzed.ask(data)
    if b" 101 " in said.partition(b"\r\n")[0]:
        assert any(good.encode() in data or base64.b64encode(f"u:{good}".encode()) in data for good in GOOD)
