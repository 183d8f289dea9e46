"""`deltawire tail` as a process."""

from __future__ import annotations

import json
import os
import signal
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from deltawire.gateway.cli.stdio import Input
from tests.support.fakes import FakeGateway, closing, frames
from tests.support.processes import SUBSCRIBED, Run, Serve, Start, Terminal, read_json

ANSWER = b"""\
{"type":"message_start","data":{"message_id":"m","model":"model-1"}}
{"type":"thinking","data":{"thinking":"hm"}}
{"type":"text_delta","data":{"text":"one "}}
{"type":"text_delta","data":{"text":"two\\u001b[2J"}}
{"type":"usage","data":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}
{"type":"error","data":{"error":"too late"}}
{"type":"message_stop","data":{"message_id":"m","stop_reason":"end_turn"}}
"""


async def publish(run: Run, url: str, stdin: bytes = ANSWER, *arguments: str) -> None:
    done = await run("publish", "demo", f"--url={url}", *arguments, stdin=stdin)
    assert done.status == 0, done.errors


async def test_off_a_terminal_the_output_is_exactly_the_text(run: Run, gateway: str) -> None:
    await publish(run, gateway, ANSWER, "--close")
    assert await run("tail", "demo", f"--url={gateway}") == (0, "one two\x1b[2J", "deltawire: error: too late\n")


async def test_json_is_every_frame_on_its_line(run: Run, gateway: str) -> None:
    await publish(run, gateway, ANSWER, "--close")
    done = await run("tail", "demo", "--json", f"--url={gateway}")
    frames = [json.loads(line) for line in done.output.splitlines()]
    assert [frame["type"] for frame in frames][:2] == ["subscribed", "message_start"]
    assert frames[-1] == {"type": "stream_end", "seq": 7, "reason": "closed"}


async def test_a_stream_that_is_not_there_is_said_at_once_where_none_is_to_be_made(run: Run, gateway: str) -> None:
    done = await run("tail", "demo", "--no-create", f"--url={gateway}")
    assert (done.status, done.output) == (1, "")
    assert done.errors == "deltawire: error: refused: there is no stream 'demo' now (close 4505)\n"
    await publish(run, gateway, ANSWER, "--close")
    assert (await run("tail", "demo", "--no-create", f"--url={gateway}")).output == "one two\x1b[2J"


async def test_the_question_can_be_narrowed(run: Run, gateway: str) -> None:
    await publish(run, gateway, ANSWER, "--close")
    url = f"--url={gateway}"
    policies = ("--policy=drop", "--buffer=5")
    done = await run("tail", "demo", "--json", "--types=text_delta,usage", "--after=3", *policies, url)
    frames = [json.loads(line) for line in done.output.splitlines()]
    assert (frames[0]["policy"], frames[0]["buffer"], frames[0]["after"]) == ("drop_newest", 5, 3)
    assert [frame["seq"] for frame in frames if "data" in frame] == [4, 5]
    narrow = ("--index=1", "--choice=0", "--kind=text,refusal", "--extension=p/n,q", "--urgent=error")
    filtered = await run("tail", "demo", "--json", *narrow, url)
    assert not [frame for frame in map(json.loads, filtered.output.splitlines()) if frame["type"] == "text_delta"]
    epoch = frames[0]["epoch"]
    resumed = await run("tail", "demo", "--json", "--after=6", f"--epoch={epoch}", "--interval=10", url)
    assert '"recovered":true' in resumed.output
    assert (await run("tail", "demo", "--from=now", url)).output == ""


async def test_a_person_sees_the_answer_and_nothing_that_drives_the_terminal(
    run: Run, start: Start, gateway: str, terminal: Terminal
) -> None:
    await publish(run, gateway, ANSWER, "--close")
    process = await start(
        "tail", "demo", f"--url={gateway}", stdout=terminal.side, env={"TERM": "xterm", "NO_COLOR": ""}
    )
    await terminal.wait_shown("stream ended")
    assert await process.wait() == 0
    assert "\x1b[2mhm\x1b[0m\r\none two␛[2J" in terminal.shown
    assert "stop: end_turn" in terminal.shown
    assert "1 prompt + 2 completion = 3 tokens" in terminal.shown
    assert "\x1b[2J" not in terminal.shown


