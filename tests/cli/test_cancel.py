"""What ends `deltawire publish` early, with real processes: readers who cancel or leave, signals, a lost stream."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable

import pytest

from deltawire.gateway.client import Subscriber
from deltawire.protocol.events import Data, Error, Event, MessageStop, TextDelta
from tests.support.processes import Run, Start, Terminal, read_json

POLITE = """
import os, signal
def leave(*_):
    os.write(1, b"bye\\n")
    os._exit(3)
signal.signal(signal.SIGTERM, leave)
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.write(1, b"hello\\n")
while True:
    signal.pause()
"""
STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("hello", flush=True)
while True:
    signal.pause()
"""
MESSAGE_START = b'{"type":"message_start","data":{"message_id":"m"}}\n'

Stop = Callable[[Process], None]


def python(script: str) -> tuple[str, ...]:
    return ("--", sys.executable, "-IS", "-c", script)


async def read_until(subscriber: Subscriber, text: str) -> None:
    """Read on until so much text came."""
    read = ""
    async for item in subscriber:
        if isinstance(item, Event) and isinstance(item.data, TextDelta):
            read += item.data.text
        if read.endswith(text):
            return
    pytest.fail(f"the stream ended after {read!r}")


async def read_rest(subscriber: Subscriber) -> list[Data]:
    """What comes until the stream ends."""
    return [item.data async for item in subscriber if isinstance(item, Event)]


def text_of(items: list[Data]) -> str:
    return "".join(item.text for item in items if isinstance(item, TextDelta))


def stop_reasons(items: list[Data]) -> list[str]:
    return [item.stop_reason for item in items if isinstance(item, MessageStop)]


async def said_by(process: Process) -> str:
    _, errors = await process.communicate()
    return errors.decode()


async def test_a_commands_output_is_published_and_its_status_is_ours(run_process: Run, gateway: str) -> None:
    script = "echo text; echo trouble >&2; exit 7"
    arguments = ("publish", "demo", "--format=text", "--close", f"--url={gateway}", "--", "sh", "-c", script)
    assert await run_process(*arguments) == (7, "", "trouble\n")
    async with Subscriber(gateway, "demo") as subscriber:
        items = await read_rest(subscriber)
    assert (text_of(items), stop_reasons(items)) == ("text\n", ["error"])
    assert [item for item in items if isinstance(item, Error)] == [
        Error(error="the command ended with status 7", code="command_failed")
    ]


async def test_a_command_that_cannot_be_run_is_one_line(run_process: Run, gateway: str) -> None:
    done = await run_process("publish", "demo", f"--url={gateway}", "--", "no-such-command")
    assert done == (1, "", "deltawire: error: can't run 'no-such-command': No such file or directory\n")


async def test_a_reader_that_cancels_ends_the_command_and_what_it_printed_is_published(
    start: Start, gateway: str
) -> None:
    url = f"--url={gateway}"
    writer = await start("publish", "demo", "--format=text", "--close", url, *python(POLITE))
    async with Subscriber(gateway, "demo") as subscriber:
        await read_until(subscriber, "hello\n")
        assert await subscriber.signal("dance\n\x1b") == 1
        assert await subscriber.signal("cancel") == 1
        items = await read_rest(subscriber)
    assert (text_of(items), stop_reasons(items)) == ("bye\n", ["cancelled"])
    said = (await said_by(writer)).splitlines()
    assert said == [
        "deltawire: a reader sent the signal 'dance ␛', which is ignored",
        "deltawire: cancelled by a reader",
    ]
    assert writer.returncode == 3


async def test_a_reader_that_cancels_ends_standard_input(start: Start, gateway: str) -> None:
    writer = await start("publish", "demo", "--close", f"--url={gateway}", stdin=PIPE)
    assert writer.stdin is not None
    writer.stdin.write(MESSAGE_START + b'{"type":"text_delta","data":{"text":"one"}}\n{"type":"text_del')
    async with Subscriber(gateway, "demo") as subscriber:
        await read_until(subscriber, "one")
        await subscriber.signal("cancel")
        assert stop_reasons(await read_rest(subscriber)) == ["cancelled"]
    assert await writer.wait() == 0
    assert writer.stderr is not None
    assert await writer.stderr.read() == b"deltawire: cancelled by a reader\n"


async def test_an_input_without_end_is_cancelled_too(start: Start, gateway: str) -> None:
    with open("/dev/zero", "rb") as zeros:  # noqa: ASYNC230, PTH123 - a device
        writer = await start("publish", "demo", "--format=text", "--close", f"--url={gateway}", stdin=zeros)
    async with Subscriber(gateway, "demo") as subscriber:
        await read_until(subscriber, "\0")
        await subscriber.signal("cancel")
        assert stop_reasons(await read_rest(subscriber)) == ["cancelled"]
    assert await writer.wait() == 0


