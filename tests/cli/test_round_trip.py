"""Exported, imported and exported again: the same events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from tests.cli.exports import delta, describe, lines_of
from tests.support.processes import Run
from tests.support.running import complaints
from tests.support.soaking import lasting
from tests.support.transcripts import format_of, transcripts

MANY = lasting(5_000, 100_000)


async def copy(run: Run, stream: str, url: str, tmp_path: Path) -> tuple[list[str], list[str]]:
    """The events of a stream, and of what an import makes of its export."""
    file = tmp_path / "export.ndjson"
    for arguments in (["export", stream, f"--output={file}"], ["import", str(file), "--stream=copy"]):
        done = await run(*arguments, f"--url={url}")
        assert (done.status, done.output, complaints(done.errors)) == (0, "", [])
    again = await run("export", "copy", f"--url={url}")
    assert (again.status, complaints(again.errors)) == (0, [])
    [first, *before], [second, *after] = file.read_text().split("\n"), again.output.split("\n")
    was, is_now = json.loads(first), json.loads(second)
    assert {**was, "id": "copy", "epoch": is_now["epoch"], "created_at": is_now["created_at"]} == is_now
    assert was["epoch"] != is_now["epoch"]
    return before, after


@transcripts
async def test_an_answer_of_a_provider_is_the_same(run: Run, gateway: str, tmp_path: Path, path: Path) -> None:
    flags = (f"--format={format_of(path)}", "--close")
    body = path.read_bytes()  # noqa: ASYNC240 - a small file
    await run("publish", "demo", *flags, f"--url={gateway}", stdin=body)
    before, after = await copy(run, "demo", gateway, tmp_path)
    assert len(before) > 3
    assert before == after


EXTENSION = {"provider": "p", "name": "n", "data": {"big": 2**64 - 1, "small": -(2**63), "part": 0.1, "none": [None]}}
TEXTS = ['ẅ 日本語 🎉 \u2028\u0085 \x00\x1b[2J\r\n\t"\\ \u202e', "e\u0301", "", " ", "\ufeff", "\U0010ffff"]


def events(*said: tuple[str, dict[str, Any]]) -> bytes:
    return b"".join(json.dumps({"type": kind, "data": data}).encode() + b"\n" for kind, data in said)


@pytest.mark.parametrize("close", ["--close", "--keep-open"])
async def test_any_text_and_a_message_in_progress_are_the_same(
    run: Run, gateway: str, tmp_path: Path, close: str
) -> None:
    said = events(
        ("message_start", {"message_id": "one"}),
        ("message_start", {"message_id": "zwei ☀", "traceparent": ""}),
        *(("text_delta", {"text": text, "index": 0}) for text in TEXTS),
        *(("thinking", {"thinking": text, "choice": 1}) for text in TEXTS),
        ("message_stop", {"message_id": "one", "stop_reason": ""}),
        ("message_start", {"message_id": "one"}),
        ("message_stop", {"message_id": "one", "stop_reason": "end_turn"}),
        ("message_stop", {"message_id": "never begun", "stop_reason": "end_turn"}),
        ("extension", EXTENSION),
        ("error", {"error": "x", "retryable": False}),
        ("message_start", {"message_id": "in progress"}),
        ("text_delta", {"text": "and"}),
    )
    assert await run("publish", "demo", close, f"--url={gateway}", stdin=said) == (0, "", "")
    before, after = await copy(run, "demo", gateway, tmp_path)
    assert len(before) == said.count(b"\n") + 1
    assert before == after


@pytest.mark.soak
async def test_a_great_many_events_are_the_same(run: Run, tmp_path: Path) -> None:
    settings = Settings(port=0, drain_timeout=0, retention_events=MANY, retention_bytes=10**9)
    file = lines_of(describe(MANY), *(delta(seq, f"word {seq} ") for seq in range(1, MANY + 1)))
    async with Gateway(settings) as gateway:
        done = await run("import", f"--url={gateway.url}", stdin=file)
        assert (done.status, done.output, complaints(done.errors)) == (0, "", [])
        before, after = await copy(run, "demo", gateway.url, tmp_path)
    assert len(before) == MANY + 1
    assert before == after