async def test_without_colours_the_screen_is_plain(run: Run, start: Start, gateway: str, terminal: Terminal) -> None:
    await publish(run, gateway, ANSWER, "--close")
    await start("tail", "demo", f"--url={gateway}", stdout=terminal.side, env={"NO_COLOR": "1"})
    await terminal.wait_shown("stream ended")
    assert "\x1b" not in terminal.shown


async def test_ctrl_c_ends_it_with_130_and_no_word(start: Start, gateway: str) -> None:
    process = await start("tail", "demo", "--json", f"--url={gateway}")
    await read_json(process, process.stdout)
    process.send_signal(signal.SIGINT)
    _, errors = await process.communicate()
    assert process.returncode == 130
    assert errors.strip() == b""


async def test_a_reader_that_closes_the_pipe_ends_it_also_while_the_stream_is_idle(start: Start, gateway: str) -> None:
    reader, writer = os.pipe()
    process = await start("tail", "demo", "--json", f"--url={gateway}", stdout=writer)
    os.close(writer)
    assert await anext(Input(reader, 1).chunks()) == b"{"
    os.close(reader)
    _, errors = await process.communicate()
    assert process.returncode == 141
    assert errors == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
async def test_a_full_disk_is_one_line(run: Run, run_process: Run, gateway: str) -> None:
    await publish(run, gateway, ANSWER, "--close")
    with open("/dev/full", "wb") as full:  # noqa: PTH123, ASYNC230 - a device
        done = await run_process("tail", "demo", f"--url={gateway}", stdout=full)
    assert done.status == 1
    assert "No space left on device" in done.errors.splitlines()[-1]
    assert "Traceback" not in done.errors


async def test_a_lost_gateway_is_said_and_what_the_next_one_has_is_read(serve: Serve, start: Start, run: Run) -> None:
    first = await serve()
    await publish(run, first.url)
    process = await start("tail", "demo", f"--url={first.url}")
    assert process.stdout is not None
    assert process.stderr is not None
    assert await process.stdout.readexactly(7) == b"one two"
    first.process.kill()
    await first.process.wait()
    said = [await process.stderr.readline(), await process.stderr.readline()]
    assert b"too late" in said[0]
    assert b"reconnecting in" in said[1]
    second = await serve(f"--port={first.started['port']}")
    await publish(run, second.url, b'{"type":"text_delta","data":{"text":"anew"}}\n', "--close")
    output, errors = await process.communicate()
    assert process.returncode == 0
    assert output == b"\x1b[2Janew"
    assert b"reconnected; continues after event 0" in errors
    assert b"the stream has restarted" in errors


async def test_a_drained_gateway_that_comes_back_is_followed(serve: Serve, start: Start, run: Run) -> None:
    first = await serve()
    process = await start("tail", "demo", "--json", f"--url={first.url}")
    await read_json(process, process.stdout)
    first.process.terminate()
    assert await first.process.wait() == 0
    second = await serve(f"--port={first.started['port']}")
    await publish(run, second.url, ANSWER, "--close")
    output, _ = await process.communicate()
    assert process.returncode == 0
    assert b'"reason":"closed"' in output


async def test_a_slow_reader_of_the_output_gets_everything(run: Run, start: Start, gateway: str) -> None:
    text = "0123456789" * 100_000
    done = await run("publish", "demo", "--format=text", "--close", f"--url={gateway}", stdin=text.encode())
    assert done.status == 0
    process = await start("tail", "demo", f"--url={gateway}", stdout=PIPE, limit=1)
    output, _ = await process.communicate()
    assert output.decode() == text


async def test_a_text_that_is_not_what_was_sent_is_said_and_reading_goes_on(run: Run) -> None:
    wrong = {"first": 1, "characters": 3, "sha256": "0" * 64}
    data = [
        ("message_start", {"message_id": "m"}),
        ("text_delta", {"text": "one "}),
        ("message_stop", {"message_id": "m", "stop_reason": "end_turn", "digest": wrong}),
        ("text_delta", {"text": "two"}),
    ]
    events = [
        {"type": kind, "seq": seq, "timestamp": "2026-11-22T11:00:00Z", "data": fields}
        for seq, (kind, fields) in enumerate(data, 1)
    ]
    end = {"type": "stream_end", "seq": 4, "reason": "closed"}
    async with FakeGateway(frames(SUBSCRIBED, *events, end, then=closing(1000))) as gateway:
        done = await run("tail", "demo", f"--url={gateway.url}")
    reason = "deltawire: error: the text of the message in events 1 to 3 is not what the gateway sent\n"
    assert done == (1, "one two", reason)
