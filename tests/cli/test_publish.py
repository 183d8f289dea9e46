"""`deltawire publish` as a process."""

from __future__ import annotations

import json
import os
import re
import signal
from asyncio.subprocess import PIPE
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest

from tests.support.processes import Run, Serve, Start, Terminal, read_json
from tests.support.provider_bodies import FORMS


def delta(text: str) -> bytes:
    return b'{"type":"text_delta","data":{"text":%b}}\n' % json.dumps(text).encode()


async def events_of(run: Run, stream: str, url: str) -> list[dict[str, Any]]:
    """Every event of a stream, which is closed for that."""
    await run("streams", "close", stream, f"--url={url}")
    done = await run("tail", stream, "--json", "--policy=block", f"--url={url}")
    assert done.status == 0, done.errors
    return [message for message in map(json.loads, done.output.splitlines()) if "data" in message]


async def test_text_is_published_as_it_comes(start: Start, gateway: str) -> None:
    reader = await start("tail", "demo", f"--url={gateway}")
    writer = await start("publish", "demo", "--format=text", "--close", f"--url={gateway}", stdin=PIPE)
    assert reader.stdout is not None
    assert writer.stdin is not None
    for chunk in ("Hel", "lo wör", "ld\n"):
        writer.stdin.write(chunk.encode())
        assert (await reader.stdout.readexactly(len(chunk.encode()))).decode() == chunk
    writer.stdin.close()
    assert await reader.stdout.read() == b""
    assert (await writer.wait(), await reader.wait()) == (0, 0)


async def test_text_is_an_answer_with_start_and_stop(run: Run, gateway: str) -> None:
    assert await run("publish", "demo", "--format=text", stdin=b"Hello", env={"DELTAWIRE_URL": gateway}) == (0, "", "")
    started, _, stopped = await events_of(run, "demo", gateway)
    assert started["data"]["message_id"] == stopped["data"]["message_id"]
    assert stopped["data"]["stop_reason"] == "end_turn"


async def test_a_regular_file_is_published(start: Start, run: Run, gateway: str) -> None:
    text = "word " * 10_000
    with TemporaryFile() as file:
        file.write(text.encode())
        file.seek(0)
        writer = await start("publish", "demo", "--format=text", f"--url={gateway}", stdin=file)
        assert await writer.wait() == 0
    events = await events_of(run, "demo", gateway)
    assert "".join(event["data"].get("text", "") for event in events) == text


async def test_a_bad_line_is_reported_and_the_rest_published(run: Run, gateway: str) -> None:
    lines = delta("one") + b"oops\n" + delta("two") + b'{"type":"text_delta","data":{}}\n' + delta("x" * 70_000)
    done = await run("publish", "demo", f"--url={gateway}", stdin=lines + delta("three"))
    assert done.status == 1
    assert [line.split(": ")[1:3] for line in done.errors.splitlines()] == [
        ["error", "line 2"],
        ["error", "line 4"],
        ["error", "line 5"],
    ]
    assert "line 5: event refused: the event has 70" in done.errors
    events = await events_of(run, "demo", gateway)
    assert [event["data"]["text"] for event in events] == ["one", "two", "three"]


async def test_a_body_that_is_no_event_stream_is_an_error_for_readers_and_in_the_status(run: Run, gateway: str) -> None:
    body = b"<html>\n\n<p>bad gateway</p>\n\n"
    done = await run("publish", "demo", "--format=anthropic-sse", f"--url={gateway}", stdin=body)
    assert (done.status, len(done.errors.splitlines())) == (1, 2)
    assert "error: the provider failed: the provider's answer is no event stream: bad gateway (not_a_st" in done.errors
    assert "1 part of the input could not be read as --format says" in done.errors
    error, rest = await events_of(run, "demo", gateway)
    assert (error["type"], error["data"]["code"]) == ("error", "not_a_stream")
    assert rest["data"]["data"]["text"] == body.decode().rstrip("\n") + "\n"


