"""What `tail` shows on a terminal that renders."""

from __future__ import annotations

import re
import time
from os import terminal_size

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltawire.gateway.cli.tail.blocks import MAX_BLOCK
from deltawire.gateway.cli.tail.phase import Phase, make_sign
from deltawire.gateway.cli.tail.region import Line, Region
from deltawire.gateway.client import Frame
from deltawire.protocol.events import (
    ContentStart,
    Data,
    Error,
    Event,
    MessageStart,
    MessageStop,
    TextDelta,
    Thinking,
    ToolDelta,
    Usage,
)
from deltawire.protocol.messages import Gap, Message, StreamEnd
from tests.cli.test_blocks import TEXTS
from tests.cli.test_render import ESCAPES
from tests.support.emulator import Emulator

pytest.importorskip("rich", reason="needs the extra: pip install 'deltawire[tui]'")

from deltawire.gateway.cli.tail.rendered import Rendered

SIZE = terminal_size((60, 10_000))
ENDED = StreamEnd(seq=1, reason="closed")


def frame(message: Data | Message) -> Frame:
    if isinstance(message, Message):
        return Frame(b"", message)
    return Frame(b"", Event(seq=1, data=message))


class Viewer:
    """A view, and the terminal that it is drawn on."""

    def __init__(self, *, colour: bool = False, size: terminal_size = SIZE) -> None:
        self.view = Rendered(colour=colour, size=size)
        self.size = size
        self.written = ""
        self._terminal = Emulator()

    def show(self, *messages: Data | Message) -> None:
        for message in messages:
            self._write(self.view.show(frame(message)))

    def draw(self, now: float = 0.0) -> list[str]:
        self._write(self.view.draw(now, self.size))
        return self._terminal.lines

    def end(self, end: StreamEnd | None = None) -> list[str]:
        self._write(self.view.end(end))
        return self._terminal.lines

    def interrupt(self, line: str) -> None:
        self._write(f"{self.view.interrupt()}{line}\n")

    def _write(self, text: str) -> None:
        self.written += text
        self._terminal.write(text)


def rendered(*messages: Data | Message) -> list[str]:
    viewer = Viewer()
    viewer.show(*messages)
    return viewer.end()


def test_text_is_markdown_and_the_rest_is_said_around_it() -> None:
    lines = rendered(
        MessageStart(message_id="m", model="model-1"),
        Thinking(thinking="let me\nsee"),
        TextDelta(text="# Head\nSome *text*.\n\n- a\n- b\n  1. c\n\n"),
        TextDelta(text="```py\nx = 1\n\ny = 2\n```\n> so\n\n---\nend"),
        ContentStart(index=2, kind="tool_use", id="t", name="weather"),
        ToolDelta(index=2, partial_json='{"city":"Oslo"}'),
        Gap(first=3, seq=9, reason="dropped"),
        Error(error="no\nway", code="overloaded"),
        Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3),
        MessageStop(message_id="m", stop_reason="tool_use"),
        ENDED,
    )
    assert [line.replace("─", "-") for line in lines] == [
        *("[model-1]", "let me", "see", "Head", "", "Some text.", "", " • a", " • b", "    1 c", "", "  x = 1", ""),
        *("  y = 2", "", "▌ so", "", "-" * 60, "", "end"),
        *('[tool_use weather] {"city":"Oslo"}', "[events 3–9 were dropped: this reader is too slow]"),
        *("[error: no way (overloaded)]", "[stop: tool_use]", "[1 prompt + 2 completion = 3 tokens]", ""),
    ]


def test_a_table_has_its_cells_below_each_other() -> None:
    lines = rendered(TextDelta(text="| head | b |\n|---|---|\n| 1 | 2 |\n| 日本 | 4 |\n"))
    assert [line.split() for line in (lines[0], *lines[2:4])] == [["head", "b"], ["1", "2"], ["日本", "4"]]
    assert lines[0].index("b") == lines[2].index("2") == lines[3].index("4") + 2  # two characters of two columns


@given(text=TEXTS, data=st.data())
def test_a_text_looks_the_same_however_it_comes_and_is_drawn(text: str, data: st.DataObject) -> None:
    whole, viewer = Viewer(), Viewer()
    at = 0
    while at < len(text):
        size = data.draw(st.integers(1, 12))
        viewer.show(TextDelta(text=text[at : at + size]))
        at += size
        if data.draw(st.booleans()):
            viewer.draw()
    whole.show(TextDelta(text=text))
    whole.draw()
    assert viewer.end(ENDED) == whole.end(ENDED)


