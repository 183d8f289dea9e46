"""Logs: one line each."""

from __future__ import annotations

import json
import logging
import os
import pty
import sys
from asyncio import create_subprocess_exec, to_thread
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from select import PIPE_BUF
from typing import Any

import pytest
import structlog

from deltawire.gateway.configuring import make_settings
from deltawire.gateway.logs import LogFile, configure_logs
from tests.support.processes import ROOT

HOSTILE = "a\x1b[2J\nb"

Read = Callable[[], str]


@pytest.fixture(autouse=True)
def _restored_logs() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    reader, writer = pty.openpty()
    yield reader, writer
    os.close(reader)
    os.close(writer)


END = b"\x1e"
"""Written after the logs: a terminal passes on what was written when it gets round to it."""


def configured(ends: tuple[int, int], **values: Any) -> Read:
    """Send logs to the second descriptor; what gives all that has come out of the first."""
    reader, writer = ends
    configure_logs(make_settings(values), writer)

    def read() -> str:
        os.write(writer, END)
        text = b""
        while not text.endswith(END):
            text += os.read(reader, 65536)
        return text.removesuffix(END).decode()

    return read


def write_one_of_each() -> None:
    log = structlog.get_logger()
    log.info("consumer.closed", code=4000, reason=HOSTILE)
    try:
        int(HOSTILE)
    except ValueError:
        log.exception("stream.failed", what=object())
    logging.getLogger("websockets.server").error("peer said %s", HOSTILE)


def test_off_a_terminal_each_line_is_a_json_object(pipe: tuple[int, int]) -> None:
    read = configured(pipe)
    write_one_of_each()
    lines = [json.loads(line) for line in read().splitlines()]
    assert [(line["level"], line["event"]) for line in lines] == [
        ("info", "consumer.closed"),
        ("error", "stream.failed"),
        ("error", "websockets.server.logged"),
    ]
    assert (lines[0]["code"], lines[0]["reason"]) == (4000, HOSTILE)
    assert "ValueError" in lines[1]["exception"]
    assert lines[2]["message"] == f"peer said {HOSTILE}"


def test_a_line_begins_with_time_level_and_name(pipe: tuple[int, int]) -> None:
    read = configured(pipe)
    write_one_of_each()
    assert all(list(json.loads(line))[:3] == ["timestamp", "level", "event"] for line in read().splitlines())


def test_times_are_iso_in_utc(pipe: tuple[int, int]) -> None:
    read = configured(pipe)
    before = datetime.now(UTC)
    structlog.get_logger().info("gateway.started")
    timestamp = datetime.fromisoformat(json.loads(read())["timestamp"])
    assert before <= timestamp <= datetime.now(UTC)


def test_on_a_terminal_lines_are_text_that_cannot_drive_it(terminal: tuple[int, int]) -> None:
    read = configured(terminal)
    structlog.get_logger().info("consumer.closed", code=4000, reason=HOSTILE)
    logging.getLogger("websockets.server").error("peer said %s", HOSTILE)
    text = read()
    assert text.count("\n") == 2
    assert "consumer.closed" in text
    assert "\x1b[2J" not in text


def test_json_can_be_had_on_a_terminal(terminal: tuple[int, int]) -> None:
    read = configured(terminal, log_format="json")
    structlog.get_logger().info("gateway.started")
    assert json.loads(read())["event"] == "gateway.started"


