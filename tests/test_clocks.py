"""A clock that jumps moves no timer and no seq: the wall clock is read for timestamps and tokens alone."""

from __future__ import annotations

import ast
import time
from pathlib import Path

import pytest

from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from tests.support.peers import consumer, producer, publish, text_delta
from tests.support.waiting import eventually

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for package in ("protocol", "gateway") for path in (ROOT / package).rglob("*.py"))

WALL_CLOCK_READERS = {
    "gateway/access/authenticator.py",  # tokens are dated by the calendar
    "gateway/cli/token.py",
    "gateway/client/tokens.py",
    "gateway/hub/clock.py",  # timestamps of streams
    "gateway/hub/dispatch.py",  # timestamps of events
    "gateway/engines/sqlite.py",  # when streams were created and changed, which outlives the process
    "gateway/engines/redis/committer.py",  # likewise
    "gateway/engines/redis/engine.py",
    "gateway/engines/redis/refilling.py",
    "gateway/server/gateway.py",  # the clock that tokens expire by
}
WALL_CLOCKS = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today", "date.today"}
CLOCK_NAMES = {name.rpartition(".")[2] for name in WALL_CLOCKS}


def wall_clocks_in(source: str) -> set[str]:
    """The wall clocks that a file names, called or passed on."""
    reads = (it for it in ast.walk(ast.parse(source)) if isinstance(it, ast.Attribute) and it.attr in CLOCK_NAMES)
    return {ast.unparse(it) for it in reads} & WALL_CLOCKS


def test_the_wall_clock_is_read_only_where_calendar_time_is_meant() -> None:
    readers = {str(path.relative_to(ROOT)) for path in SOURCES if wall_clocks_in(path.read_text())}
    assert readers == WALL_CLOCK_READERS


def test_a_reader_of_the_wall_clock_is_found() -> None:
    assert wall_clocks_in("import time\nx = time.time()\ny = clock or time.time") == {"time.time"}


@pytest.mark.parametrize("jump", [86_400.0, -86_400.0])
async def test_a_clock_that_jumps_changes_neither_seq_nor_timers(monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    settings = Settings(port=0, drain_timeout=0, ping_interval=0.05, ping_timeout=60, inactive_after=60, lease=60)
    real = time.time
    async with (
        Gateway(settings) as gateway,
        consumer(gateway) as reading,
        producer(gateway, "producer=p") as writing,
    ):
        await reading.read_until("caught_up")
        await publish(writing, {"type": "message_start", "data": {"message_id": "m"}}, text_delta("a"), upto=2)
        monkeypatch.setattr(time, "time", lambda: real() + jump)
        before = {it: it.last_heard for it in gateway._connections}
        await eventually(lambda: all(it.last_heard > before[it] for it in before), "answers to pings")
        await publish(writing, text_delta("b"), upto=3)
        messages = await reading.read_until("text_delta", seq=3)
        assert [message["seq"] for message in messages] == [1, 2, 3]
        assert (messages[2]["timestamp"] > messages[1]["timestamp"]) is (jump > 0), "timestamps order nothing"
        assert len(gateway._connections) == 2
        assert not gateway.hub.get("demo").is_closed
