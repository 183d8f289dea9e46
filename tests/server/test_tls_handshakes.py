"""Handshakes of TLS take up what other sockets do: they are counted, dropped and timed out as those (SPEC §2.3)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
from pathlib import Path
from typing import Any

import pytest

from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from deltawire.gateway.server.accepting.handshakes import TICK, TLS_GRACE
from tests.server.conftest import StartGateway
from tests.support.certificates import Certificates, make_certificates
from tests.support.rawpeer import HANDSHAKE, RawPeer
from tests.support.tlspeer import TlsPeer, make_hello
from tests.support.waiting import eventually

SUBSCRIBE = HANDSHAKE.format(path="/v1/streams/demo/subscribe", headers="").encode()
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: gateway\r\n\r\n"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


async def everybody_left(gateway: Gateway) -> None:
    await eventually(
        lambda: gateway._limits.is_unused and not len(gateway._handshakes), "that every place is given back"
    )


async def ask(gateway: Gateway, context: ssl.SSLContext, request: bytes) -> bytes:
    """The answer to a request over TLS, until the gateway hangs up or has upgraded."""
    it = await TlsPeer.connect(gateway.port, context)
    try:
        await it.shake_hands(then=request)
        await it.read_until(b"caught_up")
        return it.data
    finally:
        it.close()


def sent_by(who: str, context: ssl.SSLContext) -> bytes:
    hello = make_hello(context)
    return {"nothing": b"", "half a hello": hello[: len(hello) // 2], "a hello": hello}[who]


@pytest.mark.parametrize("who", ["nothing", "half a hello", "a hello"])
async def test_500_sockets_that_get_no_further_keep_nobody_out_and_are_dropped_in_time(
    start_gateway: StartGateway, certificates: Certificates, who: str
) -> None:
    gateway = await start_gateway(**certificates.settings, max_handshakes=100)
    context = certificates.context()
    sent = sent_by(who, context)
    lingering = [await RawPeer.connect(gateway.port) for _ in range(500)]
    for it in lingering:
        await it.send(sent)
    await eventually(lambda: len(gateway._handshakes) >= 100, "that they are known")
    for _ in range(3):
        assert b"caught_up" in await ask(gateway, context, SUBSCRIBE)
    gateway._handshakes.sweep(gateway.hub.now() + gateway.settings.handshake_timeout + 1)
    await eventually(lambda: not len(gateway._handshakes), "that all are dropped")
    for it in lingering:
        rest = await it.read_rest()
        assert rest == b"" or (who == "a hello" and rest.startswith(b"\x16\x03")), "closed without a word"
        it.close()
    await everybody_left(gateway)


async def test_for_one_handshake_too_many_the_oldest_is_dropped(
    start_gateway: StartGateway, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await start_gateway(**certificates.settings, max_handshakes=10)
    monkeypatch.setattr(gateway._handshakes, "_tick_later", lambda: None)  # time goes on by hand
    silent = [await RawPeer.connect(gateway.port) for _ in range(10)]
    await eventually(lambda: len(gateway._handshakes) == 10)
    assert b"caught_up" in await ask(gateway, certificates.context(), SUBSCRIBE)
    assert len(gateway._handshakes) == 10, "none had its time yet"
    gateway._handshakes._tick += round(TLS_GRACE / TICK)
    assert b"caught_up" in await ask(gateway, certificates.context(), SUBSCRIBE)
    assert await silent[0].read_rest() == b""
    assert len(gateway._handshakes) == 9
    for it in silent:
        it.close()
    await everybody_left(gateway)


async def test_of_a_crowd_that_came_at_once_only_the_limit_is_left_when_its_grace_is_over(
    start_gateway: StartGateway, certificates: Certificates
) -> None:
    gateway = await start_gateway(**certificates.settings, max_handshakes=10, handshake_timeout=60.0)
    silent = [await RawPeer.connect(gateway.port) for _ in range(50)]
    await eventually(lambda: len(gateway._handshakes) == 50)
    gateway._handshakes._tick += round(TLS_GRACE / TICK)
    await eventually(lambda: len(gateway._handshakes) == 10, "that the limit holds")
    for it in silent[:40]:
        assert await it.read_rest() == b"", "the oldest went"
    assert len(gateway._handshakes) == 10
    for it in silent:
        it.close()
    await everybody_left(gateway)


async def test_who_has_not_shaken_hands_is_a_connection_all_the_same(
    start_gateway: StartGateway, certificates: Certificates
) -> None:
    gateway = await start_gateway(**certificates.settings, max_connections=3)
    context = certificates.context()
    silent = [await RawPeer.connect(gateway.port) for _ in range(3)]
    await eventually(lambda: gateway._limits.connections == 3)
    head, _, body = (await ask(gateway, context, SUBSCRIBE)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: " in head
    assert "max_connections" in json.loads(body)["detail"]
    assert (await ask(gateway, context, LIVEZ)).endswith(b'{"status":"ok"}\n')
    for it in silent:
        it.close()
    await everybody_left(gateway)
    assert b"caught_up" in await ask(gateway, context, SUBSCRIBE)
    await everybody_left(gateway)


async def test_who_has_not_shaken_hands_is_seen_in_the_metrics(
    start_gateway: StartGateway, certificates: Certificates
) -> None:
    gateway = await start_gateway(**certificates.settings)
    silent = [await RawPeer.connect(gateway.port) for _ in range(3)]
    await eventually(lambda: gateway._limits.connections == 3)
    said = await ask(gateway, certificates.context(), b"GET /metrics HTTP/1.1\r\nHost: gateway\r\n\r\n")
    assert b'\ndeltawire_connections{role="handshake"} 4.0\n' in said, "they, and who asks"
    for it in silent:
        it.close()


async def test_the_rate_of_an_address_counts_before_hands_are_shaken(
    start_gateway: StartGateway, certificates: Certificates
) -> None:
    gateway = await start_gateway(**certificates.settings, connection_rate=0.01, connection_burst=2)
    silent = [await RawPeer.connect(gateway.port) for _ in range(2)]
    await eventually(lambda: gateway._limits.connections == 2)
    assert (await ask(gateway, certificates.context(), SUBSCRIBE)).startswith(b"HTTP/1.1 429 ")
    for it in silent:
        it.close()
    await everybody_left(gateway)


async def test_what_comes_together_with_the_end_of_the_handshake_is_heard(
    start_gateway: StartGateway, certificates: Certificates
) -> None:
    gateway = await start_gateway(**certificates.settings)
    for request, answer in ((LIVEZ, b'{"status":"ok"}\n'), (SUBSCRIBE, b"caught_up")):
        it = await TlsPeer.connect(gateway.port, certificates.context())
        await it.shake_hands(then=request)  # in one piece
        await it.read_until(answer)
        assert answer in it.data
        it.close()
    await everybody_left(gateway)


async def test_a_handshake_may_come_byte_by_byte(start_gateway: StartGateway, certificates: Certificates) -> None:
    gateway = await start_gateway(**certificates.settings)
    context = certificates.context()
    it = await RawPeer.connect(gateway.port)
    for byte in make_hello(context):
        await it.send(bytes((byte,)))
    assert (await it._read(1)) == b"\x16", "it is answered"
    it.close()
    await everybody_left(gateway)


def reset(it: RawPeer) -> None:
    it.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    it.close()


@pytest.mark.parametrize("leave", [RawPeer.close, RawPeer.finish_sending, reset], ids=["close", "half-close", "reset"])
@pytest.mark.parametrize("who", ["nothing", "half a hello", "a hello", "plain HTTP", "garbage"])
async def test_whatever_becomes_of_a_handshake_its_place_is_given_back_and_nothing_is_logged(  # noqa: PLR0917
    start_gateway: StartGateway,
    certificates: Certificates,
    who: str,
    leave: object,
    caplog: pytest.LogCaptureFixture,
    logs: list[dict[str, object]],
) -> None:
    gateway = await start_gateway(**certificates.settings)
    sent = {"plain HTTP": LIVEZ, "garbage": b"\x16\x03\x01" + b"\xff" * 4000}.get(who)
    it = await RawPeer.connect(gateway.port)
    await it.send(sent_by(who, certificates.context()) if sent is None else sent)
    if sent is None:
        await eventually(lambda: gateway._limits.connections == 1)
    else:
        assert (await it.read_rest())[:5].hex() in ("", "1503010002", "1503030002"), "an alert of TLS, or nothing"
    assert callable(leave)
    leave(it)
    await everybody_left(gateway)
    it.close()
    assert not gateway._accepted
    assert not caplog.records
    assert [it for it in logs if it["event"] != "loop.blocked"] == []  # a busy machine blocks it


async def test_a_handshake_that_breaks_off_leaves_no_task(
    start_gateway: StartGateway, certificates: Certificates
) -> None:
    gateway = await start_gateway(**certificates.settings)
    before = asyncio.all_tasks()
    silent = [await RawPeer.connect(gateway.port) for _ in range(20)]
    await eventually(lambda: len(gateway._handshakes) == 20)
    assert asyncio.all_tasks() == before
    await gateway.drain()
    for it in silent:
        assert await it.read_rest() == b""
        it.close()
    assert not len(gateway._handshakes)
    assert gateway._limits.is_unused


@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("has_tls", [False, True])
async def test_a_socket_that_is_accepted_as_the_gateway_ends_is_closed_with_it(
    certificates: Certificates, turns: int, *, has_tls: bool
) -> None:
    """In whichever turn of the loop, which may go on without the gateway."""
    tls: Any = {"tls_cert": certificates.cert, "tls_key": certificates.key} if has_tls else {}
    async with contextlib.AsyncExitStack() as running:
        gateway = await running.enter_async_context(Gateway(Settings(port=0, drain_timeout=0, **tls)))
        address = ("127.0.0.1", gateway.port)
        ending = asyncio.create_task(running.aclose())
        for _ in range(turns):
            await asyncio.sleep(0)
        with socket.socket() as client:
            refusal = client.connect_ex(address)  # takes no turn
            await ending
            if refusal == 0:
                client.setblocking(False)
                assert await RawPeer(client).read_rest() == b""
    await everybody_left(gateway)


async def test_a_peer_whose_certificate_is_of_nobody_known_is_let_go(
    start_gateway: StartGateway, certificates: Certificates, tmp_path: Path
) -> None:
    gateway = await start_gateway(**certificates.settings, tls_client_ca=certificates.ca)
    stranger = make_certificates(tmp_path / "others")
    context = certificates.context()
    context.load_cert_chain(stranger.client_cert, stranger.client_key)
    it = await TlsPeer.connect(gateway.port, context)
    with contextlib.suppress(ssl.SSLError):
        await it.shake_hands(then=LIVEZ)
    assert b"HTTP" not in await it.read_all()
    it.close()
    await everybody_left(gateway)
