"""What becomes of text that is being redacted when a gateway with stored streams is killed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

pytest.importorskip("re2", reason="needs the extra: pip install 'deltawire[redact]'")

from tests.support.peers import consumer, producer, publish, text_delta, text_of
from tests.support.processes import Serve, Served

KEY = "sk-abcdefghijklmnopqrstuvwxyz"
START = {"type": "message_start", "data": {"message_id": "m"}}

Begin = Callable[[], Awaitable[Served]]


@pytest.fixture
def begin(serve: Serve, tmp_path: Path) -> Begin:
    (tmp_path / "middleware.toml").write_text(
        '[[middleware]]\nstreams = "*"\nmax_delay = 10\nstages = [{ stage = "redact", sets = ["secrets"] }]\n'
    )
    settings = ("--port=0", f"--data-dir={tmp_path / 'data'}", f"--middleware={tmp_path / 'middleware.toml'}")
    return lambda: serve(*settings)


async def kill(served: Served) -> None:
    served.process.kill()
    await served.process.wait()


async def read(served: Served, stream: str) -> str:
    async with consumer(served, stream=stream) as reading:
        return text_of(await reading.read_until("caught_up"))


async def test_a_match_that_waits_is_redacted_after_a_kill_and_one_that_has_begun_is_not(begin: Begin) -> None:
    waiting = [text_delta(f"my key is {KEY[:12]}", producer_seq=2), text_delta(f"{KEY[12:]}. So", producer_seq=3)]
    begun = [text_delta(f"my key is {KEY}", producer_seq=2), text_delta("0123. So", producer_seq=3)]
    served = await begin()
    async with producer(served, "producer=p", "waits") as first, producer(served, "producer=p", "begun") as second:
        await publish(first, START | {"producer_seq": 1}, upto=1)
        await first.say(waiting[0], {"type": "text_delta"})
        await first.read_until("problem")  # what came before it waits, and has no ack
        await publish(second, START | {"producer_seq": 1}, begun[0], upto=2)
        await kill(served)
    served = await begin()
    assert [await read(served, stream) for stream in ("waits", "begun")] == ["", "my key is [redacted]"]
    async with producer(served, "producer=p", "waits") as first, producer(served, "producer=p", "begun") as second:
        await publish(first, *waiting, upto=3)
        await publish(second, begun[1], upto=3)
    assert await read(served, "waits") == "my key is [redacted]. So", "what was not acked is sent again"
    assert await read(served, "begun") == "my key is [redacted]0123. So", "as README and SPEC 7.8 say"