async def test_a_cancel_does_not_wait_for_the_pace(start: Start, gateway: str) -> None:
    writer = await start("publish", "demo", "--pace=0.001", "--close", f"--url={gateway}", stdin=PIPE)
    assert writer.stdin is not None
    writer.stdin.write(b'{"type":"text_delta","data":{"text":"x"}}\n' * 3)
    async with Subscriber(gateway, "demo") as subscriber:
        await read_until(subscriber, "x")
        await subscriber.signal("cancel")
        assert text_of(await read_rest(subscriber)) == "xx"
    assert await writer.wait() == 0


async def test_when_the_last_reader_has_left_the_answer_is_cancelled(start: Start, gateway: str) -> None:
    arguments = ("--format=text", "--close", "--until-alone=0", f"--url={gateway}")
    writer = await start("publish", "demo", *arguments, *python(POLITE))
    async with Subscriber(gateway, "demo") as subscriber:
        await read_until(subscriber, "hello\n")
    assert await said_by(writer) == "deltawire: nobody follows the stream any longer: cancelled\n"
    assert writer.returncode == 3
    async with Subscriber(gateway, "demo") as subscriber:
        assert stop_reasons(await read_rest(subscriber)) == ["cancelled"]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_the_command_and_the_message(signum: signal.Signals, start: Start, gateway: str) -> None:
    url = f"--url={gateway}"
    writer = await start("publish", "demo", "--format=text", "--close", url, *python(POLITE))
    async with Subscriber(gateway, "demo") as subscriber:
        await read_until(subscriber, "hello\n")
        writer.send_signal(signum)
        items = await read_rest(subscriber)
    assert (text_of(items), stop_reasons(items)) == ("bye\n", ["cancelled"])
    assert await said_by(writer) == f"deltawire: cancelled by {signum.name}\n"
    assert writer.returncode == 3


async def test_a_second_signal_ends_a_stubborn_command_at_once(start: Start, gateway: str) -> None:
    writer = await start("publish", "demo", "--format=text", f"--url={gateway}", *python(STUBBORN))
    assert writer.stderr is not None
    async with Subscriber(gateway, "demo") as subscriber:
        await read_until(subscriber, "hello\n")
    writer.send_signal(signal.SIGINT)
    assert await writer.stderr.readline() == b"deltawire: cancelled by SIGINT\n"
    writer.send_signal(signal.SIGINT)
    assert await writer.stderr.read() == b""  # which the command holds open as long as it lives
    assert await writer.wait() == 130


async def test_ctrl_c_on_a_terminal_reaches_the_command(start: Start, gateway: str, terminal: Terminal) -> None:
    script = "import signal; print('hello', flush=True); signal.pause()"
    await terminal.start_session(
        start, "publish", "demo", "--format=text", "--close", f"--url={gateway}", *python(script)
    )
    async with Subscriber(gateway, "demo") as subscriber:
        await read_until(subscriber, "hello\n")
        terminal.type("\x03")
        assert stop_reasons(await read_rest(subscriber)) == ["cancelled"]


async def test_a_producer_that_is_fenced_while_its_input_is_idle_ends_at_once(
    start: Start, run: Run, gateway: str
) -> None:
    arguments = ("publish", "demo", "--producer=p", f"--url={gateway}")
    older = await start(*arguments, "--generation=1", stdin=PIPE)
    reader = await start("tail", "demo", "--json", f"--url={gateway}")
    assert older.stdin is not None
    assert older.stderr is not None
    older.stdin.write(b'{"type":"text_delta","data":{"text":"old"}}\n')
    while (await read_json(reader, reader.stdout))["type"] != "text_delta":
        pass
    line = json.dumps({"type": "text_delta", "data": {"text": "new"}}).encode()
    assert (await run(*arguments, "--generation=2", stdin=line)).status == 0
    said = (await older.stderr.read()).decode()
    assert (await older.wait(), len(said.splitlines())) == (1, 1)
    assert "generation" in said


async def test_a_command_is_ended_when_nothing_can_be_published_any_more(start: Start, run: Run, gateway: str) -> None:
    arguments = ("publish", "demo", "--format=text", "--producer=p", f"--url={gateway}")
    older = await start(*arguments, "--generation=1", *python(POLITE))
    async with Subscriber(gateway, "demo") as subscriber:
        await read_until(subscriber, "hello\n")
        assert (await run(*arguments, "--generation=2", stdin=b"new")).status == 0
    said = await asyncio.wait_for(said_by(older), 30)
    assert older.returncode == 1
    assert "generation" in said.splitlines()[0]
