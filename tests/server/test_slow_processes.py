"""Every policy with a reader in a process of its own that really stops (SIGSTOP), or takes one byte at a time."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from deltawire.gateway.server import Gateway
from deltawire.gateway.server.connection import sending
from deltawire.protocol.messages import Policy
from tests.server.conftest import StartGateway
from tests.support.peers import Message, producer, publish, text_delta
from tests.support.rawpeer import HANDSHAKE
from tests.support.waiting import DEADLINE, eventually

READER = """
import socket, sys
port, size, request = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
sock = socket.socket()
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
sock.connect(("127.0.0.1", port))
sock.sendall(request.encode())
data = b"?"
while data:
    try:
        data = sock.recv(size, socket.MSG_DONTWAIT)
    except BlockingIOError:
        sys.stdout.buffer.flush()  # not for each byte, which would wake the test as often
        data = sock.recv(size)
    sys.stdout.buffer.write(data)
"""

EVENTS = 150
PADDING = "." * 2_000


class Reader:
    """A process that reads a stream, and what came of it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.data = b""

    async def read_until(self, mark: bytes) -> None:
        """Take what the process read until something in it."""
        assert self.process.stdout is not None
        async with asyncio.timeout(3 * DEADLINE):
            while mark not in self.data:
                data = await self.process.stdout.read(65536)
                assert data, f"the gateway hung up before {mark!r}: {self.data[-300:]!r}"
                self.data += data

    def messages(self) -> list[Message]:
        """The messages that came whole."""
        rest = self.data.split(b"\r\n\r\n", 1)[1]
        found = []
        while len(rest) > 1:
            length, start = rest[1], 2
            if length == 126:
                length, start = int.from_bytes(rest[2:4]), 4
            elif length == 127:
                length, start = int.from_bytes(rest[2:10]), 10
            if rest[0] == 0x81 and len(rest) >= start + length:
                found.append(json.loads(rest[start : start + length]))
            rest = rest[start + length :]
        return found


@asynccontextmanager
async def reader(gateway: Gateway, query: str, size: int) -> AsyncIterator[Reader]:
    request = HANDSHAKE.format(path=f"/v1/streams/demo/subscribe?{query}", headers="")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", READER, str(gateway.port), str(size), request), stdout=asyncio.subprocess.PIPE
    )
    try:
        it = Reader(process)
        await it.read_until(b"caught_up")
        yield it
    finally:
        process.kill()
        await process.communicate()


def check(messages: list[Message], policy: Policy) -> None:
    """Each event came, folded or not, or is named in a gap; once, in order; only what the policy allows is missing."""
    position, text = 0, ""
    for message in messages:
        if message["type"] in ("subscribed", "caught_up"):
            continue
        if message["type"] == "problem":
            assert (policy, message["code"]) == (Policy.DISCONNECT, "slow_consumer")
            assert message["resume_after"] == position
            return
        assert message.get("first", message["seq"]) == position + 1 or message["type"] == "stream_end"
        position = message["seq"]
        if message["type"] == "gap":
            assert policy in (Policy.DROP_NEWEST, Policy.DROP_OLDEST)
            assert (message["reason"], position <= EVENTS) == ("dropped", True)
        elif message["type"] == "text_delta":
            text += message["data"]["text"]
            assert "first" not in message or policy is Policy.COALESCE
    assert messages[-2]["type"] == "message_stop", "what is no delta always arrives"
    assert messages[-1] == {"type": "stream_end", "seq": EVENTS + 1, "reason": "closed"}
    if policy not in (Policy.DROP_NEWEST, Policy.DROP_OLDEST):
        assert text.replace(PADDING, "") == "".join(f"{number};" for number in range(EVENTS))


def answer() -> list[dict[str, Any]]:
    stop = {"type": "message_stop", "data": {"message_id": "m", "stop_reason": "end_turn"}}
    return [*(text_delta(f"{number};{PADDING}") for number in range(EVENTS)), stop]


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that gets no share of the machine for a while is not one that does not answer the close."""
    monkeypatch.setattr(sending, "CLOSE_TIMEOUT", 2 * DEADLINE)


@pytest.mark.parametrize("policy", Policy)
async def test_a_reader_that_is_stopped_and_goes_on_gets_what_its_policy_promises(
    start_gateway: StartGateway, policy: Policy
) -> None:
    gateway = await start_gateway()
    async with reader(gateway, f"policy={policy}&buffer=20", 65536) as slow, producer(gateway) as writing:
        slow.process.send_signal(signal.SIGSTOP)
        publishing = asyncio.create_task(publish(writing, *answer(), upto=EVENTS + 1))
        stream = gateway.hub.manager.get("demo")
        if policy is Policy.BLOCK:
            await eventually(lambda: not stream.has_room)
            assert not publishing.done()
        else:
            await publishing
        slow.process.send_signal(signal.SIGCONT)
        await publishing
        gateway.hub.close("demo")
        await slow.read_until(b"slow_consumer" if policy is Policy.DISCONNECT else b"stream_end")
        await slow.read_until(b"}\x88")  # the close frame follows the last message
        check(slow.messages(), policy)
        if policy in (Policy.DROP_NEWEST, Policy.DROP_OLDEST):
            assert any(message["type"] == "gap" for message in slow.messages())


@pytest.mark.parametrize("policy", Policy)
async def test_a_reader_that_takes_a_byte_at_a_time_gets_what_its_policy_promises(
    start_gateway: StartGateway, policy: Policy
) -> None:
    gateway = await start_gateway()
    async with reader(gateway, f"policy={policy}&buffer=20", 1) as slow, producer(gateway) as writing:

        async def publish_and_close() -> None:
            await publish(writing, *answer(), upto=EVENTS + 1)
            gateway.hub.close("demo")

        # A reader whose output nobody takes stops, and holds up whoever waits for it.
        await asyncio.gather(publish_and_close(), slow.read_until(b"}\x88"))
        check(slow.messages(), policy)
