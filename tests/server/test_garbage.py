"""What connections leave when they are gone: nothing that takes the garbage collector to find."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest

from gateway.config import Settings
from gateway.server import Gateway
from gateway.server.connection import GatewayConnection
from tests.server.waiting import eventually

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
