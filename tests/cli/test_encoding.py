"""Input as programs of Windows write it: marked UTF-8, UTF-16, lines that end in CRLF."""

from __future__ import annotations

import codecs
import json
from asyncio.subprocess import PIPE
from itertools import groupby
from typing import Any

import pytest

from deltawire.gateway.cli.encoding import NotUtf8Error, Preamble, Utf8Source, recognise_wide
from deltawire.gateway.cli.publish.sources import CANCELLED, open_source
from deltawire.protocol.events import Data, Event, MessageStop, TextDelta
from tests.support.processes import Run, Start

MARK = codecs.BOM_UTF8
EVENTS = (
    b'{"type":"message_start","data":{"message_id":"m1"}}\r\n{"type":"text_delta","data":{"text":"na\xc3\xafve"}}\r\n\r\n'
    b'{"type":"message_stop","data":{"message_id":"m1","stop_reason":"end_turn"}}\r\n'
)
OPENAI = b'data: {"id":"m1","choices":[{"index":0,"delta":{"content":"na\xc3\xafve"},"finish_reason":"stop"}]}\r\n\r\n'
ANTHROPIC = (
    b'event: message_start\r\ndata: {"type":"message_start","message":{"id":"m1"}}\r\n\r\n'
    b'data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":"na\xc3\xafve"}}\r\n\r\n'
    b'data: {"type":"message_stop"}\r\n\r\n'
)
INPUTS = {"events": EVENTS, "text": b"na\xc3\xafve", "openai-chat-sse": OPENAI, "anthropic-sse": ANTHROPIC}


def read(form: str, raw: bytes, size: int = 8192) -> tuple[list[Data], list[str]]:
    complaints: list[str] = []
    source = Utf8Source(open_source(form, complaints.append, complaints.append))
    items = [item for at in range(0, len(raw), size) for item in source.feed(raw[at : at + size])]
    items += source.finish()
    return [item.data if isinstance(item, Event) else item for item in items], complaints


def text_of(items: list[Data]) -> str:
    return "".join(item.text for item in items if isinstance(item, TextDelta))


def kinds(items: list[Data]) -> list[type]:
    """The types of items; of deltas in a row, that of one."""
    return [kind for kind, _ in groupby(type(item) for item in items)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8192])
@pytest.mark.parametrize("form", INPUTS)
def test_a_mark_is_skipped_and_nothing_else(form: str, size: int) -> None:
    items, complaints = read(form, MARK + INPUTS[form], size)
    assert kinds(items) == kinds(read(form, INPUTS[form], size)[0])
    assert (text_of(items), complaints) == ("naïve", [])
    assert read(form, MARK) == ([], [])


def test_a_mark_inside_text_is_text() -> None:
    assert text_of(read("text", b"a" + MARK + b"b", 1)[0]) == "a\ufeffb"


def test_recordings_put_together_may_each_have_a_mark() -> None:
    items, complaints = read("events", (MARK + EVENTS) * 2 + MARK)
    assert (text_of(items), len(items), complaints) == ("naïvenaïve", 6, [])


@pytest.mark.parametrize("form", INPUTS)
@pytest.mark.parametrize("size", [1, 2, 3, 8192])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_a_wide_encoding_is_named(form: str, encoding: str, size: int) -> None:
    with pytest.raises(NotUtf8Error, match=encoding[:6].upper()):
        read(form, INPUTS[form].decode().encode(encoding), size)


@pytest.mark.parametrize("mark", [codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE])
def test_a_wide_mark_alone_is_named(mark: bytes) -> None:
    with pytest.raises(NotUtf8Error):
        read("text", mark, 1)


def test_short_wide_text_is_named_at_the_end() -> None:
    with pytest.raises(NotUtf8Error, match="iconv -f UTF-16LE -t UTF-8"):
        read("text", "Hi".encode("utf-16-le"))


