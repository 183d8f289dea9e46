"""What `deltawire top` computes: rates, order, filter, layout, the text of a stream; without a terminal."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click import unstyle
from msgspec import structs
from rich.cells import cell_len

from deltawire.gateway.cli.terminal.keys import parse_keys
from deltawire.gateway.cli.top.follow import MAX_LINE, MAX_LINES, Follow, wrap
from deltawire.gateway.cli.top.rows import (
    FIRST_EVENTS,
    Row,
    Watch,
    describe_metrics,
    describe_seconds,
    find_first_token,
    sum_metrics,
)
from deltawire.gateway.cli.top.table import COLUMNS, Table, choose_columns, fit, shorten, sort_rows
from deltawire.gateway.client import Frame
from deltawire.gateway.streams.info import Counters, StreamInfo
from deltawire.protocol.events import Data, Event, MessageStart, TextDelta, Thinking, Usage, make_event
from tests.support.processes import ROOT, Run, clean_environment

SIZES = ((80, 24), (40, 10), (200, 50))


def info(stream: str = "s", **changes: Any) -> StreamInfo:
    whole = StreamInfo(
        id=stream,
        epoch="e",
        head=0,
        floor=1,
        events=0,
        bytes=0,
        consumers=0,
        producers=0,
        closed=False,
        created_at="2026-11-22T11:00:00.000000Z",
        last_active_at="2026-11-22T11:00:00.500000Z",
        counters=Counters(),
    )
    return structs.replace(whole, **changes)


def row(stream: str = "s", **changes: Any) -> Row:
    watch = Watch()
    watch.take([info(stream)], now=0.0)
    return structs.replace(watch.rows()[0], **changes)


def event(data: Data, seconds: float) -> Event:
    return structs.replace(make_event(data), timestamp=datetime(2026, 11, 22, tzinfo=UTC) + timedelta(seconds=seconds))


def test_a_rate_is_what_came_between_two_looks() -> None:
    watch = Watch()
    watch.take([info(head=10, events=10, bytes=1000)], now=5.0)
    assert watch.rows()[0].events_per_second is None
    watch.take([info(head=30, events=20, bytes=4000)], now=7.0)
    assert watch.row("s") == watch.rows()[0]
    assert (watch.rows()[0].events_per_second, watch.rows()[0].bytes_per_second) == (10.0, 2000.0)


def test_the_bytes_of_stored_events_are_those_that_are_stored() -> None:
    watch = Watch()
    watch.take([info(head=1)], now=0.0)
    watch.take([info(head=2, events=2, bytes=0, stored_bytes=200)], now=1.0)
    assert watch.rows()[0].bytes_per_second == 100.0


def test_a_stream_that_began_anew_has_no_rate_yet() -> None:
    watch = Watch()
    watch.take([info(head=10)], now=0.0)
    watch.take([info(head=2, epoch="f")], now=1.0)
    assert watch.rows()[0].events_per_second is None


def test_streams_are_forgotten_only_when_a_whole_round_did_not_have_them() -> None:
    watch = Watch()
    watch.take([info("a"), info("b")], now=0.0)
    watch.end_round()
    watch.take([info("a")], now=1.0)
    assert {it.id for it in watch.rows()} == {"a", "b"}
    watch.end_round()
    assert {it.id for it in watch.rows()} == {"a"}
    assert watch.row("b") is None


def test_it_is_the_time_from_the_start_of_the_first_message_to_its_first_delta() -> None:
    start, usage = MessageStart(message_id="m"), Usage(prompt_tokens=1, completion_tokens=0, total_tokens=1)
    events = [event(TextDelta(text="x"), 0), event(start, 1), event(usage, 2), event(Thinking(thinking="h"), 3.5)]
    assert find_first_token([*events, event(start, 4), event(TextDelta(text="x"), 5)]) == 2.5
    assert find_first_token(events[:3]) is None
    assert find_first_token([]) is None


def test_it_is_looked_for_until_it_is_known_or_can_not_be() -> None:
    watch = Watch()
    watch.take([info(head=1, events=1)], now=0.0)
    assert not watch.lacks_first_token("s")
    watch.take([info(head=3, events=3)], now=1.0)
    assert watch.lacks_first_token("s")
    watch.note_first_token("s", None)
    assert not watch.lacks_first_token("s"), "nothing came since"
    watch.take([info(head=FIRST_EVENTS, events=9)], now=2.0)
    assert watch.lacks_first_token("s")
    watch.note_first_token("s", 0.25)
    watch.take([info(head=99, events=9)], now=3.0)
    assert not watch.lacks_first_token("s")
    assert watch.rows()[0].first_token == 0.25
    watch.take([info(head=3, events=3, epoch="f")], now=4.0)
    assert watch.rows()[0].first_token is None
    assert watch.lacks_first_token("s")
    assert not watch.lacks_first_token("absent")


@pytest.mark.parametrize(("seconds", "text"), [(0.0402, "40 ms"), (1.25, "1.2 s"), (99.94, "99.9 s"), (250.0, "250 s")])
def test_it_is_told_in_a_few_characters(seconds: float, text: str) -> None:
    assert describe_seconds(seconds) == text


METRICS = (
    '# TYPE deltawire_consumers gauge\ndeltawire_consumers{state="live"} 2\ndeltawire_consumers{state="behind"} 1\n'
    "# TYPE deltawire_events_total counter\ndeltawire_events_total 1500\n"
    "# TYPE deltawire_first_token_seconds histogram\n"
    'deltawire_first_token_seconds_bucket{le="+Inf"} 2\n'
    "deltawire_first_token_seconds_sum 0.5\ndeltawire_first_token_seconds_count 2\n"
)


def test_series_are_summed_and_counters_become_rates() -> None:
    sums = sum_metrics(METRICS)
    assert sums["deltawire_consumers"] == 3
    line = describe_metrics(sums, {"deltawire_events_total": 500.0}, seconds=2.0)
    assert line == ("readers 3 · events/s 500 · deliveries/s 0 · largest lag 0 · first token 250 ms · memory 0 MiB")
    assert "events/s 0" in describe_metrics(sums, {}, seconds=0.0)


def test_what_is_not_in_the_format_is_refused() -> None:
    with pytest.raises(ValueError, match=r"."):
        sum_metrics('{"a": [1, 2')


def test_rows_are_ordered_by_any_column_either_way() -> None:
    rows = [row("b", events=2), row("a", events=2), row("c", events=7)]
    rates = [row("x", events_per_second=None), row("y", events_per_second=0.0), row("z", events_per_second=2.0)]
    by_events, by_id, by_rate = COLUMNS[4], COLUMNS[0], COLUMNS[2]
    assert ids(sort_rows(rows, by_events, is_reversed=False)) == "cab"
    assert ids(sort_rows(rows, by_events, is_reversed=True)) == "abc"
    assert ids(sort_rows(rows, by_id, is_reversed=False)) == "abc"
    assert ids(sort_rows(rows, by_id, is_reversed=True)) == "cba"
    assert ids(sort_rows(rates, by_rate, is_reversed=False)) == "zyx"
    assert ids(sort_rows(rates, by_rate, is_reversed=True)) == "yzx", "what is not known comes last"


@pytest.mark.parametrize("width", [1, 2, 16, 39, 40, 80, 120, 200])
@pytest.mark.parametrize("sorted_by", range(len(COLUMNS)))
def test_columns_are_as_many_as_fit_and_the_one_it_is_sorted_by(width: int, sorted_by: int) -> None:
    chosen = choose_columns(width, sorted_by)
    assert chosen == sorted(set(chosen))
    assert chosen[0] == 0
    if width >= 40:
        assert sorted_by in chosen
        assert sum(COLUMNS[number].width + 1 for number in chosen) <= width + 1
    if width >= 120:
        assert chosen == list(range(len(COLUMNS)))


@pytest.mark.parametrize(("width", "height"), [*SIZES, (1, 1), (7, 3)])
def test_every_line_is_as_wide_as_the_screen(width: int, height: int) -> None:
    table = Table()
    hostile = "\x1b[2J漢字\u202e\r\n" * 20
    table.show([row(hostile, is_closed=True), *(row(f"s{number}", events=number) for number in range(99))])
    for key in [">"] * len(COLUMNS):
        table.press(key)
        lines = [unstyle(line) for line in table.lines(width, height)]
        assert 1 <= len(lines) <= max(2, height)
        assert {cell_len(line) for line in lines} == {width}
        assert not any(ord(letter) < 32 or letter == "\u202e" for line in lines for letter in line)


def test_a_filter_keeps_the_ids_that_have_it_in_any_case() -> None:
    table = Table()
    table.show([row("Chat-1"), row("chat-2"), row("other")])
    for key in "/cHatx":
        table.press(key)
    assert table.count() == "0 of 3 streams"
    assert table.selected is None
    table.press("backspace")
    assert table.count() == "2 of 3 streams"
    assert "/cHat" in table.foot()
    table.press("enter")
    assert table.press("q") == "quit", "it is a key again"
    table.press("escape")
    assert table.count() == "3 streams"


def test_the_chosen_stream_stays_chosen_when_the_order_changes() -> None:
    table = Table()
    table.show([row("a", events_per_second=3.0), row("b", events_per_second=2.0), row("c", events_per_second=1.0)])
    assert table.selected == "a"
    table.press("down")
    assert table.selected == "b"
    table.show([row("a", events_per_second=0.0), row("b", events_per_second=0.0), row("c", events_per_second=9.0)])
    assert table.selected == "b"
    table.show([row("a", events_per_second=0.0), row("c", events_per_second=9.0)])
    assert table.selected == "a", "it is gone: the one that is now in its place"
    assert table.press("enter") == "open"


def test_the_first_place_stays_the_first_whichever_stream_is_there() -> None:
    table = Table()
    table.show([row("a", events_per_second=1.0), row("b", events_per_second=2.0)])
    assert table.selected == "b"
    table.show([row("a", events_per_second=3.0), row("b", events_per_second=2.0)])
    assert table.selected == "a"


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_chosen_stream_is_on_the_screen_wherever_the_person_goes(width: int, height: int) -> None:
    table = Table()
    table.show([row(f"s{number:03}") for number in range(300)])
    for key in ("down", "end", "up", "pageup", "home", "pagedown", " ", "pagedown", "G", "k", "g", "j"):
        table.press(key)
        lines = table.lines(width, height)
        assert table.selected in table.visible
        assert sum(line.startswith(("\x1b[1m\x1b[7m", "\x1b[7m\x1b[1m")) for line in lines) == 1
        assert len(lines) == height


def test_an_empty_table_heeds_all_keys() -> None:
    table = Table()
    for key in ("down", "end", "enter", "r", "<", "x", "/", "a", "enter"):
        assert table.press(key) is None
    assert len(table.lines(80, 20)) == 1
    assert table.selected is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (0.25, "0.2"),
        (7, "7"),
        (12.4, "12"),
        (999.4, "999"),
        (999.6, "1.0k"),
        (12_345, "12.3k"),
        (123_456, "123k"),
        (5_000_000, "5.0M"),
        (9e15, "9000T"),
    ],
)
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert shorten(value) == text


def test_a_wide_character_is_never_cut_in_two() -> None:
    assert fit("漢字漢字", 8) == "漢字漢字"
    assert fit("漢字漢字", 6) == "漢字 …"
    assert fit("漢字", 6, to_the_right=True) == "  漢字"
    assert fit("漢", 1) == "…"
    assert fit("漢", 0) == ""


def ids(rows: list[Row]) -> str:
    return "".join(row.id for row in rows)


def frame(text: str) -> Frame:
    return Frame(b"", structs.replace(make_event(TextDelta(text=text)), seq=1))


def test_the_last_lines_are_shown_wrapped() -> None:
    follow = Follow()
    for text in ("one two ", "three\nfo", "ur\n\tfive"):
        follow.add(frame(text))
    assert follow.lines(10, 3) == ["three", "four", "    five"]
    assert follow.lines(80, 9) == ["one two three", "four", "    five"]


def test_what_the_person_looks_at_stays_where_it_is() -> None:
    follow = Follow()
    follow.add(frame("".join(f"{number}\n" for number in range(20))))
    follow.lines(80, 5)
    follow.press("pageup")
    before = follow.lines(80, 5)
    follow.add(frame("more\n" * 3 + "and more"))
    assert follow.lines(80, 5) == before
    follow.press("home")
    assert follow.lines(80, 5) == ["0", "1", "2", "3", "4"]
    follow.press("down")
    assert follow.lines(80, 5) == ["1", "2", "3", "4", "5"]
    follow.press("end")
    assert follow.lines(80, 5)[-1] == "and more"


def test_what_is_kept_is_bounded() -> None:
    follow = Follow()
    follow.add(frame("x" * (3 * MAX_LINE) + "\n" * (2 * MAX_LINES) + "end"))
    follow.press("home")
    assert follow.lines(80, 2) == ["", ""]
    follow.press("end")
    assert follow.lines(80, 1) == ["end"]


def test_no_control_character_reaches_the_screen() -> None:
    follow = Follow()
    follow.add(frame("a\x1b[2J\x9b\u202eb"))
    assert "".join(follow.lines(80, 5)) == "a␛[2J\ufffd\ufffdb"


@pytest.mark.parametrize("key", ["q", "escape", "left"])
def test_keys_that_go_back(key: str) -> None:
    assert Follow().press(key)
    assert not Follow().press("x")


@pytest.mark.parametrize("width", [2, 7, 80])
def test_no_line_is_wider_than_the_screen_and_no_word_is_lost(width: int) -> None:
    line = "  漢字漢字漢字 and words of some length, averyveryverylongword " * 3
    wrapped = wrap(line, width)
    assert all(cell_len(it) <= width for it in wrapped)
    assert "".join("".join(wrapped).split()) == "".join(line.split())
    assert wrap("", width) == [""]


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        ("aé漢", ["a", "é", "漢"]),
        ("\x1b[A\x1bOB\x1b[5~q", ["up", "down", "pageup", "q"]),
        ("\x1b[1;5C\x1b[24~x", ["x"]),
        ("\r\x7f\x1b", ["enter", "backspace", "escape"]),
        ("\x1bq", ["escape", "q"]),
        ("", []),
    ],
)
def test_keys_are_named_and_unknown_sequences_are_no_letters(typed: str, keys: list[str]) -> None:
    assert list(parse_keys(typed)) == keys


WITHOUT_RICH = "import sys; sys.modules['rich'] = None; from deltawire.gateway.cli import main; sys.exit(main(['top']))"


def test_without_the_extra_it_says_what_to_install() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_RICH],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=clean_environment(),
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "deltawire: error: `deltawire top` needs the extra: pip install 'deltawire[tui]'\n"


async def test_off_a_terminal_it_says_what_to_use(run: Run) -> None:
    done = await run("top")
    assert (done.status, done.output) == (2, "")
    assert done.errors.endswith("use `deltawire streams list --json`\n")
