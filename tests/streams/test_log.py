"""The log: bounds, accounting, and what a lag costs."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from sys import getsizeof

import pytest

from deltawire.gateway.streams import coalesce
from deltawire.gateway.streams.coalesce import MAX_FOLDED_TEXT, kind_of
from deltawire.gateway.streams.log import AGE_MARKS, BLOCK, EVENT_OVERHEAD, FOLD_SHARE, Ledger, Log, Retention
from deltawire.protocol.codec import encode_event
from deltawire.protocol.events import ContentEnd, ContentStart, Data, TextDelta, Usage
from deltawire.protocol.framing import TEXT, frame
from tests.support.reading import STAMP


def make_log(*, events: int = 50_000, size: int = 8 << 20, age: float = 0.0, ledger: Ledger | None = None) -> Log:
    return Log(Retention(events=events, bytes=size, age=age), ledger or Ledger())


def append(log: Log, *data: Data, now: float = 0.0) -> None:
    for item in data:
        log.append(kind_of(item), frame(TEXT, encode_event(item, log.head + 1, STAMP)), now)


def fill(log: Log, count: int, text: str = "word ", now: float = 0.0) -> None:
    append(log, *[TextDelta(text, 0)] * count, now=now)


def recount(log: Log) -> int:
    return sum(len(held) + EVENT_OVERHEAD for held in log.frames(log.floor - 1, log.head))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The deltas decoded for folding, in order."""
    payloads: list[bytes] = []
    decode: Callable[[bytes], object] = coalesce._decode_delta

    def note(payload: bytes) -> object:
        payloads.append(payload)
        return decode(payload)

    monkeypatch.setattr(coalesce, "_decode_delta", note)
    return payloads


def test_an_empty_log_holds_nothing_and_its_floor_is_above_its_head() -> None:
    log = make_log()
    assert (log.floor, log.head, log.bytes) == (1, 0, 0)
    assert log.frames(0, 0) == []
    assert list(log.runs(0, 0)) == []
    assert log.newest_within(10) == 1


def test_append_numbers_events_from_one() -> None:
    log = make_log()
    item = TextDelta("x")
    assert [log.append(kind_of(item), b"\x81\x00", 0.0) for _ in range(3)] == [1, 2, 3]


def test_invariant_6_a_log_holds_at_most_its_events() -> None:
    log = make_log(events=10)
    fill(log, 25)
    assert (log.floor, log.head) == (16, 25)
    assert len(log.frames(log.floor - 1, log.head)) == 10


def test_invariant_6_a_log_holds_at_most_its_bytes() -> None:
    log = make_log(size=2_000)
    for _ in range(50):
        fill(log, 1)
        assert log.bytes <= 2_000
    assert log.bytes + EVENT_OVERHEAD + len(log.frames(49, 50)[0]) > 2_000, "no more is let go than needed"


def test_the_newest_event_stays_however_big_it_is() -> None:
    log = make_log(size=500)
    fill(log, 3)
    fill(log, 1, text="x" * 1_000)
    assert (log.floor, log.head) == (4, 4)


def test_invariant_6_bytes_equal_an_honest_recount_after_appends_and_trims() -> None:
    ledger = Ledger()
    logs = [make_log(events=700, ledger=ledger), make_log(size=9_000, ledger=ledger)]
    for length in range(1_500):
        for log in logs:
            fill(log, 1, text="x" * (length % 40))
    logs[0].trim_to(1_200)
    assert [log.bytes for log in logs] == [recount(log) for log in logs]
    assert ledger.bytes == sum(log.bytes for log in logs)


def test_invariant_6_bytes_counted_cover_what_python_allocates() -> None:
    log = make_log(events=5_000)
    fill(log, 1)
    tracemalloc.start()
    try:
        fill(log, 9_900)  # the most dead slots before they are cut
        list(log.runs(log.floor - 1, log.head))
        gc.collect()
        allocated = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert 0.7 * log.bytes <= allocated <= log.bytes


