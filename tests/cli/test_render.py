"""What `tail` shows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deltawire.gateway.cli.printable import make_printable
from deltawire.gateway.cli.tail.render import Frames, Screen, Text
from deltawire.gateway.client import Frame
from deltawire.protocol.codec import JSON
from deltawire.protocol.messages import StreamEnd


def frame(type_: str, **fields: Any) -> Frame:
    payload = json.dumps({"type": type_, **fields}).encode()
    return Frame(payload, JSON.decode_to_consumer(payload))


def event(type_: str, **data: Any) -> Frame:
    return frame(type_, seq=1, timestamp="2026-11-22T11:00:00Z", data=data)


ANSWER = [
    event("message_start", message_id="m", model="model-1"),
    event("thinking", thinking="let me", index=0),
    event("thinking", thinking=" see", index=0),
    event("content_end", index=0),
    event("text_delta", text="Hel", index=1),
    event("text_delta", text="lo\n", index=1),
    event("content_start", index=2, kind="tool_use", id="t", name="weather"),
    event("tool_delta", index=2, partial_json='{"city":'),
    event("tool_delta", index=2, partial_json='"Oslo"}'),
    event("usage", prompt_tokens=1, completion_tokens=2, total_tokens=3),
    event("usage", prompt_tokens=10, completion_tokens=20, total_tokens=30, cached_tokens=4),
    event("message_stop", message_id="m", stop_reason="tool_use"),
]


def shown(frames: list[Frame], *, colour: bool = False) -> str:
    screen = Screen(colour=colour)
    return "".join(map(screen.show, frames)) + screen.end(StreamEnd(seq=12, reason="closed"))


def test_a_person_sees_text_thinking_tools_stop_reason_and_the_last_usage() -> None:
    assert shown(ANSWER) == (
        "[model-1]\nlet me see\nHello\n"
        '[tool_use weather] {"city":"Oslo"}\n'
        "[stop: tool_use]\n[10 prompt + 20 completion = 30 tokens (4 cached)]\n[stream ended: closed]\n"
    )


def test_what_comes_ahead_is_a_line_with_its_number() -> None:
    copies = [
        ("error", {"error": "no\x1b[2J"}, "error: no"),
        ("message_stop", {"message_id": "m", "stop_reason": "end_turn"}, "stop: end_turn"),
        (
            "usage",
            {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
            "1 prompt + 2 completion = 3 tokens",
        ),
        ("text_delta", {"text": "x"}, "text_delta"),
        ("picture", {}, "urgent: an event that this version does not know"),
    ]
    for type_, data, words in copies:
        copy = {"type": type_, "seq": 9, "timestamp": "2026-11-22T11:00:00Z", "data": data}
        assert words in shown([frame("urgent", event=copy)])
        assert "\x1b" not in shown([frame("urgent", event=copy)])
        warnings: list[str] = []
        assert Text(warnings.append).show(frame("urgent", event=copy)) == ""
        assert words in warnings[0]
    assert shown([frame("urgent", event=copy | {"type": "error", "data": {"error": "x"}})]).startswith(
        "[urgent, event 9: error: x]\n"
    )


def test_thinking_is_dimmed_and_text_is_not() -> None:
    text = shown([event("thinking", thinking="hm"), event("text_delta", text="yes")], colour=True)
    assert text.startswith("\x1b[2mhm\x1b[0m\nyes\n")


def test_each_choice_begins_a_line_that_names_it() -> None:
    frames = [
        event("text_delta", text="a", choice=0),
        event("text_delta", text="b", choice=1),
        event("text_delta", text="c", choice=1),
    ]
    assert shown(frames).startswith("a\n[choice 1] bc\n")


def test_usage_after_the_stop_is_shown_when_it_comes() -> None:
    frames = [
        event("message_stop", message_id="m", stop_reason="stop"),
        event("usage", prompt_tokens=1, completion_tokens=2, total_tokens=3),
    ]
    assert shown(frames).startswith("[stop: stop]\n[1 prompt + 2 completion = 3 tokens]\n")


def test_usage_that_no_stop_came_for_is_shown_at_the_end() -> None:
    frames = [event("usage", prompt_tokens=1, completion_tokens=2, total_tokens=3, reasoning_tokens=1)]
    assert shown(frames).startswith("[1 prompt + 2 completion = 3 tokens (1 reasoning)]\n")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"first": 3, "seq": 9, "reason": "dropped"}, "[events 3–9 were dropped: this reader is too slow]"),
        ({"first": 3, "seq": 9, "reason": "evicted"}, "[events 3–9 are no longer held]"),
        ({"first": 1, "seq": 0, "reason": "epoch_changed"}, "[the stream has restarted]"),
        ({"first": 1, "seq": 4, "reason": "epoch_changed"}, "[the stream has restarted: its events 1–4 are gone]"),
    ],
)
def test_a_gap_is_said_on_a_line_of_its_own(fields: dict[str, Any], words: str) -> None:
    assert shown([event("text_delta", text="half"), frame("gap", **fields)]).startswith(f"half\n{words}\n")


def test_an_error_event_is_said_with_its_code() -> None:
    assert shown([event("error", error="try\nlater", code="overloaded")]).startswith(
        "[error: try later (overloaded)]\n"
    )


@pytest.mark.parametrize("character", [*map(chr, [*range(9), *range(11, 32), *range(127, 160)]), "\u202e", "\u2066"])
def test_no_control_character_reaches_the_terminal(character: str) -> None:
    hostile = f"a{character}[2Jb"
    frames = [
        event("text_delta", text=hostile),
        event("thinking", thinking=hostile),
        event("tool_delta", index=0, partial_json=hostile),
        event("content_start", index=0, kind=hostile, name=hostile),
        event("message_start", message_id=hostile, model=hostile),
        event("message_stop", message_id=hostile, stop_reason=hostile),
        event("error", error=hostile, code=hostile),
    ]
    assert character not in shown(frames)


ESCAPES = [
    "\x1b]52;c;aGk=\x07",
    "\x1b[2J",
    "\x1b]8;;http://x\x1b\\y",
    "\x9b31m",
    "\x9d0;title\x9c",
    "\u202eabc",
    "\x1bc",
]


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("kind", ["text_delta", "thinking", "tool_delta"])
def test_an_escape_cut_between_deltas_drives_nothing(kind: str, size: int) -> None:
    hostile = "see ".join(ESCAPES)
    name = {"text_delta": "text", "thinking": "thinking", "tool_delta": "partial_json"}[kind]
    pieces = [hostile[at : at + size] for at in range(0, len(hostile), size)]
    text = shown([event(kind, index=0, **{name: piece}) for piece in pieces])
    assert text.startswith("␛]52;c;aGk=␇see ␛[2Jsee ␛]8;;http://x␛\\ysee \ufffd31msee ")
    assert text.replace("\n", "").isprintable()


def test_newline_and_tab_are_text() -> None:
    assert make_printable("a\n\tb\x1b") == "a\n\tb␛"


LINES = "one\r\n\r\ntwo\r\n"


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 20])
def test_crlf_is_the_end_of_a_line_however_it_is_cut(size: int) -> None:
    pieces = [LINES[at : at + size] for at in range(0, len(LINES), size)]
    frames = [event("text_delta", text=piece) for piece in pieces]
    assert shown(frames) == "one\n\ntwo\n[stream ended: closed]\n"


@pytest.mark.parametrize("size", [1, 2, 20])
def test_a_cr_alone_is_a_mark_and_overwrites_nothing(size: int) -> None:
    text = "10%\r20%\r\rrm -rf"
    frames = [event("thinking", thinking=text[at : at + size]) for at in range(0, len(text), size)]
    assert shown(frames).startswith("10%␍20%␍␍rm -rf\n")


def test_a_cr_at_the_end_of_a_block_is_part_of_the_end_of_its_line() -> None:
    frames = [
        event("thinking", thinking="hm\r"),
        event("text_delta", text="\r"),
        event("text_delta", text="yes\r"),
        event("message_stop", message_id="m", stop_reason="stop\r\nreally"),
    ]
    assert shown(frames).startswith("hm\n␍yes\n[stop: stop really]\n")


def test_what_is_not_an_event_or_gap_shows_nothing() -> None:
    assert Screen(colour=False).show(frame("caught_up", seq=3)) == ""
    assert Screen(colour=False).show(event("extension", provider="p", name="n", data=1)) == ""
    assert Screen(colour=False).show(Frame(b"{}", None)) == ""


def test_interrupting_ends_an_open_line_once() -> None:
    screen = Screen(colour=False)
    screen.show(event("text_delta", text="half"))
    assert [screen.interrupt(), screen.interrupt()] == ["\n", ""]


def test_off_a_terminal_only_the_text_is_written_and_exactly() -> None:
    warnings: list[str] = []
    text = Text(warnings.append)
    frames = [*ANSWER, event("text_delta", text="\x1b[31m\r"), event("error", error="late"), frame("caught_up", seq=1)]
    written = "".join(map(text.show, frames)) + text.interrupt() + text.end(None)
    assert written == "Hello\n\x1b[31m\r"
    assert warnings == ["error: late"]


def test_off_a_terminal_a_gap_is_told_and_not_written() -> None:
    warnings: list[str] = []
    assert Text(warnings.append).show(frame("gap", first=1, seq=2, reason="evicted")) == ""
    assert warnings == ["events 1–2 are no longer held"]


def test_frames_are_printed_byte_for_byte_off_a_terminal() -> None:
    payload = '{"type":"text_delta","seq":1,"data":{"text":"é\x9b"}}'
    frames = Frames(on_terminal=False)
    assert frames.show(Frame(payload.encode(), None)) + frames.interrupt() + frames.end(None) == payload + "\n"


def test_frames_on_a_terminal_are_equal_json_that_drives_nothing() -> None:
    payload = '{"type":"text_delta",\r"seq":1,"data":{"text":"é\x9b2J\x7f\u202e\u200f\u2066\u2028"}}'
    line = Frames(on_terminal=True).show(Frame(payload.encode(), None))
    assert not set(line) & set("\x9b\x7f\r\u202e\u200f\u2066\u2028")
    assert json.loads(line) == json.loads(payload)
