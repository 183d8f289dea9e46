"""Bodies as servers of all sorts send them: no text of theirs is lost, whatever its shape and however it is cut.

The text is found by a reader that shares nothing with the translators: it looks for the markers that a body was made
with, wherever these stand.
"""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltawire.protocol.codec import JSON
from deltawire.protocol.events import Data, Extension, TextDelta, Thinking, ToolDelta
from deltawire.protocol.providers import TRANSLATORS
from tests.protocol.test_translators import check
from tests.support.provider_bodies import FORMS

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


arguments = st.one_of(markers, markers.map(lambda text: {"a": text}), markers.map(lambda text: [text]))
indices = st.sampled_from([0, 0, 0, 1, 2, "1", "x", None, 10**6])
ids = st.sampled_from(["a", "a", "b", "c", "", None])
names = st.one_of(st.sampled_from(["f", "f", None]), markers)


def one_of(*makers: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """One of some objects, with odd fields."""
    return st.builds(lambda chunk, fields: chunk | fields, st.one_of(*makers), odd_fields)


def of_type(*types: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object of one of some types, with these fields."""
    return st.fixed_dictionaries({"type": st.sampled_from(types), **fields})


text_parts = of_type(
    *("output_text", "refusal", "reasoning_text", "summary_text", "novel"), text=markers, refusal=markers
)
items = one_of(
    of_type("message", "novel", id=ids, content=st.lists(text_parts | st.none(), max_size=2)),
    of_type("reasoning", id=ids, summary=st.lists(text_parts, max_size=2), encrypted_content=markers),
    of_type("function_call", "mcp_call", "x", id=ids, call_id=ids, name=names, arguments=arguments),
    of_type("custom_tool_call", id=ids, name=names, input=arguments),
    of_type("code_interpreter_call", id=ids, code=arguments, outputs=arguments),
)
TEXTS = [
    *("output_text", "refusal", "reasoning_text", "reasoning_summary_text", "function_call_arguments"),
    *("custom_tool_call_input", "mcp_call_arguments", "code_interpreter_call_code"),
]
responses = one_of(st.fixed_dictionaries({"id": ids, "output": st.lists(items | st.none(), max_size=2) | markers}))
openai_responses = one_of(
    of_type(*(f"response.{text}.delta" for text in TEXTS), delta=markers, output_index=indices, item_id=ids),
    of_type(*(f"response.{text}.delta" for text in TEXTS), delta=markers, content_index=indices),
    of_type(
        *(f"response.{text}.done" for text in TEXTS),
        **dict.fromkeys(("text", "refusal", "arguments", "input", "code"), arguments),
        output_index=indices,
    ),
    of_type("response.created", "response.in_progress", response=responses),
    of_type("response.output_item.added", "response.output_item.done", item=items, output_index=indices),
    of_type("response.content_part.added", "response.content_part.done", part=text_parts, output_index=indices),
    of_type("response.output_text.annotation.added", annotation=markers, sequence_number=indices),
    of_type("response.novel", x=markers),
    of_type("error", error=st.fixed_dictionaries({"message": markers})),
    of_type(
        *("response.completed", "response.incomplete", "response.failed"),
        response=st.builds(
            lambda response, error, reason: response | {"error": error, "incomplete_details": {"reason": reason}},
            responses,
            st.none() | markers | st.fixed_dictionaries({"message": markers}),
            st.none() | markers,
        ),
    ),
    st.fixed_dictionaries({"object": st.just("response"), "output": st.lists(items, max_size=2)}),
)

pieces = st.builds(
    lambda path, name, text: {"jsonPath": path, name: text},
    st.sampled_from(["$.a", "$.b[0].c", "$['d']", "$", "x", 7]),
    st.sampled_from(["stringValue", "stringValue", "novel"]),
    markers,
)
calls = one_of(
    st.fixed_dictionaries({"name": names, "args": arguments}),
    st.fixed_dictionaries(
        {
            "partialArgs": st.lists(pieces | st.none(), max_size=3),
            "willContinue": st.sampled_from([True, False, "odd"]),
        },
        optional={"name": names},
    ),
)
gemini_parts = one_of(
    st.fixed_dictionaries({"text": markers}),
    st.fixed_dictionaries({"text": markers, "thought": st.sampled_from([True, False, None, "odd"])}),
    st.fixed_dictionaries({"functionCall": calls}, optional={"thoughtSignature": markers}),
    st.fixed_dictionaries({"inlineData": st.fixed_dictionaries({"data": markers})}),
    st.fixed_dictionaries({"text": st.lists(markers)}),
)
candidates = one_of(
    st.fixed_dictionaries(
        {
            "content": st.fixed_dictionaries(
                {"parts": st.lists(gemini_parts, max_size=3) | gemini_parts, "role": st.sampled_from(["model", "user"])}
            ),
            "finishReason": st.sampled_from([None, None, "STOP", "FINISH_REASON_UNSPECIFIED", 7]) | markers,
        },
        optional={"index": indices, "safetyRatings": st.lists(markers)},
    )
)
gemini = one_of(
    st.fixed_dictionaries({"candidates": st.lists(candidates | st.none(), max_size=2), "responseId": ids}),
    st.fixed_dictionaries({"candidates": st.lists(candidates, min_size=1, max_size=2)}),
    st.fixed_dictionaries({"promptFeedback": st.fixed_dictionaries({"blockReason": markers})}),
    st.fixed_dictionaries({"error": st.fixed_dictionaries({"message": markers, "status": markers})}),
)

said = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("content", "thinking", "images", "novel"), markers.flatmap(parts)),
        "tool_calls": tool_calls(),
    },
)
ollama = one_of(
    st.fixed_dictionaries({"message": said}, optional={"done": st.sampled_from([None, False, "odd"])}),
    st.fixed_dictionaries({"message": said, "created_at": st.just("2026-01-02T03:04:05.678Z") | markers}),
    st.fixed_dictionaries({"message": said, "done": st.just(True)}, optional={"done_reason": st.just(7) | markers}),
    st.fixed_dictionaries({"response": markers.flatmap(parts)}, optional={"thinking": markers.flatmap(parts)}),
    st.fixed_dictionaries({"error": markers.flatmap(parts)}),
    st.fixed_dictionaries({"status": markers}),
)

ai_sdk = one_of(
    of_type("text-start", "reasoning-start", "text-end", "reasoning-end", id=ids),
    of_type("text-delta", "reasoning-delta", id=ids, delta=arguments),
    of_type("text-delta", "reasoning-delta", id=ids, delta=markers, providerMetadata=arguments),
    of_type("tool-input-start", toolCallId=ids, toolName=names, title=names),
    of_type("tool-input-delta", toolCallId=ids, inputTextDelta=markers),
    of_type("tool-input-available", "tool-input-error", toolCallId=ids, toolName=names, input=arguments, title=names),
    of_type("tool-output-available", "tool-output-error", "data-x", toolCallId=ids, output=arguments),
    of_type("start", messageId=ids, messageMetadata=arguments),
    of_type("finish", finishReason=names, messageMetadata=arguments),
    of_type("abort", reason=names),
    of_type("error", errorText=markers),
)

SORTS = ["TEXT_MESSAGE", "REASONING_MESSAGE", "TOOL_CALL", "THINKING_TEXT_MESSAGE"]
ag_ui_fields = {"delta": arguments, "messageId": ids, "toolCallId": ids}
ag_ui = one_of(
    of_type(*(f"{sort}_START" for sort in SORTS), toolCallName=names, role=names, **ag_ui_fields),
    of_type(*(f"{sort}_CONTENT" for sort in SORTS), "TOOL_CALL_ARGS", **ag_ui_fields),
    of_type(*(f"{sort}_CHUNK" for sort in SORTS), toolCallName=names, rawEvent=arguments, **ag_ui_fields),
    of_type(*(f"{sort}_END" for sort in SORTS), **ag_ui_fields),
    of_type("RUN_STARTED", runId=ids, threadId=names),
    of_type("RUN_FINISHED", outcome=names, result=arguments),
    of_type("RUN_FINISHED", outcome=st.fixed_dictionaries({"type": names, "x": markers}), runId=ids),
    of_type("RUN_ERROR", message=markers, code=names),
    of_type("STATE_DELTA", "SUBAGENT_ERROR", "x", message=arguments),
)


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


PAYLOADS = {
    "openai-chat-sse": openai(),
    "openai-responses-sse": openai_responses,
    "anthropic-sse": anthropic(),
    "gemini-sse": gemini,
    "ollama-ndjson": ollama,
    "ai-sdk-sse": ai_sdk,
    "ag-ui-sse": ag_ui,
}


@pytest.mark.parametrize("name", PAYLOADS)
@pytest.mark.parametrize("inline_thinking", [False, True])
@given(data=st.data())
def test_no_text_is_lost_in_any_shape_framing_or_cut(name: str, *, inline_thinking: bool, data: st.DataObject) -> None:
    body = data.draw(bodies(PAYLOADS[name]))
    edges = [0, *sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6))), len(body)]
    translator = TRANSLATORS[name](inline_thinking=inline_thinking)
    events = [item for start, end in pairwise(edges) for item in translator.feed(body[start:end])] + translator.finish()
    check(events)
    whole = TRANSLATORS[name](inline_thinking=inline_thinking)
    assert whole.feed(body) + whole.finish() == events
    assert numbers_in(body.decode(errors="replace")) <= numbers_in(said_by(events))


@pytest.mark.parametrize("name", PAYLOADS)
@given(data=st.data())
def test_a_body_that_is_cut_short_or_spoilt_loses_nothing_that_can_still_be_read(
    name: str, data: st.DataObject
) -> None:
    body = bytearray(data.draw(bodies(PAYLOADS[name])))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(body)))
        body[start : start + data.draw(st.integers(0, 5))] = data.draw(st.binary(max_size=3))
    translator = TRANSLATORS[name]()
    events = translator.feed(bytes(body)) + translator.finish()
    check(events)


@pytest.mark.parametrize("name", FORMS)
@given(text=st.text(st.sampled_from("aé🌍💀\U0010ffff"), min_size=1))
def test_a_text_that_comes_in_halves_of_characters_is_whole(name: str, text: str) -> None:
    form = FORMS[name]
    wide = text.encode("utf-16-le")
    halves = "".join(chr(int.from_bytes(wide[i : i + 2], "little")) for i in range(0, len(wide), 2))
    translator = TRANSLATORS[name]()
    body = b"".join(form.frame(json.dumps(form.delta(half))) for half in halves)
    events = translator.feed(body) + translator.finish()
    assert "".join(data.text for data in events if isinstance(data, TextDelta)) == text