@given(texts=st.lists(st.text("ab \n", min_size=1, max_size=40), max_size=8))
def test_a_long_line_of_thinking_is_wrapped_and_nothing_of_it_is_lost(texts: list[str]) -> None:
    viewer = Viewer(size=terminal_size((20, 10_000)))
    for text in texts:
        viewer.show(Thinking(thinking=text))
        viewer.draw()
    lines = viewer.end()
    assert max(map(len, lines)) <= 20
    assert "".join("".join(lines).split()) == "".join("".join(texts).split())


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_nothing_hostile_reaches_the_terminal(size: int) -> None:
    entities = "&#27;[2J &#x9b;2J &#x202e;abc &#13; [x](http://x/&#x202e;) `&#27;`\n```&#27;c\nx\n```\n"
    hostile = f"{''.join(ESCAPES)}\u2066 \x07\r\x08\n\n{entities}\n<script>alert(1)</script>\n\n[a]: http://b\n"
    viewer = Viewer(colour=True)
    for at in range(0, len(hostile), size):
        viewer.show(TextDelta(text=hostile[at : at + size]), Thinking(thinking=hostile[at : at + size]))
        viewer.draw()
    assert "<script>alert(1)</script>" in " ".join(rendered(TextDelta(text=hostile)))
    assert "[a]: http://b" in " ".join(rendered(TextDelta(text=hostile)))
    viewer.end(ENDED)  # the terminal takes no other sequences than those of styles and of the region
    assert not set(viewer.written) & set("\x9b\x9d\x07\x08\u202e\u2066")


@pytest.mark.parametrize("columns", [3, 20, 40, 80, 500])
@pytest.mark.parametrize(
    "source",
    [
        ">" * 200 + " word",
        "".join(f"{'  ' * level}- a\n" for level in range(60)) + f"{'  ' * 60}- word",
        f"| {'a |' * 90}\n|{'-|' * 90}\n|{'b|' * 89} word |",
        f"| a | b |\n|---|---|\n| {'x' * 600} | word |",
    ],
)
def test_what_does_not_fit_is_shown_all_the_same(columns: int, source: str) -> None:
    viewer = Viewer(size=terminal_size((columns, 10_000)))
    viewer.show(TextDelta(text=source))
    lines = "".join("".join(viewer.end()).split())
    assert "word" in lines
    assert lines.count("x") == source.count("x")


def test_lines_are_as_wide_as_their_characters() -> None:
    viewer = Viewer(size=terminal_size((20, 100)))
    viewer.show(TextDelta(text="日本語" * 10 + " 🎉 שלום مرحبا e\u0301"))
    lines = viewer.end()
    assert [len(line) for line in lines[:3]] == [10, 10, 10]
    assert "שלום" in " ".join(lines)
    assert "e\u0301" in " ".join(lines)


def test_without_colour_there_is_none() -> None:
    viewer = Viewer()
    viewer.show(TextDelta(text="**a** `b` [c](d)\n\n```py\nx = 1\n```\n"), Thinking(thinking="hm"))
    viewer.end()
    styles = [int(code) for codes in re.findall(r"\x1b\[([\d;]+)m", viewer.written) for code in codes.split(";")]
    assert styles
    assert max(styles) < 30  # bold, underlined and so on


def test_only_the_last_lines_of_what_is_not_finished_are_drawn_again() -> None:
    viewer = Viewer(size=terminal_size((60, 5)))
    viewer.show(TextDelta(text="```\n" + "".join(f"{number}\n" for number in range(100))))
    assert viewer.draw() == ["  96", "  97", "  98", "  99"]
    assert viewer.end() == [*(f"  {number}" for number in range(100)), ""]


def test_what_is_said_meanwhile_is_above_what_is_not_finished() -> None:
    viewer = Viewer()
    viewer.show(TextDelta(text="one\n\ntwo"))
    assert viewer.draw() == ["one", "", "two"]
    viewer.interrupt("reconnecting")
    viewer.show(TextDelta(text=" three"))
    assert viewer.draw() == ["one", "reconnecting", "", "two three"]


