"""Bodies as servers of all sorts send them: no text of theirs is lost, whatever its shape and however it is cut.

The text is found by a reader that shares nothing with the translators: it looks for the markers that a body was made
with, wherever these stand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltawire.protocol.codec import JSON
from deltawire.protocol.events import Data, Extension, TextDelta, Thinking, ToolDelta
from deltawire.protocol.providers import TRANSLATORS
from tests.protocol.test_translators import check

MARKER = re.compile(r"<[0-9]+[^<>]*>")
OTHERS = [
    "",
    " ",
    "\n",
    "é",
    "🌍",
    "\u2028",
    "\ud83c",
    "\udf0d",
    "\udc80",
    "{",
    "}",
    '"',
    "\\",
    "`",
    "data: ",
    "[DONE]",
]
"""What a marker may hold beside its number: halves of characters too, which only U+FFFD can stand for."""

markers = st.builds(
    lambda number, inner: f"<{number}{inner}>", st.integers(0, 10**9), st.lists(st.sampled_from(OTHERS)).map("".join)
)
odd = st.sampled_from(
    [None, "", 0, 7.5, float("nan"), float("inf"), 2**70, [], {}, ["x"], {"x": {"y": [1]}}, "odd", True]
)
odd_fields = st.dictionaries(
    st.sampled_from(["novel", "usage", "model", "created", "role", "logprobs", "x"]), odd, max_size=2
)


def parts(text: str) -> st.SearchStrategy[Any]:
    """A text in one of the shapes that servers give it."""
    return st.sampled_from(
        [
            text,
            [text],
            {"text": text},
            [{"type": "text", "text": text}],
            [{"type": "output_text", "text": {"value": text}}],
            [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}],
            [{"type": "reasoning", "summary": [{"type": "summary_text", "text": text}]}],
            [{"type": "novel", "novel": text}],
            [{"type": "refusal", "refusal": text}, None, 7],
        ]
    )


@st.composite
def tool_calls(draw: st.DrawFn) -> Any:
    arguments = draw(st.one_of(markers, markers.map(lambda text: {"a": text}), markers.map(lambda text: [text])))
    function: dict[str, Any] = {"name": draw(st.sampled_from(["", None, "f", "g"])), "arguments": arguments}
    call: dict[str, Any] = {
        "index": draw(st.sampled_from([None, 0, 1, "0", 0.0, 10**6])),
        "id": draw(st.sampled_from([None, "", "a", "b"])),
        "type": draw(st.sampled_from([None, "function", "custom"])),
        draw(st.sampled_from(["function", "custom"])): function,
    }
    return draw(st.sampled_from([[call], call, [call, None], [function | {"index": 0}]]))


@st.composite
def openai(draw: st.DrawFn) -> Any:
    """One chunk."""
    names = ["content", "reasoning_content", "reasoning", "reasoning_details", "refusal", "thinking", "novel"]
    said: dict[str, Any] = {
        name: draw(parts(draw(markers))) for name in draw(st.sets(st.sampled_from(names), max_size=2))
    }
    if draw(st.booleans()):
        said[draw(st.sampled_from(["tool_calls", "function_call"]))] = draw(tool_calls())
    choice: dict[str, Any] = {
        "index": draw(st.sampled_from([0, 0, 0, 1, 5, 200, "1", None])),
        draw(st.sampled_from(["delta", "delta", "delta", "message"])): said | draw(odd_fields),
        "finish_reason": draw(st.sampled_from([None, None, "stop", "null", "length", 7])),
    }
    if draw(st.integers(0, 5)) == 0:
        choice["text"] = draw(markers)
    payload: dict[str, Any] = {"choices": [choice, *draw(st.sampled_from([[], [], [None]]))], **draw(odd_fields)}
    if (chunk_id := draw(st.sampled_from([None, "c-1", "c-1", "c-2", "c-3"]))) is not None:
        payload["id"] = chunk_id
    if draw(st.integers(0, 9)) == 0:
        payload["error"] = draw(
            st.sampled_from([draw(markers), {"message": draw(markers)}, [{"message": draw(markers)}]])
        )
    return payload


@st.composite
def anthropic(draw: st.DrawFn) -> Any:
    """One event."""
    index = draw(st.sampled_from([0, 0, 1, "x"]))
    kind = draw(st.sampled_from(["text", "thinking", "tool_use", "novel"]))
    field = {"tool_use": "input"}.get(kind, kind)
    given_input = draw(st.one_of(markers, markers.map(lambda text: {"a": text})))
    block = {"type": kind, field: given_input if kind == "tool_use" else draw(markers)}
    delta_type, name = draw(
        st.sampled_from(
            [
                ("text_delta", "text"),
                ("thinking_delta", "thinking"),
                ("input_json_delta", "partial_json"),
                ("novel", "x"),
            ]
        )
    )
    payload: dict[str, Any] = draw(
        st.sampled_from(
            [
                {"type": "message_start", "message": {"id": draw(st.sampled_from(["m-1", "m-2"]))} | draw(odd_fields)},
                {"type": "content_block_start", "index": index, "content_block": block},
                {"type": "content_block_delta", "index": index, "delta": {"type": delta_type, name: given_input}},
                {"type": "content_block_stop", "index": index},
                {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": draw(odd_fields)},
                {"type": "message_stop"},
                {"type": "error", "error": {"message": draw(markers)}},
                {"type": "message", "id": "m-3", "content": [block], "stop_reason": "end_turn"},
            ]
        )
    )
    return payload | draw(odd_fields)


@st.composite
def bodies(draw: st.DrawFn, payloads: st.SearchStrategy[Any]) -> bytes:
    """Events in one of the framings, with noise between them."""
    ends = draw(st.sampled_from(["\n\n", "\n\n", "\n", "\r\n\r\n", "\r"]))
    prefix = draw(st.sampled_from(["data: ", "data: ", "data:", ""]))
    escaped = draw(st.booleans())
    out = b""
    for payload in draw(st.lists(payloads, max_size=8)):
        item = [payload] if draw(st.integers(0, 9)) == 0 else payload
        text = json.dumps(item, ensure_ascii=escaped)
        out += (prefix + text + ends).encode("utf-8", "surrogatepass")
        noise = draw(
            st.sampled_from(["", "", "", "", ": comment\n", "data: ping\n\n", "data: [DONE]\n\n", "<p>x</p>\n\n"])
        )
        out += noise.encode()
    return out


def said_by(events: list[Data]) -> str:
    """All that events say, neighbours in one block put together."""
    flows: dict[tuple[object, ...], str] = {}
    rest = []
    for data in events:
        match data:
            case TextDelta(text, index, choice) | Thinking(text, index, choice):
                key = (data.type, index, choice)
                flows[key] = flows.get(key, "") + text
            case ToolDelta(index, text, choice):
                flows[data.type, index, choice] = flows.get((data.type, index, choice), "") + text
            case Extension():
                rest.append(json.dumps(data.data, ensure_ascii=False))
            case _:
                rest.append(JSON.encode(data).decode())
    return "\n".join([*flows.values(), *rest])


def numbers_in(text: str) -> set[str]:
    """The numbers of all markers."""
    return set(re.findall(r"<([0-9]+)", text))


def valid(text: str) -> str:
    """A text as it can travel at best: halves of one character that stand together are one."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