def test_invariant_6_remembered_folds_fit_the_share_their_events_set_aside() -> None:
    log = make_log()
    for number in range(2 * BLOCK):  # many short runs: what a fold costs beside its text shows most
        append(log, TextDelta("y", number // 4 % 2))
    list(log.runs(0, log.head))
    for runs in log._folds.values():
        held = sum(getsizeof(run) + sum(getsizeof(field) for field in run if field is not run.kind) for run in runs)
        assert held <= BLOCK * FOLD_SHARE


def test_trim_to_lets_go_of_what_is_before_a_seq_and_of_no_more() -> None:
    log = make_log()
    fill(log, 10)
    log.trim_to(4)
    log.trim_to(2)
    assert (log.floor, log.head) == (4, 10)
    log.trim_to(99)
    assert (log.floor, log.head, log.bytes) == (11, 10, 0)


def test_clear_lets_go_of_everything_and_numbering_goes_on() -> None:
    log = make_log()
    fill(log, 3)
    log.clear()
    fill(log, 1)
    assert (log.floor, log.head) == (4, 4)
    assert b'"seq":4' in log.frames(3, 4)[0]


def test_trimming_is_amortised_dead_slots_are_cut_half_at_a_time_and_never_outnumber_the_held() -> None:
    log = make_log(events=1_000)
    cuts, slots = 0, 0
    for _ in range(10_000):
        fill(log, 1)
        held = log.head - log.floor + 1
        assert len(log._frames) == len(log._kinds) == len(log._ends) - 1 <= 2 * held + BLOCK
        cuts += len(log._frames) < slots
        slots = len(log._frames)
    assert cuts <= 9, "each cut moves as many slots as were trimmed since the one before"


def test_a_trimmed_frame_is_let_go_at_once_though_its_slot_stays() -> None:
    log = make_log(events=10)
    fill(log, 12)
    assert log._frames[:2] == [b"", b""]


def test_events_older_than_the_age_are_trimmed() -> None:
    log = make_log(age=64.0)
    fill(log, 3, now=0.0)
    fill(log, 2, now=60.0)
    log.trim_by_age(63.0)
    assert log.floor == 1
    log.trim_by_age(66.0)
    assert log.floor == 4
    log.trim_by_age(126.0)
    assert (log.floor, log.head) == (6, 5)


def test_appending_trims_by_age_too() -> None:
    log = make_log(age=64.0)
    fill(log, 3, now=0.0)
    fill(log, 1, now=70.0)
    assert (log.floor, log.head) == (4, 4)


def test_events_expire_though_they_come_without_a_pause() -> None:
    log = make_log(age=64.0)
    for tenth in range(2_000):
        fill(log, 1, now=tenth / 10)
    oldest = (log.floor - 1) / 10
    assert 199.9 - 64.0 - 2 * 64.0 / AGE_MARKS <= oldest <= 199.9 - 64.0 + 0.1


def test_no_event_is_trimmed_by_age_before_its_time() -> None:
    log = make_log(age=10.0)
    for step in range(1, 3_000):
        now = step * 0.037
        fill(log, 1, now=now)
        if log.floor > 1:
            assert (log.floor - 1) * 0.037 <= now - 10.0 + 1e-9


def test_marks_of_age_are_bounded_whatever_is_appended() -> None:
    log = make_log(age=1.0)
    for step in range(5_000):
        fill(log, 1, now=step / 1_000)
        assert len(log._marks) <= AGE_MARKS + 1


def test_without_an_age_nothing_expires() -> None:
    log = make_log()
    fill(log, 3)
    log.trim_by_age(1e9)
    assert log.floor == 1
    assert not log._marks


@pytest.mark.parametrize("trimmed", [0, 3, 600])
def test_sizes_asked_by_seq_are_those_of_the_frames(trimmed: int) -> None:
    log = make_log()
    for length in range(trimmed + 20):
        fill(log, 1, text="x" * (length % 7))
    log.trim_to(trimmed + 1)
    sizes = [len(held) for held in log.frames(trimmed, log.head)]
    for cut in range(21):
        assert log.size(trimmed + cut, log.head) == sum(sizes[cut:])
        assert log.size(0, trimmed + cut) == sum(sizes[:cut]), "what is trimmed costs nothing"


def test_furthest_within_is_the_last_seq_that_fits_and_at_least_the_next() -> None:
    log = make_log()
    fill(log, 10)
    each = len(log.frames(0, 1)[0])
    assert log.furthest_within(0, 3 * each) == 3
    assert log.furthest_within(0, 4 * each - 1) == 3
    assert log.furthest_within(4, 3 * each) == 7
    assert log.furthest_within(2, 1) == 3
    assert log.furthest_within(0, 1 << 30) == 10
    assert log.furthest_within(9, 0) == 10


def test_newest_within_is_the_first_seq_that_fits_and_at_most_the_head() -> None:
    log = make_log()
    fill(log, 9)
    each = len(log.frames(0, 1)[0])
    assert log.newest_within(3 * each) == 7
    assert log.newest_within(4 * each - 1) == 7
    assert log.newest_within(1) == 9
    assert log.newest_within(1 << 30) == 1
    log.trim_to(5)
    assert log.newest_within(1 << 30) == 5


def test_kinds_and_frames_are_given_by_seq_after_a_cut_too() -> None:
    log = make_log(events=300)
    for number in range(2_000):
        append(log, ContentEnd(number))
    assert b'"index":1999' in log.frames(1_999, 2_000)[0]
    assert f'"seq":{log.floor}'.encode() in log.frames(log.floor - 1, log.floor)[0]
    assert len(log.kinds(log.floor - 1, log.head)) == 300


def test_runs_join_across_blocks() -> None:
    log = make_log()
    fill(log, 3 * BLOCK + 7, text="ab")
    log.trim_to(BLOCK + 10)
    (run,) = log.runs(log.floor - 1, log.head)
    assert (run.first, run.last) == (BLOCK + 10, 3 * BLOCK + 7)
    assert run.text == "ab" * (2 * BLOCK - 2)


def test_runs_end_where_the_kind_changes_and_where_reading_ends() -> None:
    log = make_log()
    append(log, ContentStart(0), TextDelta("a", 0), TextDelta("b", 0), ContentEnd(0), Usage(1, 1, 2), Usage(1, 2, 3))
    assert [(run.first, run.last) for run in log.runs(0, 6)] == [(1, 1), (2, 3), (4, 4), (5, 5), (6, 6)]
    assert [(run.first, run.last) for run in log.runs(1, 2)] == [(2, 2)]


def test_folding_a_block_is_remembered(decoded: list[bytes]) -> None:
    log = make_log()
    fill(log, 2 * BLOCK)
    first = list(log.runs(0, log.head))
    assert len(decoded) == 2 * BLOCK
    assert list(log.runs(0, log.head)) == first
    assert len(decoded) == 2 * BLOCK, "the second reader decodes nothing"


def test_the_fold_of_a_block_is_forgotten_when_its_first_event_is_trimmed() -> None:
    log = make_log()
    fill(log, 2 * BLOCK)
    list(log.runs(0, log.head))
    assert len(log._folds) == 2
    log.trim_to(2)
    assert len(log._folds) == 1
    assert sum(run.last - run.first + 1 for run in log.runs(1, log.head)) == 2 * BLOCK - 1


def test_the_fold_of_big_deltas_is_not_remembered() -> None:
    log = make_log()
    fill(log, BLOCK, text="x" * 100)
    list(log.runs(0, log.head))
    assert not log._folds


def test_reading_a_few_events_decodes_about_as_many(decoded: list[bytes]) -> None:
    log = make_log()
    fill(log, BLOCK, text="x" * 30_000)
    next(iter(log.runs(0, log.head)))
    assert sum(map(len, decoded)) <= 3 * MAX_FOLDED_TEXT