def test_after_a_stop_everything_begins_below_what_others_wrote() -> None:
    viewer = Viewer()
    viewer.show(TextDelta(text="one"))
    viewer.draw()
    viewer._write(f"{viewer.view.resume()}$ fg\n")
    assert viewer.draw() == ["one", "$ fg", "one"]


def test_each_choice_begins_with_its_name() -> None:
    assert rendered(TextDelta(text="a", choice=0), TextDelta(text="b", choice=1)) == ["a", "[choice 1]", "b", ""]


def test_a_sign_says_what_is_waited_for_until_something_comes_and_when_nothing_does() -> None:
    viewer = Viewer()
    assert viewer.draw(now=0.0) == ["⠋ connecting"]
    viewer.show(MessageStart(message_id="m"))
    assert viewer.draw(now=3.1) == ["⠙ waiting for the first token"]
    assert viewer.draw(now=5.2) == ["⠹ waiting for the first token, nothing for 2 s"]
    viewer.show(TextDelta(text="text"))
    assert viewer.draw(now=5.3) == ["text"]
    assert viewer.draw(now=7.2) == ["text"]
    assert viewer.draw(now=8.4) == ["text", "⠼ writing, nothing for 3 s"]
    viewer.show(TextDelta(text=" more"))
    assert viewer.draw(now=8.5) == ["text more"]
    viewer.view.note_lost()
    assert viewer.draw(now=9.0) == ["text more", "⠋ reconnecting"]
    viewer.show(MessageStop(message_id="m", stop_reason="stop"))
    assert viewer.draw(now=9.1) == ["text more", "[stop: stop]", "⠙ waiting for the next answer"]
    assert viewer.end() == ["text more", "[stop: stop]", ""]
    assert viewer.draw(now=99.0) == ["text more", "[stop: stop]", ""]


def test_the_sign_names_what_came_last() -> None:
    for message, phase in (
        (Thinking(thinking="hm"), Phase.THINKING),
        (ToolDelta(index=0, partial_json="{}"), Phase.CALLING),
        (ContentStart(index=0, kind="tool_use", name="x"), Phase.CALLING),
    ):
        viewer = Viewer()
        viewer.show(message)
        viewer.draw(now=1.0)
        assert viewer.draw(now=4.0)[-1].endswith(f" {phase}, nothing for 3 s")
    assert make_sign(Phase.ENDED, silent=9.0, now=9.0) == ""


ROWS = st.lists(st.text("abc", max_size=3).map(lambda text: Line(text, len(text))), max_size=4)


@given(draws=st.lists(st.tuples(ROWS, ROWS, st.sampled_from([80, 81])), max_size=8))
def test_a_region_is_below_all_that_is_finished(draws: list[tuple[list[Line], list[Line], int]]) -> None:
    region, terminal, finished = Region(), Emulator(), list[str]()
    for done, lines, width in draws:
        written = region.draw(done, lines, width)
        terminal.write(written)
        finished += [line.text for line in done]
        assert terminal.lines == finished + ([line.text for line in lines] or [""])


def test_lines_that_a_narrower_terminal_has_wrapped_are_all_erased() -> None:
    region = Region()
    region.draw([], [Line("a" * 70, 70), Line("b" * 30, 30)], 80)
    assert region.draw([], [Line("c", 1)], 40).startswith("\x1b[2A\r")


@pytest.mark.timed
def test_a_delta_costs_the_same_however_long_the_answer_is() -> None:
    viewer = Viewer()
    paragraph = TextDelta(text="word *word* " * 20)

    def cost() -> float:
        began = time.process_time()
        for _ in range(25):
            viewer.show(paragraph, TextDelta(text="\n\n"))
            viewer.view.draw(0.0, SIZE)
        return time.process_time() - began

    first = min(cost() for _ in range(3))
    for _ in range(8_000):
        viewer.view.show(frame(TextDelta(text="word ")))
        if viewer.view.is_behind:
            viewer.view.draw(0.0, SIZE)
    assert min(cost() for _ in range(3)) < 3 * first


def test_what_is_kept_undrawn_is_told_to_be_much() -> None:
    viewer = Viewer()
    viewer.show(TextDelta(text="word " * MAX_BLOCK))
    assert not viewer.view.is_behind
    viewer.show(TextDelta(text="word " * 2 * MAX_BLOCK))
    assert viewer.view.is_behind
    viewer.draw()
    assert not viewer.view.is_behind
