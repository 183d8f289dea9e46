"""Which part of a growing Markdown text is finished."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltawire.gateway.cli.tail.blocks import MAX_BLOCK, Block, Splitter

MARKUP = """
one
# head
---
===
- item
  - nested
  more
1. first
2. second
   text
> quote
```py
```
~~~
    code
\tcode
- |-
***
`````
````x`
  ```
a--- b
| a | b |
日本語 🎉
\u05e9\u05dc\u05d5\u05dd
"""
LINES = st.sampled_from(MARKUP.split("\n"))
TEXTS = st.lists(LINES | st.text("ab `#->|\n", max_size=12), max_size=14).map("\n".join)


def split(text: str, at: int = 0) -> tuple[list[Block], Block]:
    splitter = Splitter()
    finished = [*splitter.feed(text[:at]), *splitter.feed(text[at:])]
    return finished, splitter.rest()


def sources(text: str) -> list[str]:
    finished, rest = split(text)
    return [block.source for block in (*finished, rest) if block.source]


@given(text=TEXTS, data=st.data())
def test_all_blocks_together_are_the_text_however_it_is_cut(text: str, data: st.DataObject) -> None:
    finished, rest = split(text, data.draw(st.integers(0, len(text))))
    assert "".join(block.source for block in finished) + rest.source == text
    assert (finished, rest) == split(text)
    assert all(block.source for block in finished)


@given(text=TEXTS)
def test_a_text_fed_by_characters_gives_the_same_blocks(text: str) -> None:
    splitter = Splitter()
    finished = [block for character in text for block in splitter.feed(character)]
    assert (finished, splitter.rest()) == split(text)


@given(text=TEXTS, more=TEXTS)
def test_what_is_finished_stays_as_it_is(text: str, more: str) -> None:
    finished, _ = split(text)
    assert split(text + more)[0][: len(finished)] == finished


@pytest.mark.parametrize(
    "blocks",
    [
        ["one\ntwo\n\n", "three"],
        ["# head\n", "text\n", "## head\n", "text"],
        ["text\n---\nstill\n\n", "---\n", "text\n", "***\n", "text"],
        ["```py\na\n\n# b\n- c\n```\n", "\ntext"],
        ["````\n```\n````\n", "text"],
        ["~~~ `x`\n```\n    ~~~\n~~~\n", "text"],
        ["text\n", "```\na\n"],
        ["text ```\nmore\n\n", "text"],
        ["- a\n", "- b\n  c\n\n  d\n\n", "- e\n\n", "text"],
        ["1. a\n   ```\n   x\n\n   y\n   ```\n", "2. b\nlazy\n", "# head\n", "text"],
        ["-\n  a\n\n", "text"],
        ["-      code\n\n  more\n\n", "text"],
        ["text\n2. no list\n\n", "text\n", "1. list\n", "2. list"],
        ["> a\n> - b\nlazy\n\n", "> c\n", "- d"],
        ["> a\n", "---\n", "text\n", "> b"],
        ["| a | b |\n|---|---|\n| 1 | 2 |\n\n", "text"],
        ["    code\n\n    code\n", "text"],
        ["\n\n\ntext\n\n", "\ntext"],
    ],
)
def test_a_block_ends_where_the_next_one_begins(blocks: list[str]) -> None:
    assert sources("".join(blocks) + "\n") == [*blocks[:-1], blocks[-1] + "\n"]


def test_items_of_a_list_are_told_from_other_blocks() -> None:
    finished, rest = split("- a\n- b\n\ntext\n\n- c")
    assert [block.is_item for block in finished] == [True, True, False]
    assert rest == Block("- c", is_item=True)


def test_code_that_is_too_long_is_cut_at_a_line_and_goes_on_as_code() -> None:
    line = "x" * 99 + "\n"
    finished, rest = split(f"```py\n{line * 100}```\ntext\n\n")
    assert rest.source == ""
    assert [block.opening for block in finished] == ["", "```py\n", "```py\n", ""]
    assert all(len(block.source) <= MAX_BLOCK and block.source.endswith("\n") for block in finished)
    assert finished[-1].source == "text\n\n"


def test_a_line_that_is_too_long_is_cut_between_words() -> None:
    finished, rest = split("word " * 2000)
    assert [len(block.source) for block in finished] == [4095, 4095]
    assert all(block.source.endswith("word ") for block in (*finished, rest))
    assert [len(block.source) for block in split("x" * 10_000)[0]] == [MAX_BLOCK, MAX_BLOCK]


def test_one_block_that_never_ends_leaves_little_to_draw_again() -> None:
    for endless in ("- a\n  b\n", "> a\n", "a\n", "| a |\n", "\n", "x"):
        splitter = Splitter()
        splitter.feed("```\n" if endless == "a\n" else "")
        for _ in range(MAX_BLOCK // 8):
            splitter.feed(endless * 16)
            assert len(splitter.rest().source) <= MAX_BLOCK