CASES = [("openai-chat-sse", openai()), ("anthropic-sse", anthropic())]


@pytest.mark.parametrize(("name", "payloads"), CASES, ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.parametrize("inline_thinking", [False, True])
@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_no_text_is_lost_in_any_shape_framing_or_cut(
    name: str, payloads: st.SearchStrategy[Any], *, inline_thinking: bool, data: st.DataObject
) -> None:
    body = data.draw(bodies(payloads))
    edges = [0, *sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6))), len(body)]
    translator = TRANSLATORS[name](inline_thinking=inline_thinking)
    events = [item for start, end in pairwise(edges) for item in translator.feed(body[start:end])] + translator.finish()
    check(events)
    whole = TRANSLATORS[name](inline_thinking=inline_thinking)
    assert whole.feed(body) + whole.finish() == events
    assert numbers_in(body.decode(errors="replace")) <= numbers_in(said_by(events))


@pytest.mark.parametrize(("name", "payloads"), CASES, ids=lambda value: value if isinstance(value, str) else "")
@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_a_body_that_is_cut_short_or_spoilt_loses_nothing_that_can_still_be_read(
    name: str, payloads: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    body = bytearray(data.draw(bodies(payloads)))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(body)))
        body[start : start + data.draw(st.integers(0, 5))] = data.draw(st.binary(max_size=3))
    translator = TRANSLATORS[name]()
    events = translator.feed(bytes(body)) + translator.finish()
    check(events)


def one_by_one(make: Callable[[str], dict[str, Any]], text: str) -> list[bytes]:
    return [b"data: %b\n\n" % json.dumps(make(piece)).encode() for piece in text]


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("openai-chat-sse", lambda text: {"choices": [{"delta": {"content": text}}]}),
        (
            "anthropic-sse",
            lambda text: {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
        ),
    ],
)
@settings(deadline=None)
@given(text=st.text(st.sampled_from("aé🌍💀\U0010ffff"), min_size=1))
def test_a_text_that_comes_in_halves_of_characters_is_whole(
    name: str, make: Callable[[str], dict[str, Any]], text: str
) -> None:
    wide = text.encode("utf-16-le")
    halves = "".join(chr(int.from_bytes(wide[i : i + 2], "little")) for i in range(0, len(wide), 2))
    translator = TRANSLATORS[name]()
    events = [data for event in one_by_one(make, halves) for data in translator.feed(event)] + translator.finish()
    assert "".join(data.text for data in events if isinstance(data, TextDelta)) == text
