"""Logs: one line each."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from gateway.config import make_settings
from gateway.telemetry import configure_logs

HOSTILE = "a\x1b[2J\nb"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restored_logs() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def configured(stream: io.StringIO, **values: Any) -> io.StringIO:
    configure_logs(make_settings(values), stream)
    return stream


def write_one_of_each() -> None:
    log = structlog.get_logger()
    log.info("consumer.closed", code=4000, reason=HOSTILE)
    try:
        int(HOSTILE)
    except ValueError:
        log.exception("stream.failed", what=object())
    logging.getLogger("websockets.server").error("peer said %s", HOSTILE)


def test_off_a_terminal_each_line_is_a_json_object() -> None:
    stream = configured(io.StringIO())
    write_one_of_each()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["level"], line["event"]) for line in lines] == [
        ("info", "consumer.closed"),
        ("error", "stream.failed"),
        ("error", "websockets.server.logged"),
    ]
    assert (lines[0]["code"], lines[0]["reason"]) == (4000, HOSTILE)
    assert "ValueError" in lines[1]["exception"]
    assert lines[2]["message"] == f"peer said {HOSTILE}"


def test_a_line_begins_with_time_level_and_name() -> None:
    stream = configured(io.StringIO())
    write_one_of_each()
    assert all(list(json.loads(line))[:3] == ["timestamp", "level", "event"] for line in stream.getvalue().splitlines())


def test_times_are_iso_in_utc() -> None:
    stream = configured(io.StringIO())
    before = datetime.now(UTC)
    structlog.get_logger().info("gateway.started")
    timestamp = datetime.fromisoformat(json.loads(stream.getvalue())["timestamp"])
    assert before <= timestamp <= datetime.now(UTC)


def test_on_a_terminal_lines_are_text_that_cannot_drive_it() -> None:
    stream = configured(Terminal())
    structlog.get_logger().info("consumer.closed", code=4000, reason=HOSTILE)
    logging.getLogger("websockets.server").error("peer said %s", HOSTILE)
    text = stream.getvalue()
    assert text.count("\n") == 2
    assert "consumer.closed" in text
    assert "\x1b[2J" not in text


@pytest.mark.parametrize(("form", "stream", "is_json"), [("json", Terminal(), True), ("console", io.StringIO(), False)])
def test_the_form_can_be_set(form: str, stream: io.StringIO, is_json: bool) -> None:  # noqa: FBT001
    configured(stream, log_format=form)
    structlog.get_logger().info("gateway.started")
    assert stream.getvalue().startswith("{") is is_json
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize(("level", "count"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_what_is_below_the_level_is_not_written(level: str, count: int) -> None:
    stream = configured(io.StringIO(), log_level=level)
    log = structlog.get_logger()
    for method in (log.debug, log.info, log.warning, log.error):
        method("gateway.tested")
    assert len(stream.getvalue().splitlines()) == count


def test_libraries_tell_of_trouble_only_unless_debugging() -> None:
    stream = configured(io.StringIO(), log_level="info")
    logging.getLogger("websockets.server").info("connection open")
    assert stream.getvalue() == ""
    stream = configured(io.StringIO(), log_level="debug")
    logging.getLogger("websockets.server").info("connection open")
    assert json.loads(stream.getvalue())["message"] == "connection open"
