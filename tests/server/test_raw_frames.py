"""Any input ends in a documented code, never in 1011, a traceback or a hang (SPEC §8)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from deltawire.protocol.codes import CloseCode, ProblemCode
from deltawire.protocol.events import TextDelta
from tests.server.conftest import StartGateway
from tests.support.peers import consumer, text_delta
from tests.support.rawpeer import BINARY, CLOSE, HANDSHAKE, KEY, PING, PONG, TEXT, RawPeer, frame, raw_peer, text
from tests.support.waiting import eventually

MIB = 1024 * 1024
GREETING = {"subscribe": "caught_up", "publish": "ready"}
SIDES = tuple(GREETING)


@asynccontextmanager
async def undisturbed(gateway: Gateway) -> AsyncIterator[None]:
    """A neighbour reads another stream meanwhile, and must not notice anything; nor may anything fail inside."""
    with structlog.testing.capture_logs() as logs:
        async with consumer(gateway, stream="neighbour") as neighbour:
            await neighbour.read_until("caught_up")
            yield
            gateway.hub.get("neighbour").send_nowait(TextDelta("alive"))
            assert (await neighbour.read())["data"] == {"text": "alive"}
    assert [entry for entry in logs if entry["log_level"] in ("error", "critical")] == []


def half(opcode: int, payload: bytes) -> bytes:
    """The first fragment of a message."""
    return frame(opcode, payload, first=opcode)


def more(payload: bytes) -> bytes:
    """A fragment that neither begins nor ends a message."""
    return frame(0, payload, first=0)


def last(payload: bytes) -> bytes:
    """The last fragment of a message."""
    return frame(0, payload)


BREAKS: dict[str, tuple[bytes, int]] = {
    "an unmasked frame": (frame(TEXT, b"{}", masked=False), 1002),
    "a reserved bit": (frame(TEXT, b"{}", first=0xC1), 1002),
    "all reserved bits": (frame(TEXT, b"{}", first=0xF1), 1002),
    "a reserved data opcode": (frame(3, b"x"), 1002),
    "a reserved control opcode": (frame(11, b"x"), 1002),
    "a continuation of nothing": (last(b"x"), 1002),
    "a new message inside a fragmented one": (half(TEXT, b"{") + frame(TEXT, b"{}"), 1002),
    "a fragmented ping": (frame(PING, b"x", first=PING), 1002),
    "a long ping": (frame(PING, b"x" * 126), 1002),
    "a length over 63 bits": (b"\x81\xff" + b"\xff" * 8 + KEY, 1009),
    "a length of 2^62": (b"\x81\xff\x40" + b"\0" * 7 + KEY, 1009),
    "more than 1 MiB": (frame(TEXT, b"x" * (MIB + 1)), 1009),
    "more than 1 MiB in fragments": (half(TEXT, b"x" * MIB) + last(b"x"), 1009),
    "a close with one byte": (frame(CLOSE, b"\x03"), 1002),
    "a close with code 0": (frame(CLOSE, b"\0\0"), 1002),
    "a close with code 1005": (frame(CLOSE, b"\x03\xed"), 1002),
    "a close with code 65535": (frame(CLOSE, b"\xff\xff"), 1002),
    "a close whose reason is not UTF-8": (frame(CLOSE, b"\x03\xe8\xff\xfe"), 1007),
    "a close inside a message": (half(TEXT, b"{") + frame(CLOSE, b"\x03\xe8"), 1002),
    "an empty close": (frame(CLOSE), 1005),
    "a close with code 4999": (frame(CLOSE, b"\x13\x87bye"), 4999),
}


HEARS = {1002: pytest.mark.hears(CloseCode.PROTOCOL_ERROR), 1007: pytest.mark.hears(CloseCode.INVALID_UTF8)}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("case", [pytest.param(case, marks=HEARS.get(code, ())) for case, (_, code) in BREAKS.items()])
async def test_a_broken_frame_is_closed_with_its_code(gateway: Gateway, side: str, case: str) -> None:
    data, expected = BREAKS[case]
    async with undisturbed(gateway), raw_peer(gateway.port, f"/v1/streams/demo/{side}") as it:
        await it.read_until(GREETING[side])
        await it.send(data)
        messages, code = await it.read_ending()
    assert code == expected
    problems = [message["code"] for message in messages if message["type"] == "problem"]
    assert problems == (["message_too_big"] if expected == 1009 else [])


@pytest.mark.parametrize(
    ("data", "size"),
    [(frame(TEXT, b"x" * (MIB + 5)), MIB + 5), (half(TEXT, b"x" * MIB) + last(b"x" * 7), MIB + 7)],
    ids=["in one piece", "in fragments"],
)
@pytest.mark.hears(ProblemCode.MESSAGE_TOO_BIG, CloseCode.MESSAGE_TOO_BIG)
async def test_a_message_too_big_is_told_its_size_and_the_limit(gateway: Gateway, data: bytes, size: int) -> None:
    async with raw_peer(gateway.port, "/v1/streams/demo/publish") as it:
        await it.read_until("ready")
        await it.send(data)
        messages, _ = await it.read_ending()
    (problem,) = [message["message"] for message in messages if message["type"] == "problem"]
    assert problem == f"the message has {size} bytes or more, and none over {MIB} is read: send smaller ones"


SURVIVED = {
    "fragments with pings between": half(TEXT, b"hel") + frame(PING, b"?") + more(b"l") + last(b"o"),
    "fragments split inside a character": half(TEXT, b"\xc3") + last(b"\xa9"),
    "a hundred empty fragments": half(TEXT, b"") + more(b"") * 100 + last(b"hello"),
    "text that is not UTF-8": frame(TEXT, b'{"type":"\xff\xfe"}'),
    "lone surrogates in UTF-8": frame(TEXT, b'{"type":"\xed\xa0\x80"}'),
    "an empty text": frame(TEXT),
    "an empty binary": frame(BINARY),
    "binary": frame(BINARY, b"\x81\xa4type"),
    "over 64 KiB": frame(TEXT, b"x" * 65537),
    "exactly 1 MiB": frame(TEXT, b"x" * MIB),
    "1 MiB in fragments": half(TEXT, b"x" * (MIB // 2)) + last(b"x" * (MIB // 2)),
    "a null byte": frame(TEXT, b"\0"),
    "a byte order mark": frame(TEXT, b"\xef\xbb\xbf{}"),
    "a deep array": frame(TEXT, b"[" * 60_000),
    "a deep object": frame(TEXT, b'{"a":' * 10_000),
    "a huge number": frame(TEXT, b"9" * 60_000),
    "a batch of 30 000 nothings": frame(TEXT, b"[" + b"0," * 29_999 + b"0]"),
}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("case", SURVIVED)
async def test_a_bad_message_is_a_problem_and_the_connection_stays(gateway: Gateway, side: str, case: str) -> None:
    async with undisturbed(gateway), raw_peer(gateway.port, f"/v1/streams/demo/{side}") as it:
        await it.read_until(GREETING[side])
        await it.send(SURVIVED[case])
        code = None
        while code is None:
            got = await it.read_frame()
            assert got is not None, "the gateway hung up"
            code = json.loads(got.payload).get("code") if got.opcode == TEXT else None
        assert code == {"subscribe": "unknown_message", "publish": "invalid_event"}[side]
        await it.send(frame(PING, b"still there"))
        while got != (PONG, b"still there"):
            got = await it.read_frame()
            assert got is not None, "the gateway hung up"


async def test_control_frames_between_fragments_are_answered_and_the_event_arrives(gateway: Gateway) -> None:
    payload = json.dumps(text_delta("whole")).encode()
    async with raw_peer(gateway.port, "/v1/streams/demo/publish") as it:
        await it.read_until("ready")
        await it.send(half(TEXT, payload[:7]) + frame(PING, b"1") + frame(PONG, b"?") + last(payload[7:]))
        assert await it.read_frame() == (PONG, b"1")
        assert (await it.read_until("ack"))[-1]["seq"] == 1


async def test_frames_come_byte_by_byte(gateway: Gateway) -> None:
    async with raw_peer(gateway.port, "/v1/streams/demo/publish") as it:
        await it.read_until("ready")
        for byte in text(text_delta("slow")):
            await it.send(bytes((byte,)))
        assert (await it.read_until("ack"))[-1]["seq"] == 1


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 1000,
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"POST /v1/streams HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        b"POST /v1/streams HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /v1/streams/é HTTP/1.1\r\n\r\n".encode(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xaa" * 300,
    ],
    ids=lambda data: repr(data[:24]),
)
async def test_garbage_in_place_of_a_handshake_is_refused_or_hung_up_on(gateway: Gateway, data: bytes) -> None:
    async with undisturbed(gateway):
        it = await RawPeer.connect(gateway.port)
        await it.send(data)
        it.finish_sending()
        answer = await it.read_rest()
        it.close()
    assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505")), answer


async def test_half_a_handshake_is_dropped_in_time(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(handshake_timeout=0.1)
    it = await RawPeer.connect(gateway.port)
    await it.send(b"GET /v1/streams/demo/subscribe HTTP/1.1\r\nHost: x\r\nUpgr")
    assert await it.read_rest() == b""
    it.close()


async def test_events_sent_before_the_handshake_is_answered_end_the_connection(gateway: Gateway) -> None:
    async with undisturbed(gateway):
        it = await RawPeer.connect(gateway.port)
        handshake = HANDSHAKE.format(path="/v1/streams/demo/publish", headers="").encode()
        await it.send(handshake + text(text_delta("hasty")) * 40)
        await it.read_rest()
        it.close()
        await eventually(lambda: len(gateway._connections) == 1)
    assert [info.head for info in gateway.hub.list_info() if info.id == "demo"] in ([], [0])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["type", "data", "text", "seq", "name", "index"]) | st.text(), inner, max_size=4
        )
    ),
    max_leaves=20,
)
known_messages = st.sampled_from([text_delta("x"), [text_delta("x"), 5], {"type": "signal", "name": "cancel"}])
some_payloads = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=100).map(str.encode),
    (json_values | known_messages).map(lambda value: json.dumps(value).encode()),
)
some_frames = st.one_of(
    st.tuples(st.sampled_from([TEXT, BINARY]), some_payloads).map(lambda it: frame(*it)),
    st.tuples(st.integers(0, 255), st.binary(max_size=130)).map(lambda it: frame(0, it[1], first=it[0])),
    st.binary(max_size=40),
)


def echoed_codes(sent: list[bytes]) -> set[int]:
    """Codes a peer may have said goodbye with, which the gateway gives back (RFC 6455 §5.5.1)."""
    data = b"".join(sent)
    return {int.from_bytes(data[at : at + 2]) ^ int.from_bytes(KEY[:2]) for at in range(len(data))}


@given(side=st.sampled_from(SIDES), sent=st.lists(some_frames, max_size=12))
def test_invariant_9_any_frames_end_in_a_documented_code(side: str, sent: list[bytes]) -> None:
    async def play() -> tuple[list[dict[str, Any]], int | None]:
        async with (
            Gateway(Settings(port=0, drain_timeout=0.05)) as gateway,
            undisturbed(gateway),
            raw_peer(gateway.port, f"/v1/streams/demo/{side}") as it,
        ):
            await it.send(b"".join(sent))
            it.finish_sending()
            return await it.read_ending()

    messages, code = asyncio.run(play())
    assert code in {None, 1000, 1002, 1005, 1007, 1009} | echoed_codes(sent)
    codes = {message["code"] for message in messages if message["type"] == "problem"}
    assert codes <= {"invalid_event", "unknown_message", "message_too_big"}
