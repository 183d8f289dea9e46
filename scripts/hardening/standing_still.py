"""Attacks by doing nothing: readers that stop, and one that is stopped."""

from __future__ import annotations

import asyncio
import signal
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator

from scripts.bench.wire import request
from scripts.hardening import answers
from scripts.hardening.attack import STREAM, Target, attack
from scripts.hardening.frames import delta
from scripts.hardening.guarded import BLOCK_TIMEOUT, SEND_TIMEOUT
from scripts.hardening.hostile import PATIENCE
from scripts.proof.children import Children

SMALL_BUFFER = 4096
"""Bytes of SO_RCVBUF: full after a few events of the neighbours."""

AFTERWARDS = 1.5
"""Seconds more than it takes until a gateway gives up on a reader that stands still."""

_READER = """
import socket, sys
sock = socket.socket()
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
sock.connect(("127.0.0.1", int(sys.argv[1])))
sock.sendall(sys.argv[2].encode())
try:
    while data := sock.recv(65536):
        print(len(data), flush=True)
except ConnectionError:
    pass
"""


async def _stand_still(target: Target, policy: str) -> str:
    """Follow the neighbours' stream, read nothing for as long as it takes, then everything there is."""
    async with target.upgraded(
        f"{STREAM}/subscribe?from=now&buffer=50&policy={policy}", target.reader, buffer=SMALL_BUFFER
    ) as it:
        await asyncio.sleep(SEND_TIMEOUT + 2 * AFTERWARDS)  # some, until what lies in between is full
        return await it.read_ending()


@attack("a reader that stops: coalesce", answers.DROPPED, is_repeated=False)
async def coalesce(target: Target) -> AsyncIterator[str]:
    """Nobody waits for it."""
    yield await _stand_still(target, "coalesce")


@attack("a reader that stops: drop_oldest", answers.DROPPED, is_repeated=False)
async def drop_oldest(target: Target) -> AsyncIterator[str]:
    """As with the others."""
    yield await _stand_still(target, "drop_oldest")


@attack("a reader that stops: drop_newest", answers.DROPPED, is_repeated=False)
async def drop_newest(target: Target) -> AsyncIterator[str]:
    """As with the others."""
    yield await _stand_still(target, "drop_newest")


@attack("a reader that stops: disconnect", "close 4000", answers.DROPPED, is_repeated=False)
async def disconnect(target: Target) -> AsyncIterator[str]:
    """It is told, if it reads again while its socket is there."""
    yield await _stand_still(target, "disconnect")


@attack("a reader of server-sent events that stops", answers.DROPPED, is_repeated=False)
async def event_stream(target: Target) -> AsyncIterator[str]:
    """It is a consumer like the others."""
    path = f"/v1/streams/{STREAM}/sse?from=now&buffer=50"
    asked = f"GET {path} HTTP/1.1\r\nAuthorization: Bearer {target.reader}\r\n\r\n".encode()
    async with target.hostile(receive_buffer=SMALL_BUFFER) as it:
        if (status := await it.ask(asked)) != 200:
            yield answers.of_status(status)
            return
        await asyncio.sleep(SEND_TIMEOUT + 2 * AFTERWARDS)
        body = await it.read_rest()
        yield answers.SERVED if body.endswith(b"0\r\n\r\n") else answers.DROPPED


@attack("a reader that may not hold up, and asks to", "close 4503")
async def not_allowed(target: Target) -> AsyncIterator[str]:
    """`block` is what a token has to allow."""
    async with target.upgraded(f"{STREAM}/subscribe?policy=block", target.reader) as it:
        yield await it.read_ending()


@attack("a reader that stops: block", "close 4000", answers.DROPPED, is_repeated=False)
async def block(target: Target) -> AsyncIterator[str]:
    """It holds the producer of its own stream up, for a while."""
    name = target.name()
    async with (
        target.upgraded(f"{name}/publish") as writing,
        target.upgraded(f"{name}/subscribe?policy=block&buffer=10", buffer=SMALL_BUFFER) as reading,
    ):
        sending = asyncio.create_task(writing.send(delta("x" * 1000) * 2000))
        await asyncio.sleep(BLOCK_TIMEOUT + SEND_TIMEOUT + AFTERWARDS)
        yield await reading.read_ending()
        await sending


@attack("a reader that takes a byte at a time", "close 4000", answers.DROPPED, answers.SERVED, is_repeated=False)
async def bytewise(target: Target) -> AsyncIterator[str]:
    """It is alive, and always behind."""
    async with target.upgraded(f"{STREAM}/subscribe?from=now&buffer=50", target.reader, buffer=SMALL_BUFFER) as it:
        for _ in range(70):
            await asyncio.sleep(0.05)
            if not await it.take(1):
                yield answers.DROPPED
                return
        yield answers.SERVED


@attack("a reader that is stopped (SIGSTOP)", answers.DROPPED, is_repeated=False)
async def stopped(target: Target) -> AsyncIterator[str]:
    """Its process goes on when the gateway has given it up."""
    path = f"/v1/streams/{STREAM}/subscribe?from=now"
    asked = request(path, target.port, token=target.reader).decode()
    async with Children() as children:
        process = await children.start("-c", _READER, str(target.port), asked, stdout=PIPE)
        assert process.stdout is not None, "it was asked for"
        async with asyncio.timeout(PATIENCE):
            for _ in range(3):
                await process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(SEND_TIMEOUT + 2 * AFTERWARDS)
        process.send_signal(signal.SIGCONT)
        async with asyncio.timeout(PATIENCE):
            while await process.stdout.readline():
                pass
            yield answers.DROPPED if await process.wait() == 0 else "failed"


ATTACKS = (coalesce, drop_oldest, drop_newest, disconnect, event_stream, not_allowed, block, bytewise, stopped)