@pytest.mark.parametrize(
    "sample",
    [b"", b"H", b"\0", b"H\0", b"Hi", b"sh\0-c\0echo hi\0", b"\0\0\0\0\0\0", b"\xff", b"\xef\xbb", "日本語".encode()],
)
def test_what_may_be_utf8_is_not_named(sample: bytes) -> None:
    assert recognise_wide(sample) is None


def test_what_can_be_no_mark_goes_on_at_once() -> None:
    preamble = Preamble()
    assert [preamble.feed(piece) for piece in (b"H", b"\xef", b"", b"\xbb", b"\xbf")] == [
        b"H",
        b"\xef",
        b"",
        b"\xbb",
        b"\xbf",
    ]
    preamble = Preamble()
    assert [preamble.feed(piece) for piece in (b"\xef", b"\xbb", b"x", b"y")] == [b"", b"", b"\xef\xbbx", b"y"]


@pytest.mark.parametrize("start", [b"\xef", b"\xff", b"a\0"])
def test_what_was_held_back_is_not_lost(start: bytes) -> None:
    assert len(text_of(read("text", start)[0])) == len(start)
    complaints: list[str] = []
    source = Utf8Source(open_source("text", complaints.append, complaints.append))
    items = [*source.feed(start), *source.cut_short(CANCELLED)]
    assert [item.stop_reason for item in items if isinstance(item, MessageStop)] == ["cancelled"]
    assert any(isinstance(item, TextDelta) for item in items)


@pytest.mark.parametrize("form", ["text", "openai-chat-sse", "anthropic-sse"])
def test_what_is_no_utf8_is_told_once(form: str) -> None:
    _, complaints = read(form, INPUTS[form].decode().encode("latin-1") * 2, 5)
    assert complaints == ["input is not all UTF-8: U+FFFD replaces what can't be read"]


async def seen(run: Run, url: str) -> list[dict[str, Any]]:
    await run("streams", "close", "demo", f"--url={url}")
    done = await run("tail", "demo", "--json", f"--url={url}")
    return [message for message in map(json.loads, done.output.splitlines()) if "data" in message]


async def test_a_marked_recording_is_published_whole(run: Run, gateway: str) -> None:
    assert await run("publish", "demo", f"--url={gateway}", stdin=MARK + EVENTS) == (0, "", "")
    assert [it["type"] for it in await seen(run, gateway)] == ["message_start", "text_delta", "message_stop"]


@pytest.mark.parametrize("form", INPUTS)
async def test_utf16_is_refused_with_one_line_and_nothing_published(run: Run, gateway: str, form: str) -> None:
    stdin = INPUTS[form].decode().encode("utf-16")
    done = await run("publish", "demo", f"--format={form}", f"--url={gateway}", stdin=stdin)
    assert done.status == 1
    assert done.errors == (
        "deltawire: error: the input is UTF-16, and only UTF-8 can be read: save it as UTF-8, or convert it "
        "(iconv -f UTF-16 -t UTF-8)\n"
    )
    assert await seen(run, gateway) == []


async def test_an_answer_that_turns_out_to_be_utf16_is_ended(start: Start, run: Run, gateway: str) -> None:
    writer = await start("publish", "demo", "--format=text", f"--url={gateway}", stdin=PIPE)
    reader = await start("tail", "demo", f"--url={gateway}")
    assert writer.stdin is not None
    assert reader.stdout is not None
    writer.stdin.write(b"H")  # which may be UTF-8, and goes out at once
    assert await reader.stdout.readexactly(1) == b"H"
    writer.stdin.write(b"\0i\0")
    writer.stdin.close()
    _, errors = await writer.communicate()
    assert (writer.returncode, b"UTF-16LE" in errors) == (1, True)
    events = await seen(run, gateway)
    assert [it["type"] for it in events] == ["message_start", "text_delta", "error", "message_stop"]
    assert events[-1]["data"]["stop_reason"] == "error"
