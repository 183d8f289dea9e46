"""Who is silent for too long, in virtual time: an upstream that does not answer, or a caller who does not ask."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from deltawire.gateway.proxy.asgi import CALLER
from deltawire.gateway.proxy.exchange import Exchange
from deltawire.gateway.proxy.fields import Wishes, by_name
from deltawire.gateway.proxy.tally import Tally
from deltawire.gateway.proxy.upstream import Passed
from tests.support.loop import VirtualLoop

TIMEOUT = 10.0
LATE = TIMEOUT - 1
"""Seconds of a silence that is just not too long."""


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    yield loop
    loop.close()


class SlowUpstream:
    """Reads a body to its end, and answers.

    Args:
        pauses: seconds before the head, and before each piece of the answer.
    """

    def __init__(self, *pauses: float) -> None:
        self._pauses = pauses

    @asynccontextmanager
    async def pass_on(self, method: str, target: bytes, fields: Any, read_body: Any) -> Any:
        del method, target, fields
        first, *rest = self._pauses
        while read_body is not None and await read_body():
            pass
        await asyncio.sleep(first)
        answer = Answer(rest)
        coming = asyncio.create_task(answer.come())
        yield Passed(200, [], answer.read, lambda *_: None, answer.heard, answer.fail)
        coming.cancel()


class Answer:
    """One that comes whether it is read or not.

    Args:
        pauses: seconds before each piece.
    """

    def __init__(self, pauses: Sequence[float]) -> None:
        self._pauses = pauses
        self._pieces: asyncio.Queue[bytes | Exception] = asyncio.Queue()
        self._heard: float | None = asyncio.get_running_loop().time()

    async def come(self) -> None:
        for pause in self._pauses:
            await asyncio.sleep(pause)
            self._pieces.put_nowait(b"piece")
            self._heard = asyncio.get_running_loop().time()
        self._pieces.put_nowait(b"")
        self._heard = None

    async def read(self) -> bytes:
        piece = await self._pieces.get()
        if isinstance(piece, Exception):
            raise piece
        return piece

    def heard(self) -> float | None:
        return self._heard

    def fail(self, error: Exception) -> None:
        self._pieces.put_nowait(error)
        self._heard = None


class SlowCaller:
    """The connection of a caller who takes a byte of what waits for it between any two looks, for some of them."""

    def __init__(self, looks: int) -> None:
        self.was_aborted = False
        self._left = looks

    def unsent(self) -> int:
        self._left = max(0, self._left - 1)
        return self._left

    def abort(self) -> None:
        self.was_aborted = True

    def abort_untaken(self, seconds: float, tell: Callable[[], None]) -> None:
        pass


def ask(
    loop: VirtualLoop,
    upstream: SlowUpstream,
    *pauses: float,
    slow_reader: float = 0,
    caller: SlowCaller | None = None,
) -> list[Any]:
    """What the caller of a request gets, which pauses so long before each piece of its body."""
    left = list(pauses)
    sent: list[Any] = []

    async def receive() -> Any:
        if not left:
            await asyncio.Event().wait()
        await asyncio.sleep(left.pop(0))
        return {"type": "http.request", "body": b"piece", "more_body": bool(left)}

    async def send(message: Any) -> None:
        await asyncio.sleep(slow_reader)
        sent.append(message)

    headers = [(b"transfer-encoding", b"chunked")] if pauses else []
    no_answer: Any = None  # no POST, no stream

    async def run() -> None:
        exchange = Exchange(
            upstream,  # type: ignore[arg-type]
            no_answer,
            TIMEOUT,
            Tally(),
            {"method": "PUT", "headers": headers, "state": {} if caller is None else {CALLER: caller}},
            by_name(headers),
            receive,
            send,
            b"/x",
            Wishes("", detaches=False),
        )
        await exchange.run()

    loop.finish(run(), within=100 * TIMEOUT)
    return sent


def test_the_time_that_a_caller_takes_for_its_body_is_not_the_upstream_s(loop: VirtualLoop) -> None:
    sent = ask(loop, SlowUpstream(LATE, LATE), LATE, LATE, LATE)
    assert sent[0]["status"] == 200
    assert sent[-1] == {"type": "http.response.body", "body": b""}


def test_an_upstream_is_504_whose_silence_after_the_body_is_too_long(loop: VirtualLoop) -> None:
    assert ask(loop, SlowUpstream(TIMEOUT), LATE, LATE)[0]["status"] == 504


@pytest.mark.parametrize("before", [[], [LATE]])
def test_a_caller_is_408_whose_body_does_not_come(loop: VirtualLoop, before: list[float]) -> None:
    sent = ask(loop, SlowUpstream(0), *before, TIMEOUT)
    assert sent[0]["status"] == 408
    assert b"idle_timeout" in sent[1]["body"]


def test_a_caller_who_reads_slowly_is_none_of_that(loop: VirtualLoop) -> None:
    assert ask(loop, SlowUpstream(0, 1, 1), slow_reader=LATE)[-1] == {"type": "http.response.body", "body": b""}


def test_an_answer_whose_rest_does_not_come_breaks_off(loop: VirtualLoop) -> None:
    sent = ask(loop, SlowUpstream(0, LATE, LATE, TIMEOUT))
    assert [message.get("body") for message in sent] == [None, b"piece", b"piece"]


def test_one_who_takes_nothing_is_cut_off(loop: VirtualLoop) -> None:
    assert ask(loop, SlowUpstream(0, 1, 1), slow_reader=2 * TIMEOUT) == []


def test_one_who_takes_a_little_of_a_piece_now_and_then_is_not(loop: VirtualLoop) -> None:
    caller = SlowCaller(looks=100)
    sent = ask(loop, SlowUpstream(0, 1), slow_reader=5 * TIMEOUT, caller=caller)
    assert sent[-1] == {"type": "http.response.body", "body": b""}
    assert not caller.was_aborted


def test_until_nothing_of_it_is_taken_any_more(loop: VirtualLoop) -> None:
    caller = SlowCaller(looks=3)
    assert ask(loop, SlowUpstream(0, 1), slow_reader=9 * TIMEOUT, caller=caller) == []
    assert caller.was_aborted
