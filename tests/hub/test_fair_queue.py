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


def test_work_goes_on_until_the_slice_is_over_that_began_with_it() -> None:
    turns: list[Callable[[], None]] = []
    clock = Clock()
    turnstile = FairQueue(turns.append, clock)
    assert turnstile.has_time()
    clock.now += STEP_SLICE
    assert not turnstile.has_time()
    turns.pop()()
    assert turnstile.has_time(), "another turn has begun"


def test_work_that_went_on_takes_from_the_slice_of_the_turn_but_for_one_step() -> None:
    turns: list[Callable[[], None]] = []
    done: list[int] = []
    clock = Clock()
    turnstile = FairQueue(turns.append, clock)
    assert turnstile.has_time()
    clock.now += STEP_SLICE
    for number in range(2):
        turnstile.enter(partial(done.append, number))
    turns.pop()()
    assert done == [0]
    turns.pop()()
    assert (done, turns) == ([0, 1], [])


def test_nothing_goes_on_while_others_wait() -> None:
    turns: list[Callable[[], None]] = []
    turnstile = FairQueue(turns.append)
    seen: list[bool] = []
    for _ in range(2):
        turnstile.enter(lambda: seen.append(turnstile.has_time()))
    assert not turnstile.has_time()
    turns.pop()()
    assert seen == [False, True]


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
