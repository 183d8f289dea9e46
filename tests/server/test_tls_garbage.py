"""What handshakes of TLS leave when they failed: nothing that takes the garbage collector to find.

`serve` makes full collections so rare (`gateway.cli.collector`) that what they would find is as good as never freed.
"""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.config import Settings
from gateway.server import Gateway
from gateway.server.connection import GatewayConnection
from tests.certificates import make_certificates
from tests.server.tlspeer import make_hello
from tests.server.waiting import eventually


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Nothing is collected until the test is over."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def connections() -> int:
    return sum(type(it) is GatewayConnection for it in gc.get_objects())


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
                await eventually(lambda: len(gateway._door), "that it is known")
                if is_dropped:
                    gateway._door.sweep(gateway.hub.now() + gateway.settings.handshake_timeout + 1)
                    await wait_dropped(it)
            await eventually(lambda: not len(gateway._door), "that it is gone")
        await eventually(lambda: connections() == before, "that nothing of it is left")
