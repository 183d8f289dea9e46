from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltawire.protocol.inline_thinking import ThinkingSplitter


def split(*pieces: str) -> list[tuple[str, str]]:
    """The text in turns, however it came."""
    splitter = ThinkingSplitter()
    out: list[tuple[str, str]] = []
    for kind, text in [*(item for piece in pieces for item in splitter.feed(piece)), *splitter.finish()]:
        if out and out[-1][0] == kind:
            out[-1] = (kind, out[-1][1] + text)
        else:
            out.append((kind, text))
    return out


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        ("Hello", [("text", "Hello")]),
        ("<think>Hm</think>Hello", [("thinking", "Hm"), ("text", "Hello")]),
        ("<think>\nHm\n</think>\n\nHello", [("thinking", "\nHm\n"), ("text", "\n\nHello")]),
        ("<think></think>Hello", [("text", "Hello")]),
        ("a<think>b</think>c<think>d", [("text", "a"), ("thinking", "b"), ("text", "c"), ("thinking", "d")]),
        ("<think>a<think>b</think>c", [("thinking", "a<think>b"), ("text", "c")]),
        ("a</think>b", [("text", "a</think>b")]),
        ("a <thinking> <think", [("text", "a <thinking> <think")]),
        ("use `<think>` here", [("text", "use `<think>` here")]),
        ("use ``<think>` ``, <think>b", [("text", "use ``<think>` ``, "), ("thinking", "b")]),
        ("it`s\n<think>b", [("text", "it`s\n"), ("thinking", "b")]),
        ("```xml\n<think>\n</think>\n```\n<think>b", [("text", "```xml\n<think>\n</think>\n```\n"), ("thinking", "b")]),
        ("<think>`</think>`<think>b", [("thinking", "`"), ("text", "`<think>b")]),
    ],
)
def test_tags_count_everywhere_but_in_code(text: str, turns: list[tuple[str, str]]) -> None:
    assert split(text) == turns
    assert split(*text) == turns


@given(
    st.lists(st.sampled_from(["<think>", "</think>", "<", "`", "```", "\n", "a", "think>", "<thi", "nk>"])), st.data()
)
def test_every_split_gives_the_same_and_loses_nothing_but_tags(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    cut = data.draw(st.integers(0, len(text)))
    assert split(text[:cut], text[cut:]) == split(text) == split(*text)
    lost = Counter(text)
    lost.subtract("".join(piece for _, piece in split(text)))
    ends, starts = lost["/"], lost["<"] - lost["/"]
    assert lost == Counter({**dict.fromkeys(lost, 0), **Counter("<think>" * starts + "</think>" * ends)})


def test_text_is_held_back_no_longer_than_needed() -> None:
    splitter = ThinkingSplitter()
    assert splitter.feed("a <thi") == [("text", "a ")]
    assert splitter.feed("s>") == [("text", "<this>")]
    assert splitter.feed("`") == []
    assert splitter.finish() == [("text", "`")]
    assert splitter.feed("<think>") == [("text", "<think>")], "a backtick was before it"
