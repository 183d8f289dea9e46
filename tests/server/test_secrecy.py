"""What a token does not name might as well not be there: every answer is the same bytes without it (SPEC §11.2).

Two gateways are asked the same: one has streams of which the other knows nothing. Whatever the request, whoever asks:
unless the token allows just that on just those streams, nobody can tell one gateway from the other.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from deltawire.protocol.events import TextDelta
from tests.support.minting import token, write_secret
from tests.support.rawpeer import HANDSHAKE, RawPeer
from tests.support.soaking import lasting

SECRETS = ("demo", "demo2", "Demo", "a:b@c")
STREAMS = (*SECRETS, "mine", "mine-1", "none", "dem")
CANARY = b"what only some may read"

_VARYING = re.compile(
    rb'(?<=Date: )[^\r]+|(?<="epoch":")\w+|\d{4}-\d\d-\d\dT[\d:.]+Z|(?<="bytes":)\d+|(?<=Content-Length: )\d+'
)
"""What is different each time, of streams that may be seen."""

Grants: TypeAlias = dict[str, Any]

entries = st.sampled_from([*STREAMS, *(f"{name}*" for name in STREAMS), "d*", "m*", "*"])
grants = st.fixed_dictionaries(
    {}, optional={action: st.lists(entries, max_size=3) for action in ("publish", "subscribe", "signal", "admin")}
)


class Asking(NamedTuple):
    """A request, and what it takes to be answered.

    Attributes:
        form: the request, with the stream's id and the headers left out.
        actions: any of which allows it.
    """

    form: str
    actions: tuple[str, ...]


_BODY = "Content-Type: application/json\r\nContent-Length: 0\r\n{headers}"


def _plain(method: str, rest: str = "") -> str:
    return f"{method} /v1/streams/{{path}}{rest} HTTP/1.1\r\nHost: g\r\n{{headers}}\r\n"


def _websocket(rest: str) -> str:
    return HANDSHAKE.replace("{path}", f"/v1/streams/{{path}}/{rest}")


ASKED = [
    Asking(_plain("GET"), ("subscribe", "admin")),
    Asking(_plain("GET", "?x"), ("subscribe", "admin")),
    Asking(_plain("PUT"), ("admin",)),
    Asking(_plain("PUT", "?policy=block"), ("admin",)),
    Asking(_plain("DELETE"), ("admin",)),
    Asking(_plain("GET", "/events"), ("subscribe",)),
    Asking(_plain("GET", "/events?after=1"), ("subscribe",)),
    Asking(_plain("GET", "/events?limit=no"), ("subscribe",)),
    Asking(_plain("GET", "/events?wait=1&after=9"), ("subscribe",)),
    Asking(_plain("POST", "/events"), ("publish",)),
    Asking(_plain("POST", "/events?producer="), ("publish",)),
    Asking(_plain("POST", "/events?producer=p").replace("{headers}", _BODY), ("publish",)),
    Asking(_plain("GET").replace("streams", "responses"), ("subscribe",)),
    Asking(_plain("GET", "?stream=true").replace("streams", "responses"), ("subscribe",)),
    Asking(_plain("GET", "/ui-message-stream"), ("subscribe",)),
    Asking(_plain("GET", "/sse"), ("subscribe",)),
    Asking(_plain("GET", "/sse?after=99"), ("subscribe",)),
    Asking(_plain("GET", "/sse?create=false"), ("subscribe",)),
    Asking(_plain("HEAD", "/sse"), ("subscribe",)),
    *(Asking(_plain(method, rest), ()) for method in ("GET", "POST") for rest in ("/", "/..", "/subscribe", "/x")),
    *(
        Asking(_websocket(f"subscribe{query}"), ("subscribe",))
        for query in ("", "?from=now", "?after=1", "?after=99", "?after=1&epoch=e", "?policy=block", "?types=x", "?%")
    ),
    *(
        Asking(_websocket(f"publish{query}"), ("publish",))
        for query in ("", "?producer=p", "?producer=p&generation=3", "?on_full=reject", "?producer=", "?x=1")
    ),
]


def spellings(name: str) -> st.SearchStrategy[str]:
    """A stream's id in a path: letters may be percent-encoded, once."""
    letters = [st.sampled_from([letter, f"%{ord(letter):02x}", f"%{ord(letter):02X}"]) for letter in name]
    return st.tuples(*letters).map("".join)


