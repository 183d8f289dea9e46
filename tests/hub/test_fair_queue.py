"""Thousands at once: a few at a time, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from deltawire.gateway.config import Settings
from deltawire.gateway.hub.fair_queue import STEP_SLICE, FairQueue
from deltawire.gateway.server import Gateway
from tests.support.waiting import eventually

CROWD = 100


class Clock:
    """A clock that goes on only while a step is done."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_turn_is_bounded_and_the_order_kept() -> None:
    turns: list[Callable[[], None]] = []
    done: list[int] = []
    clock = Clock()
    turnstile = FairQueue(turns.append, clock)

    def step(number: int) -> None:
        assert not turnstile.is_over
        clock.now += 0.3 * STEP_SLICE
        done.append(number)

    for number in range(10):
        turnstile.enter(partial(step, number))
    sizes = []
    while turns:
        before = len(done)
        turns.pop()()
        sizes.append(len(done) - before)
    assert sizes == [4, 4, 2]
    assert done == list(range(10))


def test_a_step_that_takes_long_sees_that_the_turn_is_over() -> None:
    turns: list[Callable[[], None]] = []
    clock = Clock()
    turnstile = FairQueue(turns.append, clock)
    seen: list[bool] = []

    def step() -> None:
        seen.append(turnstile.is_over)
        clock.now += STEP_SLICE
        seen.append(turnstile.is_over)

    assert turnstile.is_over, "no turn has begun"
    turnstile.enter(step)
    turns.pop()()
    assert seen == [False, True]
    clock.now -= STEP_SLICE
    assert turnstile.is_over, "a turn ends with its last step"


def test_what_comes_while_steps_are_done_waits_its_turn() -> None:
    turns: list[Callable[[], None]] = []
    done: list[str] = []
    turnstile = FairQueue(turns.append)
    turnstile.enter(lambda: turnstile.enter(lambda: done.append("second")))
    turns.pop()()
    assert (done, len(turnstile), len(turns)) == ([], 1, 1)
    turns.pop()()
    assert (done, len(turnstile), turns) == (["second"], 0, [])


async def test_a_crowd_that_hangs_up_at_once_leaves_nothing() -> None:
    request = (
        b"GET /v1/streams/s/subscribe HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ZGVsdGF3aXJlIGJlbmNoIQ==\r\n\r\n"
    )
    async with Gateway(Settings(port=0)) as gateway:
        writers = []
        for _ in range(CROWD):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(request)
            await reader.readuntil(b"caught_up")
            writers.append(writer)
        assert len(gateway._connections) == CROWD
        for number, writer in enumerate(writers):
            if number % 3:
                writer.close()
            else:
                writer.transport.abort()
        await eventually(lambda: not gateway._accepted, "that all of them are gone")
        assert gateway._limits.is_unused
        assert gateway.hub.info("s").consumers == 0
