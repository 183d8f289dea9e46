"""`deltawire publish --idle-timeout`: input that stays open and brings nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from deltawire.gateway.cli.publish import run as one_run
from deltawire.gateway.cli.stdio import Input
from tests.support.processes import Run, Start, read_json

START, STOP = '{"type":"message_start",', '{"type":"message_stop"'
BEGUN = {
    "text": "Thinking about",
    "events": START + '"data":{"message_id":"m"}}\n{"type":"text_delta","data":{"text":"Thinking about"}}\n',
    "openai-chat-sse": 'data: {"id":"m","choices":[{"index":0,"delta":{"content":"Thinking about"}}]}\n\n',
    "anthropic-sse": f'data: {START}"message":{{"id":"m"}}}}\n\n'
    'data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":"Thinking about"}}\n\n',
}
FINISHED = 'data: {"id":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
WHOLE = {
    "events": STOP + ',"data":{"message_id":"m","stop_reason":"stop"}}\n',
    "openai-chat-sse": FINISHED + "data: [DONE]\n\n",
    "anthropic-sse": f'data: {{"type":"message_delta","delta":{{"stop_reason":"stop"}}}}\n\ndata: {STOP}}}\n\n',
}
SAID = "deltawire: error: nothing came from the source for 0.1 s (--idle-timeout)\n"
SAID_LATER = SAID.replace("0.1 s", "0.5 s")  # a shell must not take that long to start


async def events_of(run: Run, url: str) -> list[dict[str, Any]]:
    await run("streams", "close", "demo", f"--url={url}")
    done = await run("tail", "demo", "--json", f"--url={url}")
    return [message for message in map(json.loads, done.output.splitlines()) if "data" in message]


@asynccontextmanager
async def publishing(start: Start, url: str, form: str, seconds: float) -> AsyncIterator[Process]:
    """A publisher whose standard input stays open as long as the block lasts."""
    arguments = ("publish", "demo", f"--format={form}", f"--idle-timeout={seconds}", f"--url={url}")
    process = await start(*arguments, stdin=PIPE)
    yield process
    assert process.stdin is not None
    process.stdin.close()


async def end_of(process: Process) -> tuple[int | None, str]:
    assert process.stderr is not None
    errors = await process.stderr.read()
    await process.wait()
    return process.returncode, errors.decode()


@pytest.mark.parametrize("form", BEGUN)
async def test_readers_of_an_answer_that_stalls_are_told_and_it_stops(
    start: Start, run: Run, gateway: str, form: str
) -> None:
    async with publishing(start, gateway, form, 0.1) as writer:
        assert writer.stdin is not None
        writer.stdin.write(BEGUN[form].encode())
        assert await end_of(writer) == (1, SAID)
    *before, error, stop = await events_of(run, gateway)
    assert "".join(it["data"].get("text", "") for it in before) == "Thinking about"
    told = {"error": "nothing came from the source for 0.1 s", "code": "stalled", "retryable": True}
    assert (error["type"], error["data"]) == ("error", told)
    assert (stop["type"], stop["data"]["stop_reason"]) == ("message_stop", "stalled")
    assert stop["data"]["message_id"] == before[0]["data"]["message_id"]


@pytest.mark.parametrize("form", BEGUN)
async def test_readers_are_told_of_a_source_that_never_spoke(start: Start, run: Run, gateway: str, form: str) -> None:
    async with publishing(start, gateway, form, 0.1) as writer:
        assert await end_of(writer) == (1, SAID)
    events = await events_of(run, gateway)
    assert [(it["type"], it["data"]["code"]) for it in events] == [("error", "stalled")]


@pytest.mark.parametrize("form", WHOLE)
async def test_an_answer_that_is_whole_is_left_so(start: Start, run: Run, gateway: str, form: str) -> None:
    async with publishing(start, gateway, form, 0.1) as writer:
        assert writer.stdin is not None
        writer.stdin.write((BEGUN[form] + WHOLE[form]).encode())
        assert await end_of(writer) == (1, SAID)
    events = await events_of(run, gateway)
    assert "error" not in [it["type"] for it in events]
    assert events[-1]["data"]["stop_reason"] == "stop"


async def test_a_finish_reason_without_its_end_makes_an_answer_whole(start: Start, run: Run, gateway: str) -> None:
    async with publishing(start, gateway, "openai-chat-sse", 0.1) as writer:
        assert writer.stdin is not None
        writer.stdin.write((BEGUN["openai-chat-sse"] + FINISHED).encode())
        assert await end_of(writer) == (1, SAID)
    events = await events_of(run, gateway)
    assert "error" not in [it["type"] for it in events]
    assert events[-1]["data"]["stop_reason"] == "stop"


@pytest.mark.parametrize("life", [": keep-alive", "event: ping"])
async def test_comments_and_pings_are_signs_of_life(run_process: Run, gateway: str, life: str) -> None:
    """Each comes within the timeout, all of them together take longer than it."""
    script = f"for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo '{life}'; echo; sleep 0.1; done; echo 'data: [DONE]'; echo"
    arguments = ("publish", "demo", "--format=openai-chat-sse", "--idle-timeout=1", f"--url={gateway}")
    assert await run_process(*arguments, "--", "sh", "-c", script) == (0, "", "")


@pytest.mark.parametrize("option", [(), ("--idle-timeout=0",)])
async def test_without_it_input_may_be_silent(start: Start, gateway: str, option: tuple[str, ...]) -> None:
    writer = await start("publish", "demo", "--format=text", *option, f"--url={gateway}", stdin=PIPE)
    reader = await start("tail", "demo", f"--url={gateway}")
    assert writer.stdin is not None
    assert reader.stdout is not None
    for chunk in (b"one", b"two"):
        writer.stdin.write(chunk)
        assert await reader.stdout.readexactly(3) == chunk
    writer.stdin.close()
    assert await end_of(writer) == (0, "")


async def test_a_command_that_stalls_is_made_to_end_and_the_stream_closed(
    run_process: Run, gateway: str, fifo: Path, tmp_path: Path
) -> None:
    script = f"echo $$ >{tmp_path}/pid; echo hi; exec cat {fifo}"
    arguments = ("publish", "demo", "--format=text", "--idle-timeout=0.5", "--close", f"--url={gateway}")
    assert await run_process(*arguments, "--", "sh", "-c", script) == (1, "", SAID_LATER)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    done = await run_process("tail", "demo", "--json", f"--url={gateway}")
    assert [it["type"] for it in map(json.loads, done.output.splitlines())][-5:] == [
        *("text_delta", "error", "message_stop", "caught_up", "stream_end")
    ]


async def test_readers_are_told_before_a_command_that_stalled_has_ended(
    start: Start, gateway: str, fifo: Path, tmp_path: Path
) -> None:
    script = f"trap '' TERM; echo $$ >{tmp_path}/pid; echo hi; exec cat {fifo}"  # SIGTERM is ignored by cat too
    arguments = ("publish", "demo", "--format=text", "--idle-timeout=0.5", f"--url={gateway}")
    writer = await start(*arguments, "--", "sh", "-c", script)
    reader = await start("tail", "demo", "--json", f"--url={gateway}")
    while (message := await read_json(reader, reader.stdout))["type"] != "message_stop":
        pass
    assert message["data"]["stop_reason"] == "stalled"
    assert writer.returncode is None
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert await end_of(writer) == (1, SAID_LATER)


async def test_a_command_that_has_ended_has_not_stalled(run_process: Run, gateway: str, fifo: Path) -> None:
    """Others may hold its output for half a second, longer than the timeout."""
    script = f"cat <{fifo} 2>/dev/null & echo hi"
    arguments = ("publish", "demo", "--format=text", "--idle-timeout=0.3", f"--url={gateway}")
    done = await run_process(*arguments, "--", "sh", "-c", script)
    assert (done.status, "hold its output open" in done.errors) == (0, True)
    assert (await events_of(run_process, gateway))[-1]["data"]["stop_reason"] == "end_turn"


async def test_a_command_that_is_cancelled_may_be_silent_until_it_ends(start: Start, run: Run, gateway: str) -> None:
    script = "trap 'sleep 1.2; echo last; exit' TERM; echo hi; while :; do sleep 0.02; echo; done"
    arguments = ("publish", "demo", "--format=text", "--idle-timeout=1", f"--url={gateway}")
    writer = await start(*arguments, "--", "sh", "-c", script)
    reader = await start("tail", "demo", f"--url={gateway}")
    assert reader.stdout is not None
    assert await reader.stdout.readexactly(2) == b"hi"
    writer.send_signal(signal.SIGTERM)
    status, errors = await end_of(writer)
    assert (status, errors) == (0, "deltawire: cancelled by SIGTERM\n")
    events = await events_of(run, gateway)
    assert events[-1]["data"]["stop_reason"] == "cancelled"
    assert "".join(it["data"].get("text", "") for it in events).endswith("last\n")


class Resumed(Input):
    """Input of a process that was stopped: its time is over, and there is something to read."""

    has_waited = False
    is_ready = True

    async def chunks(self) -> AsyncIterator[bytes]:
        if not self.has_waited:
            self.has_waited = True
            await asyncio.Event().wait()
        yield b"Hi"


async def test_input_that_came_while_the_publisher_was_stopped_is_read(
    run: Run, gateway: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_run, "Input", Resumed)
    done = await run("publish", "demo", "--format=text", "--idle-timeout=0.05", f"--url={gateway}")
    assert done == (0, "", "")
    assert (await events_of(run, gateway))[1]["data"]["text"] == "Hi"


async def test_a_negative_timeout_is_a_wrong_use(run: Run, gateway: str) -> None:
    done = await run("publish", "demo", "--idle-timeout=-1", f"--url={gateway}")
    assert done.status == 2
    assert "expected" in done.errors or "range" in done.errors
