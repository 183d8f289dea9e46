"""What is read as an export, and what is wrong with what is none."""

from __future__ import annotations

from typing import Any

import pytest

from deltawire.gateway.cli import exported
from deltawire.gateway.cli.exported import BadExport, ExportedStream, read_export
from deltawire.protocol.events import Event
from tests.cli.exports import delta, describe, lines_of

STOP = {"message_id": "m", "stop_reason": "end_turn"}
DIGEST = {"first": 1, "characters": 0, "sha256": "0" * 64}
GAP = {"type": "gap", "first": 1, "seq": 2, "reason": "evicted"}


def read(*lines: dict[str, Any] | bytes) -> list[tuple[int, ExportedStream | Event]]:
    raw = b"".join(line if isinstance(line, bytes) else lines_of(line) for line in lines)
    return list(read_export(raw.splitlines(keepends=True)))


def test_streams_and_events_come_with_their_lines_and_without_what_their_gateway_added() -> None:
    stop = {"type": "message_stop", "seq": 4, "data": STOP | {"digest": DIGEST}} | {"timestamp": delta(4)["timestamp"]}
    items = read(describe(4, floor=3, closed=True), GAP, delta(3, "three"), stop, describe(0, id="empty"))
    assert [line for line, _ in items] == [1, 3, 4, 5]
    first, three, four, second = (item for _, item in items)
    assert isinstance(first, ExportedStream)
    assert isinstance(second, ExportedStream)
    assert (first.id, first.floor, first.head, first.closed, second.id) == ("demo", 3, 4, True, "empty")
    [sent] = read(describe(1), delta(1, "three"))[1:]
    assert three == sent[1], "without its seq"
    assert isinstance(four, Event)
    assert "digest" not in repr(four) or "UNSET" in repr(four.data.digest)


@pytest.mark.parametrize(
    ("lines", "number", "reason"),
    [
        ([], 1, "the file is empty"),
        ([delta(1)], 1, "begins with a line of the type `stream`"),
        ([b"hello\n"], 1, "JSON is malformed"),
        ([b"\xff\n"], 1, "JSON is malformed"),
        ([describe(1), b"\n"], 2, "empty message"),
        ([describe(1, format=2)], 1, "format 2 is unknown to this program, which reads 1"),
        ([describe(1, id="a/b")], 1, "stream id 'a/b'"),
        ([describe(-1)], 1, "`$.head`"),
        ([{"type": "streams"}], 1, "Invalid value 'streams'"),
        ([describe(1), {"type": "chapter"}], 2, "Invalid value 'chapter'"),
        ([describe(2), delta(1), b'{"type":"text_delta","seq":2,"da'], 3, "truncated"),
        ([describe(2), delta(1), {"type": "text_delta", "seq": 2, "data": {"text": 5}}], 3, "`$.data.text`"),
        ([describe(2), delta(1)], 2, "stream 'demo' ends after event 1 of 2: it was cut off"),
        ([describe(2), delta(1), describe(0, id="b")], 2, "stream 'demo' ends after event 1 of 2: it was cut off"),
        ([describe(1)], 1, "ends after event 0 of 1"),
        ([describe(2), delta(2)], 2, "event 1 of 2 belongs here, not 2"),
        ([describe(2), delta(1), delta(1)], 3, "event 2 of 2 belongs here, not 1"),
        ([describe(1), delta(1), delta(2)], 3, "event 2 of 1 belongs here, not 2"),
        ([describe(2), delta(2) | {"first": 1}], 2, "event 1 of 2 belongs here"),
        ([describe(3), delta(1), GAP], 3, "after event 1 of 3 this is not the next one"),
        ([describe(1), GAP], 2, "after event 0 of 1 this is not the next one"),
        ([describe(1), GAP | {"seq": 0}], 2, "after event 0 of 1 this is not the next one"),
        ([describe(1), {"type": "caught_up", "seq": 1}], 2, "after event 0 of 1 this is not the next one"),
    ],
)
def test_what_is_wrong_is_told_with_the_number_of_its_line(
    lines: list[dict[str, Any] | bytes], number: int, reason: str
) -> None:
    with pytest.raises(BadExport) as raised:
        read(*lines)
    assert raised.value.line == number
    assert str(raised.value).startswith(f"line {number}: ")
    assert reason in str(raised.value)


def test_a_line_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exported, "MAX_LINE", 1000)
    with pytest.raises(BadExport, match=r"line 2: longer than 1000 bytes"):
        read(describe(1), delta(1, "x" * 1000))
