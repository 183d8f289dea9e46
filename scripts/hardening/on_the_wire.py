"""Attacks on open connections, frame by frame."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from scripts.hardening import answers, hostile
from scripts.hardening.attack import Target, attack
from scripts.hardening.frames import (
    BAD_TEXT,
    BOMB,
    BROKEN,
    CLOSE,
    FINAL,
    OVERSIZE,
    PING,
    PONG,
    TEXT,
    delta,
    frame,
    text,
)

SIDES = ("subscribe", "publish")


async def _end(target: Target, data: bytes, sides: Sequence[str] = SIDES) -> AsyncIterator[str]:
    """Send this on a connection of each side, and see how it ends."""
    for side in sides:
        async with target.upgraded(f"{target.name()}/{side}") as it:
            sending = asyncio.create_task(it.send(data))
            yield await it.read_ending()
            await sending


@attack("messages that are too long", "close 1009")
async def oversize(target: Target) -> AsyncIterator[str]:
    """More than 1 MiB, in one frame, in two, and only announced, with lengths that overflow."""
    for data in OVERSIZE:
        async for answer in _end(target, data):
            yield answer


@attack("frames that break RFC 6455", "close 1002")
async def broken(target: Target) -> AsyncIterator[str]:
    """Unmasked, with reserved bits and opcodes, fragments of nothing, long pings."""
    for data in BROKEN:
        async for answer in _end(target, data):
            yield answer


@attack("a deflate bomb", "close 1002")
async def bomb(target: Target) -> AsyncIterator[str]:
    """Compression is offered, and used though it was not agreed on."""
    async with target.hostile() as it:
        offered = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
        path = f"/v1/streams/{target.name()}/publish"
        yield "agreed" if await it.upgrade(path, target.everything, offered) != 101 else "close 1002"
        await it.send(BOMB)
        yield await it.read_ending()


@attack("empty fragments without end", "close 4002")
async def fragments(target: Target) -> AsyncIterator[str]:
    """A message that grows by nothing."""
    async for answer in _end(target, frame(TEXT) + frame(0) * 20_000):
        yield answer


@attack("text no event is made of", "problem invalid_event", "problem unknown_message")
async def bad_text(target: Target) -> AsyncIterator[str]:
    """Bad UTF-8, deep nesting, huge integers, infinities, nothing: each is one problem, and the peer stays."""
    for data in BAD_TEXT:
        for side in SIDES:
            async with target.upgraded(f"{target.name()}/{side}") as it:
                await it.send(data)
                yield await it.read_problem()


@attack("a flood of messages", "close 4002")
async def messages(target: Target) -> AsyncIterator[str]:
    """Events at ten times the rate that is allowed."""
    async for answer in _end(target, delta("x") * 20_000, ("publish",)):
        yield answer


@attack("a flood of long messages", "close 1000")
async def long_messages(target: Target) -> AsyncIterator[str]:
    """As many bytes as the gateway takes, below every rate: a turn of its loop reads a little of each socket."""
    async with target.upgraded(f"{target.name()}/publish") as it:
        await it.send(delta("x" * 60_000) * 300)
        await it.send(text({"type": "close_stream"}))
        yield await it.read_ending()


@attack("a flood of pings and pongs", "close 4002")
async def pings(target: Target) -> AsyncIterator[str]:
    """Frames that say nothing, each of which wants an answer or none."""
    for data in (frame(FINAL | PING), frame(FINAL | PONG, b"x" * 125)):
        async for answer in _end(target, data * 10_000):
            yield answer


@attack("a flood of signals", "close 4002")
async def signals(target: Target) -> AsyncIterator[str]:
    """Signals, tokens and nonsense of a consumer."""
    for message in ({"type": "signal", "name": "cancel"}, {"type": "token", "token": "x"}, "nonsense"):
        async for answer in _end(target, text(message) * 1000, ("subscribe",)):
            yield answer


@attack("a token that expires", "close 4001", is_repeated=False)
async def expiry(target: Target) -> AsyncIterator[str]:
    """Somebody stays past the end of the token, and sends bad ones in place of it."""
    for side in SIDES:
        token = target.mint.token(lifetime=2, subscribe=["*"], publish=["*"])
        async with target.upgraded(f"{target.name()}/{side}", token) as it:
            await it.send(text({"type": "token", "token": "not one"}))
            yield await it.read_ending()


_EVIL = "%0D%0A%1B%5B2J%E2%80%A8%C2%85%ED%A0%80%FF"
_REASON = '\x1b[2J\r\n{"level":"error","event":"forged"}\u2028'


@attack("ids that would forge log lines", "close 4502", "close 1000")
async def log_lines(target: Target) -> AsyncIterator[str]:
    """Line ends and escapes in everything a log line may quote; the log is read afterwards."""
    for path in (f"x{_EVIL}/subscribe", f"x/subscribe?policy={_EVIL}", f"x/publish?producer={_EVIL}"):
        async with target.upgraded(path) as it:
            yield await it.read_ending()
    async with target.hostile() as it:
        agent = "User-Agent: \u0085\u2028\r\n"
        if await it.upgrade(f"/v1/streams/{target.name()}/publish", target.everything, agent) == 101:
            await it.send(text({"type": "message_start", "data": {"message_id": _REASON, "traceparent": _REASON}}))
            await it.send(frame(FINAL | CLOSE, b"\x03\xe8" + _REASON.encode()))
            yield await it.read_ending()


@attack("answers that nobody reads", answers.DROPPED, is_repeated=False)
async def unread(target: Target) -> AsyncIterator[str]:
    """A producer that asks for one problem after another, below every rate, and reads none."""
    wrong = text({"type": "text_delta", "data": {"text": "x", "y" * 200: 1}})
    loop = asyncio.get_running_loop()
    async with target.upgraded(f"{target.name()}/publish", buffer=4096) as it:
        until = loop.time() + hostile.PATIENCE
        while await it.send(wrong * 100):
            if loop.time() > until:
                yield "still there"
                return
            await asyncio.sleep(0.1)
        yield await it.read_ending()


@attack("batches of what is no event", "problem invalid_event", "close 4002")
async def nothings(target: Target) -> AsyncIterator[str]:
    """Of some items, which are refused, and of as many as a message has room for."""
    async with target.upgraded(f"{target.name()}/publish") as it:
        await it.send(text(b"[" + b"0," * 1000 + b"0]"))
        yield await it.read_problem()
    for item in (b"0,", b"[],"):
        async with target.upgraded(f"{target.name()}/publish") as it:
            await it.send(text(b"[" + item * (64_000 // len(item)) + b"0]"))
            yield await it.read_ending()


ATTACKS = (
    oversize,
    broken,
    bomb,
    fragments,
    bad_text,
    messages,
    long_messages,
    pings,
    signals,
    expiry,
    log_lines,
    unread,
    nothings,
)
