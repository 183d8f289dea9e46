"""The servers of tests end with all their connections, whatever stage these are in, and hide no error."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest

from tests.support.certificates import make_certificates
from tests.support.fakes import FakeGateway
from tests.support.rawpeer import RawPeer
from tests.support.serving import connected, listening, pass_on
from tests.support.waiting import eventually


async def wait_for_ever(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "with TLS"])
def tls(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext | None:
    if not request.param:
        return None
    files = make_certificates(tmp_path_factory.mktemp("certificates"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.cert, files.key)
    return context


@pytest.mark.parametrize("turns", range(6))
async def test_a_connection_ends_with_the_server_however_far_it_is(tls: ssl.SSLContext | None, turns: int) -> None:
    """In the queue of the system, accepted without a task that has begun, in the TLS handshake, or being served."""
    async with listening(wait_for_ever, tls=tls) as port:
        client = socket.create_connection(("127.0.0.1", port))  # takes no turn of the event loop
        for _ in range(turns):
            await asyncio.sleep(0)
    client.setblocking(False)
    peer = RawPeer(client)
    assert await peer.read_rest() == b""
    peer.close()


async def test_a_connection_that_was_accepted_just_now_ends_with_a_scripted_gateway() -> None:
    async with FakeGateway() as gateway:
        client = socket.create_connection(("127.0.0.1", int(gateway.url.rpartition(":")[2])))
        await asyncio.sleep(0)
    client.setblocking(False)
    peer = RawPeer(client)
    assert await peer.read_rest() == b""
    peer.close()


async def test_a_handler_is_cancelled_and_awaited() -> None:
    begun = asyncio.Event()
    ended = False

    async def answer(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        nonlocal ended
        begun.set()
        try:
            await reader.read()
        finally:
            await asyncio.sleep(0)
            ended = True

    async with listening(answer) as port:
        peer = await RawPeer.connect(port)
        await begun.wait()
    assert ended
    peer.close()


async def test_a_connection_is_closed_when_the_handler_returns() -> None:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"all")

    async with listening(answer) as port:
        peer = await RawPeer.connect(port)
        assert await peer.read_rest() == b"all"
        peer.close()


async def test_what_a_client_leaves_unread_does_not_keep_the_server() -> None:
    written = asyncio.Event()

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(1 << 24))
        written.set()

    async with listening(answer) as port:
        peer = await RawPeer.connect(port)
        await written.wait()
    assert len(await peer.read_rest()) < 1 << 24
    peer.close()


@pytest.mark.parametrize("is_reset", [False, True])
@pytest.mark.parametrize("is_in_group", [False, True])
async def test_a_client_that_hangs_up_is_no_error(*, is_reset: bool, is_in_group: bool) -> None:
    ended = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readexactly(1)
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            ended.set()
            raise (ExceptionGroup("", [error]) if is_in_group else error) from None

    async with listening(answer) as port:
        peer = await RawPeer.connect(port)
        peer.reset() if is_reset else peer.close()
        await ended.wait()


async def test_any_other_error_of_a_handler_is_raised_in_the_end() -> None:
    async def answer(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        raise ValueError("unexpected")

    async def ask() -> None:
        async with listening(answer) as port:
            peer = await RawPeer.connect(port)
            assert await peer.read_rest() == b""
            peer.close()

    with pytest.raises(ValueError, match="unexpected"):
        await ask()


@pytest.mark.parametrize("is_left_early", [False, True])
async def test_what_passes_connections_on_ends_with_both_sides(*, is_left_early: bool) -> None:
    begun = asyncio.Event()
    ends: list[bytes] = []

    async def note(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        ends.append(await reader.readexactly(5))
        begun.set()
        ends.append(await reader.read())

    async with listening(note) as behind:

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            async with connected(behind) as (far, to_far):
                await asyncio.gather(pass_on(reader, to_far), pass_on(far, writer))

        async with listening(relay) as port:
            peer = await RawPeer.connect(port)
            await peer.send(b"hello")
            await begun.wait()
            if is_left_early:
                peer.close()
                await eventually(lambda: ends == [b"hello", b""])
        await eventually(lambda: ends == [b"hello", b""])
    peer.close()
