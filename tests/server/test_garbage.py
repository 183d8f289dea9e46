"""What connections leave when they are gone: nothing that takes the garbage collector to find."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from deltawire.gateway.server.connection.connection import GatewayConnection
from tests.support.certificates import make_certificates
from tests.support.tlspeer import make_hello
from tests.support.waiting import eventually

REQUEST = (
    b"GET %b HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: ZGVsdGF3aXJlIGJlbmNoIQ==\r\n\r\n"
)
SUBSCRIBE = REQUEST % b"/v1/streams/s/subscribe"
CLOSE = b"\x88\x82\0\0\0\0\x03\xe8"
MALFORMED = b"\xff\x80\0\0\0\0"


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Nothing is collected until the test is over."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def connections() -> int:
    """Connections that are still in memory; proxies of theirs do not count."""
    return sum(type(it) is GatewayConnection for it in gc.get_objects())


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(
    ("request_", "farewell"),
    [
        (SUBSCRIBE, b""),
        (SUBSCRIBE, CLOSE),
        (SUBSCRIBE, MALFORMED),
        (REQUEST % b"/v1/streams/s/publish", CLOSE),
        (REQUEST % b"/v1/streams/s/subscribe?policy=none", CLOSE),
        (REQUEST % b"/nowhere", b""),
        (b"GET /livez HTTP/1.1\r\nHost: gateway\r\n\r\n", b""),
        (b"no request\r\n\r\n", b""),
    ],
    ids=["hangs up", "closes", "breaks the protocol", "producer", "bad parameter", "refused", "HTTP", "unreadable"],
)
async def test_a_connection_that_is_gone_leaves_nothing_to_the_collector(request_: bytes, farewell: bytes) -> None:
    before = connections()
    async with Gateway(Settings(port=0)) as gateway:
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(request_)
            await reader.readuntil(b"\r\n\r\n")
            writer.write(farewell)
            if farewell:
                await reader.read()
            writer.close()
            await writer.wait_closed()
        await eventually(lambda: connections() == before, "that nothing of it is left")


async def wait_dropped(peer: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    try:
        while await loop.sock_recv(peer, 65536):
            pass
    except ConnectionError:
        pass


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("is_dropped", [False, True], ids=["leaves", "is dropped"])
@pytest.mark.parametrize("said", ["nothing", "half a hello", "a hello", "no hello"])
async def test_a_handshake_of_tls_that_fails_leaves_nothing_to_the_collector(
    tmp_path: Path, said: str, *, is_dropped: bool
) -> None:
    certificates = make_certificates(tmp_path)
    hello = make_hello(certificates.context())
    sent = {"nothing": b"", "half a hello": hello[:100], "a hello": hello, "no hello": b"GET / HTTP/1.1\r\n\r\n"}[said]
    before = connections()
    async with Gateway(
        Settings(port=0, tls_cert=certificates.settings["tls_cert"], tls_key=certificates.settings["tls_key"])
    ) as gateway:
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", gateway.port)) as it:
                it.setblocking(False)
                await asyncio.get_running_loop().sock_sendall(it, sent)
                if said == "no hello":
                    await wait_dropped(it)
                    continue
                await eventually(lambda: len(gateway._handshakes), "that it is known")
                if is_dropped:
                    gateway._handshakes.sweep(gateway.hub.now() + gateway.settings.handshake_timeout + 1)
                    await wait_dropped(it)
            await eventually(lambda: not len(gateway._handshakes), "that it is gone")
        await eventually(lambda: connections() == before, "that nothing of it is left")