async def test_a_failure_of_the_provider_is_in_the_status_and_said_once(run: Run, gateway: str) -> None:
    body = b'data: {"error": {"message": "Quota", "code": 429}}\n\n' * 3
    done = await run("publish", "demo", "--format=openai-chat-sse", f"--url={gateway}", stdin=body)
    assert done.status == 1
    assert [line.partition("error: ")[2] for line in done.errors.splitlines()] == [
        "the provider failed: Quota (429)",
        "the provider told of 2 more failures",
    ]
    assert [event["data"]["error"] for event in await events_of(run, "demo", gateway)] == ["Quota"] * 3


async def test_bodies_without_ids_are_messages_of_their_own(run: Run, gateway: str) -> None:
    body = b'data: {"choices":[{"index":0,"delta":{"content":"Same."},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    for _ in range(2):
        done = await run("publish", "demo", "--format=openai-chat-sse", f"--url={gateway}", stdin=body)
        assert done == (0, "", "")
    events = await events_of(run, "demo", gateway)
    started = [event["data"]["message_id"] for event in events if event["type"] == "message_start"]
    stops = [event["data"] for event in events if event["type"] == "message_stop"]
    assert len(set(started)) == 2
    assert started == [stop["message_id"] for stop in stops]
    assert [stop["digest"]["characters"] for stop in stops] == [5, 5]


async def test_thinking_within_text_is_told_apart_on_request(run: Run, gateway: str) -> None:
    body = b'data: {"choices":[{"index":0,"delta":{"content":"<think>Hm</think>Yes"},"finish_reason":"stop"}]}\n\n'
    arguments = ("publish", "demo", "--format=openai-chat-sse", f"--url={gateway}")
    await run(*arguments, stdin=body)
    await run(*arguments, "--inline-thinking", stdin=body)
    events = await events_of(run, "demo", gateway)
    said = [event["data"] for event in events if event["type"] in ("text_delta", "thinking")]
    assert [data.get("text", data.get("thinking")) for data in said] == ["<think>Hm</think>Yes", "Hm", "Yes"]
    done = await run("publish", "demo", "--format=text", "--inline-thinking", f"--url={gateway}")
    assert done.status == 2
    assert "--inline-thinking needs a provider's --format" in done.errors


async def test_a_recorded_stream_can_be_published_again(run: Run, gateway: str) -> None:
    await run("publish", "old", "--format=text", "--close", f"--url={gateway}", stdin=b"one two three")
    recording = await run("tail", "old", "--json", f"--url={gateway}")
    again = await run("publish", "new", "--close", f"--url={gateway}", stdin=recording.output.encode())
    assert again.status == 0, again.errors
    assert (await run("tail", "new", f"--url={gateway}")).output == "one two three"


async def test_a_closed_stream_refuses_with_one_line(run: Run, gateway: str) -> None:
    assert (await run("publish", "demo", "--close", f"--url={gateway}", stdin=delta("one"))).status == 0
    done = await run("publish", "demo", f"--url={gateway}", stdin=delta("two"))
    assert done.status == 1
    assert len(done.errors.splitlines()) == 1
    assert "closed" in done.errors


async def test_kept_open_a_stream_takes_the_next_answer(run: Run, gateway: str) -> None:
    for text in ("one", "two"):
        assert (await run("publish", "demo", f"--url={gateway}", stdin=delta(text))).status == 0
    assert [event["data"]["text"] for event in await events_of(run, "demo", gateway)] == ["one", "two"]


async def test_a_pace_spreads_deltas_and_loses_none(run: Run, gateway: str) -> None:
    lines = b"".join(delta(str(number)) for number in range(8))
    assert (await run("publish", "demo", "--pace=40", f"--url={gateway}", stdin=lines)).status == 0
    events = await events_of(run, "demo", gateway)
    assert [event["data"]["text"] for event in events] == list("01234567")
    assert events[0]["timestamp"] < events[-1]["timestamp"]