def test_text_can_be_had_off_a_terminal_without_colours(pipe: tuple[int, int]) -> None:
    read = configured(pipe, log_format="console")
    structlog.get_logger().info("gateway.started", port=1)
    text = read()
    assert "gateway.started" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(("level", "count"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_what_is_below_the_level_is_not_written(level: str, count: int, pipe: tuple[int, int]) -> None:
    read = configured(pipe, log_level=level)
    log = structlog.get_logger()
    for method in (log.debug, log.info, log.warning, log.error):
        method("gateway.tested")
    assert len(read().splitlines()) == count


def test_libraries_tell_of_trouble_only_unless_debugging(pipe: tuple[int, int]) -> None:
    read = configured(pipe, log_level="info")
    logging.getLogger("websockets.server").info("connection open")
    assert read() == ""
    read = configured(pipe, log_level="debug")
    logging.getLogger("websockets.server").info("connection open")
    assert json.loads(read())["message"] == "connection open"


def test_a_log_nobody_reads_stops_nobody() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    configure_logs(make_settings({}), writer)
    write_one_of_each()
    os.close(writer)


def test_what_is_no_unicode_is_written_escaped(pipe: tuple[int, int]) -> None:
    for form in ("json", "console"):
        read = configured(pipe, log_format=form)
        structlog.get_logger().info("file.read", path="\udcff")
        assert "udcff" in read()


def test_a_traceback_on_a_terminal_is_indented_and_cannot_drive_it(terminal: tuple[int, int]) -> None:
    def complain() -> None:
        raise ValueError(HOSTILE + "\u2028\x85\udcff")

    read = configured(terminal)
    try:
        complain()
    except ValueError:
        structlog.get_logger().exception("stream.failed")
    lines = read().splitlines()
    assert "stream.failed" in lines[0]
    assert len(lines) > 3
    assert all(line.startswith("    ") for line in lines[1:]), lines
    assert "\x1b[2J" not in "".join(lines)


def test_a_log_nobody_reads_blocks_nobody_and_tells_what_was_lost(pipe: tuple[int, int]) -> None:
    read = configured(pipe, log_format="json")
    log = structlog.get_logger()
    for number in range(5000):
        log.info("test.filled", number=number)
    first = read_all(pipe[0]).decode().splitlines()
    log.info("test.emptied")
    after = [json.loads(line) for line in read().splitlines()]
    numbers = [json.loads(line)["number"] for line in first]
    assert numbers == list(range(len(numbers)))
    assert [(entry["event"], entry["lines_lost"]) for entry in after] == [("test.emptied", 5000 - len(numbers))]


def test_a_line_that_had_room_in_part_ends_before_the_next(pipe: tuple[int, int]) -> None:
    read = configured(pipe, log_format="json")
    log = structlog.get_logger()
    for _ in range(3):
        log.info("test.long", text="x" * 30_000)
    cut = read_all(pipe[0])
    log.info("test.emptied")
    lines = (cut.decode() + read()).splitlines()
    assert [line[:1] for line in lines] == ["{"] * len(lines)
    assert json.loads(lines[-1])["event"] == "test.emptied"


def read_all(reader: int) -> bytes:
    """Everything that is in a pipe."""
    os.set_blocking(reader, False)
    pieces = []
    try:
        while piece := os.read(reader, 65_536):
            pieces.append(piece)
    except BlockingIOError:
        os.set_blocking(reader, True)
    return b"".join(pieces)


@pytest.mark.parametrize("may_open", [True, False])
def test_a_terminal_that_nobody_reads_holds_nobody_up_and_what_is_lost_is_told(
    terminal: tuple[int, int], monkeypatch: pytest.MonkeyPatch, *, may_open: bool
) -> None:
    """Nor does one that can't be opened once more, as one of another user."""
    if not may_open:
        monkeypatch.setattr(os, "open", refuse_terminals)
    reader, writer = terminal
    configure_logs(make_settings({}), writer)
    log = structlog.get_logger()
    for number in range(2000):
        log.info("consumer.closed", number=number)
    os.set_blocking(reader, False)
    shown = b""
    while b"lines_lost" not in shown:
        with suppress(BlockingIOError):
            shown += os.read(reader, 65536)
        log.info("consumer.closed", number=-1)
    assert b"number\x1b[0m=\x1b[35m0" in shown
    assert os.get_blocking(writer), "the shell has the same descriptor"


def refuse_terminals(path: str, flags: int, *rest: int, _open: Callable[..., int] = os.open) -> int:
    if path.startswith(("/dev/", "/proc/")) and path != os.devnull:
        raise PermissionError(path)
    return _open(path, flags, *rest)


LAST_WORDS = """
import os
from deltawire.gateway.logs import configure_logs, get_logger
from deltawire.gateway.configuring import make_settings
from tests.cli import test_logs
os.open = test_logs.refuse_terminals
configure_logs(make_settings({}))
for number in range(100):
    get_logger().info("test.ended", number=number)
"""


async def test_what_is_said_last_reaches_a_terminal_that_could_not_be_opened(terminal: tuple[int, int]) -> None:
    reader, writer = terminal
    process = await create_subprocess_exec(sys.executable, "-c", LAST_WORDS, cwd=ROOT, stderr=writer)
    shown = b""
    while b"number\x1b[0m=\x1b[35m99" not in shown:
        shown += await to_thread(os.read, reader, 65536)
    assert await process.wait() == 0


async def test_a_process_ends_though_nobody_reads_a_terminal_that_could_not_be_opened(
    terminal: tuple[int, int],
) -> None:
    program = "import deltawire.gateway.logs; deltawire.gateway.logs.LAST_LINES = 0.01\n" + LAST_WORDS.replace(
        "100", "2000"
    )
    process = await create_subprocess_exec(sys.executable, "-c", program, cwd=ROOT, stderr=terminal[1])
    assert await process.wait() == 0


def test_a_pipe_that_another_program_fills_at_the_last_moment_holds_nobody_up(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = pipe
    file = LogFile(writer)
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(PIPE_BUF))
    os.set_blocking(writer, True)
    monkeypatch.setattr(file, "_has_room", lambda: True)  # as there was a moment ago
    file.write("lost\n")
    read_all(reader)
    file.write("kept\n")
    assert read_all(reader) == b"kept\n"
    assert file.tell_lost(None, "", {}) == {"lines_lost": 1}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_lines_that_a_full_disk_does_not_take_are_counted_until_one_says_so(tmp_path: Path) -> None:
    log_file = os.open("/dev/full", os.O_WRONLY)
    configure_logs(make_settings({}), log_file)
    log = structlog.get_logger()
    for _ in range(5):
        log.info("consumer.closed")
    with (tmp_path / "log").open("wb") as room:
        os.dup2(room.fileno(), log_file)
    for _ in range(2):
        log.info("consumer.closed")
    os.close(log_file)
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [line.get("lines_lost") for line in lines] == [5, None]