def allows(allowed: Grants, action: str, stream: str) -> bool:
    """Whether a token allows an action on a stream: SPEC §11.2, word for word."""
    return any(
        stream.startswith(entry[:-1]) if entry.endswith("*") else stream == entry for entry in allowed.get(action, [])
    )


class Worlds:
    """A gateway with secrets, and one without."""

    def __init__(self, runner: asyncio.Runner, with_secrets: Gateway, without: Gateway) -> None:
        self._runner = runner
        self.with_secrets = with_secrets
        self.without = without

    def ask(self, request: str) -> tuple[bytes, bytes]:
        """What each of the two answers."""

        async def both() -> tuple[bytes, bytes]:
            return await _whole_answer(self.with_secrets, request), await _whole_answer(self.without, request)

        return self._runner.run(both())


async def _whole_answer(gateway: Gateway, request: str) -> bytes:
    """Everything that is answered; of what is upgraded the head and the first message. Not when."""
    it = await RawPeer.connect(gateway.port)
    await it.send(request.encode())
    answer = await it.read_head()
    if b" 101 " in answer.partition(b"\r\n")[0]:
        first = await it.read_frame()
        assert first is not None
        answer += first.payload
    elif b"text/event-stream" not in answer:
        answer += b"\r\n\r\n" + await it.read_rest()
    it.close()
    return _VARYING.sub(b"", answer)


@asynccontextmanager
async def _two_gateways(folder: Path) -> AsyncIterator[tuple[Gateway, Gateway]]:
    wanted: dict[str, Any] = {"port": 0, "drain_timeout": 0.05, "auth_key": write_secret(folder), "connection_rate": 0}
    async with Gateway(Settings(**wanted)) as one, Gateway(Settings(**wanted)) as other:
        for name in SECRETS:
            one.hub.get_or_create(name).send_nowait(TextDelta(CANARY.decode()))
        yield one, other


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        gateways = _two_gateways(tmp_path_factory.mktemp("keys"))
        yield Worlds(runner, *runner.run(gateways.__aenter__()))
        runner.run(gateways.__aexit__(None, None, None))


@given(data=st.data(), allowed=grants, asked=st.sampled_from(ASKED), stream=st.sampled_from(STREAMS))
@settings(max_examples=lasting(100, 2000))
def test_who_may_not_do_it_can_not_tell_whether_a_stream_exists(
    worlds: Worlds, data: st.DataObject, allowed: Grants, asked: Asking, stream: str
) -> None:
    path = data.draw(spellings(stream))
    headers = f"Authorization: Bearer {token(**allowed)}\r\n" if data.draw(st.booleans(), "authenticated") else ""
    there, not_there = worlds.ask(asked.form.replace("{path}", path).replace("{headers}", headers))
    may = bool(headers) and any(allows(allowed, action, stream) for action in asked.actions)
    if may:
        assert b" 403 " not in there
    else:
        assert there == not_there
        assert CANARY not in there
        assert there.startswith((b"HTTP/1.1 401", b"HTTP/1.1 403", b"HTTP/1.1 404", b"HTTP/1.1 405", b"HTTP/1.1 426"))


@given(allowed=grants)
def test_lists_and_metrics_are_those_of_a_gateway_without_what_may_not_be_seen(worlds: Worlds, allowed: Grants) -> None:
    headers = f"Authorization: Bearer {token(**allowed)}\r\n"
    there, not_there = worlds.ask(f"GET /v1/streams HTTP/1.1\r\nHost: g\r\n{headers}\r\n")
    listed = set(re.findall(rb'"id":"([^"]+)"', there))
    assert listed - set(re.findall(rb'"id":"([^"]+)"', not_there)) == {
        name.encode() for name in SECRETS if allows(allowed, "subscribe", name) or allows(allowed, "admin", name)
    } - set(re.findall(rb'"id":"([^"]+)"', not_there))
    there, not_there = worlds.ask(f"GET /metrics HTTP/1.1\r\nHost: g\r\n{headers}\r\n")
    if "*" not in allowed.get("admin", []):
        assert there == not_there
        assert there.startswith(b"HTTP/1.1 403")