@pytest.mark.parametrize("name", FORMS)
async def test_the_format_of_a_body_is_found_if_asked(run: Run, gateway: str, name: str) -> None:
    body = FORMS[name].encode(*FORMS[name].clean)
    done = await run("publish", "demo", "--format=auto", "--close", f"--url={gateway}", stdin=body)
    assert done.status == int(name == "openai-responses-sse"), "that one fails"
    events = await events_of(run, "demo", gateway)
    assert events[0]["data"]["provider"] == FORMS[name].provider


async def test_a_body_of_no_format_that_is_known_is_told_so(run: Run, gateway: str) -> None:
    done = await run("publish", "demo", "--format=auto", f"--url={gateway}", stdin=b'data: {"novel": 1}\n\n')
    assert (done.status, done.errors) == (
        1,
        "deltawire: error: the provider failed: the format of the provider's answer is not known (not_a_stream)\n",
    )


async def test_a_newer_generation_of_a_producer_wins(run: Run, gateway: str) -> None:
    arguments = ("publish", "demo", "--producer=p", f"--url={gateway}")
    assert (await run(*arguments, "--generation=2", stdin=delta("new"))).status == 0
    done = await run(*arguments, "--generation=1", stdin=delta("old"))
    assert done.status == 1
    assert len(done.errors.splitlines()) == 1
    assert "generation" in done.errors


async def test_ctrl_c_while_waiting_for_input_ends_at_once(start: Start, gateway: str) -> None:
    writer = await start("publish", "demo", f"--url={gateway}", stdin=PIPE)
    reader = await start("tail", "demo", "--json", f"--url={gateway}")
    assert writer.stdin is not None
    writer.stdin.write(delta("one"))
    while (await read_json(reader, reader.stdout))["type"] != "text_delta":
        pass  # until the writer is surely at work
    writer.send_signal(signal.SIGINT)
    _, errors = await writer.communicate()
    assert writer.returncode == 130
    assert errors.strip() == b""


async def test_on_a_terminal_it_says_what_it_reads_and_what_it_did(
    start: Start, gateway: str, terminal: Terminal
) -> None:
    writer = await start(
        "publish", "demo", "--format=text", f"--url={gateway}", stdin=terminal.side, stderr=terminal.side
    )
    await terminal.wait_shown("Ctrl-D")
    terminal.type("hello\n\x04")
    await terminal.wait_shown("3 events published, the last one as seq 3")
    assert await writer.wait() == 0


async def test_it_goes_on_when_the_gateway_comes_back_and_tells_what_that_lost(serve: Serve, start: Start) -> None:
    first = await serve()
    said = ("--format=text", "--close", "--on-full=reject")  # the delta goes out when message_start is acked
    writer = await start("publish", "demo", *said, f"--url={first.url}", stdin=PIPE)
    reader = await start("tail", "demo", "--json", f"--url={first.url}")
    assert writer.stdin is not None
    assert writer.stderr is not None
    writer.stdin.write(b"before ")
    while (await read_json(reader, reader.stdout))["type"] != "text_delta":
        pass
    first.process.kill()
    await first.process.wait()
    assert b"reconnecting in" in await writer.stderr.readline()
    second = await serve(f"--port={first.started['port']}")
    late = await start("tail", "demo", f"--url={second.url}")
    assert late.stdout is not None
    writer.stdin.write(b"after")
    writer.stdin.close()
    assert (await late.stdout.read()).endswith(b"after")
    assert re.search(rb"error: the gateway lost the stream, with [12] events? that it had", await writer.stderr.read())
    assert await writer.wait() == 1


async def test_a_message_ends_with_its_command_though_others_hold_its_output(
    run_process: Run, gateway: str, tmp_path: Path
) -> None:
    os.mkfifo(fifo := tmp_path / "fifo")
    held = os.open(fifo, os.O_RDWR)
    try:
        command = ("sh", "-c", f"cat <{fifo} 2>/dev/null & echo hi")
        done = await run_process("publish", "demo", "--format=text", "--close", f"--url={gateway}", "--", *command)
    finally:
        os.close(held)
    assert done.status == 0
    assert "hold its output open" in done.errors
    events = await events_of(run_process, "demo", gateway)
    assert [event["type"] for event in events] == ["message_start", "text_delta", "message_stop"]
