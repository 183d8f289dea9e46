"""Views: a log in an encoding, through a filter."""

from __future__ import annotations

from itertools import pairwise
from unittest.mock import Mock

import msgspec
import pytest

from deltawire.gateway.streams import coalesce
from deltawire.gateway.streams.log import BLOCK, Retention
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.stream import Stream
from deltawire.gateway.streams.view import CHUNK, READ_EVENTS, READ_RUNS, Batch, View
from deltawire.protocol.codec import JSON, MSGPACK, Codec
from deltawire.protocol.events import (
    ContentEnd,
    ContentStart,
    Data,
    EventType,
    MessageStart,
    TextDelta,
    Thinking,
    Usage,
)
from deltawire.protocol.filters import Filter
from tests.support.reading import make_stream, numbered, publish, read_frames, spans, split_frames, texts

DELTAS_ONLY = frozenset({EventType.TEXT_DELTA})
MIXED: list[Data] = [
    ContentStart(0),  # 1
    *texts("a", "b"),  # 2, 3
    Thinking("t", 0),  # 4
    *texts("c", "d", "e"),  # 5, 6, 7
    Usage(1, 2, 3),  # 8
    *texts("f"),  # 9
]


def filled(*data: Data) -> Stream:
    stream = make_stream()
    publish(stream, *data)
    return stream


def view(stream: Stream, codec: Codec = JSON, types: frozenset[EventType] | None = None) -> View:
    return View(stream.log, codec, None if types is None else Filter(types=types))


def spans_of(batch: Batch, codec: Codec = JSON) -> list[tuple[int, int] | str]:
    return spans([frame.message for frame in read_frames(batch.data, codec)])


def test_raw_gives_each_event_by_itself() -> None:
    batch = view(filled(*MIXED)).raw(2, 8)
    assert spans_of(batch) == [(seq, seq) for seq in range(3, 9)]
    assert (batch.last, batch.folded, batch.dropped) == (8, 0, 0)


def test_raw_json_gives_the_very_bytes_of_the_log() -> None:
    stream = filled(*MIXED)
    assert view(stream).raw(0, 9).data == b"".join(stream.log.frames(0, 9))
    assert view(stream).raw(4, 5).data is stream.log.frames(4, 5)[0], "one frame is not copied"


def test_invariant_2_messagepack_says_what_json_says_with_the_same_names_in_the_same_order() -> None:
    stream = filled(*MIXED)
    as_json = [payload for _, _, payload in split_frames(view(stream).raw(0, 9).data)]
    as_msgpack = [payload for _, _, payload in split_frames(view(stream, MSGPACK).raw(0, 9).data)]
    for left, right in zip(as_json, as_msgpack, strict=True):
        assert list(msgspec.json.decode(left).items()) == list(msgspec.msgpack.decode(right).items())


def test_raw_stops_before_the_size_asked_for_but_not_before_the_first_event() -> None:
    stream = filled(*numbered(1, 9))
    each = len(stream.log.frames(0, 1)[0])
    assert view(stream).raw(0, 9, 3 * each).last == 3
    assert view(stream).raw(0, 9, 1).last == 1


@pytest.mark.parametrize("codec", [JSON, MSGPACK])
def test_a_filter_lets_only_its_types_through_and_accounts_for_the_rest(codec: Codec) -> None:
    filtered = view(filled(*MIXED), codec, frozenset({EventType.USAGE, EventType.THINKING}))
    for batch in (filtered.raw(0, 9), filtered.folded(0, 9), filtered.skipping(4, 9)):
        assert batch.last == 9
    assert spans_of(filtered.raw(0, 9), codec) == [(4, 4), (8, 8)]
    assert spans_of(filtered.folded(0, 9), codec) == [(4, 4), (8, 8)]
    assert filtered.raw(8, 9) == Batch(b"", 9)


@pytest.mark.parametrize("codec", [JSON, MSGPACK])
def test_folded_joins_neighbours_and_counts_what_it_folded(codec: Codec) -> None:
    batch = view(filled(*MIXED), codec).folded(0, 9)
    assert spans_of(batch, codec) == [(1, 1), (2, 3), (4, 4), (5, 7), (8, 8), (9, 9)]
    assert (batch.last, batch.folded) == (9, 5)


@pytest.mark.parametrize("types", [None, frozenset({EventType.ERROR}), DELTAS_ONLY])
def test_folded_goes_no_further_than_one_read_and_reads_on_at_whole_blocks(types: frozenset[EventType] | None) -> None:
    stream = filled(*numbered(1, 2 * READ_EVENTS + 10))
    looked_at = view(stream, types=types)
    lasts = [looked_at.folded(after, stream.log.head).last for after in (0, 5, READ_EVENTS, 2 * READ_EVENTS)]
    assert lasts == [READ_EVENTS, READ_EVENTS, 2 * READ_EVENTS, stream.log.head]
    assert READ_EVENTS % BLOCK == 0


def test_folded_decodes_nothing_that_the_filter_holds_back(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = filled(*texts(*["x"] * BLOCK), Usage(1, 2, 3), Thinking("t", 0), Thinking("u", 0), *texts("y"))
    decode = Mock(wraps=coalesce._decode_delta)
    monkeypatch.setattr(coalesce, "_decode_delta", decode)
    batch = view(stream, types=frozenset({EventType.USAGE, EventType.THINKING})).folded(0, stream.log.head)
    assert spans_of(batch) == [(BLOCK + 1, BLOCK + 1), (BLOCK + 2, BLOCK + 3)]
    assert batch.last == stream.log.head
    assert decode.call_count == 2


def test_skipping_goes_no_further_than_one_read() -> None:
    stream = filled(*numbered(1, READ_EVENTS + 10))
    assert view(stream).skipping(3, stream.log.head).last == 3 + READ_EVENTS
    assert view(stream, types=frozenset({EventType.ERROR})).skipping(3, stream.log.head).last == 3 + READ_EVENTS


@pytest.mark.parametrize("how", ["folded", "skipping"])
def test_a_read_has_no_more_frames_than_take_a_millisecond_to_encode(how: str) -> None:
    stream = filled(*[Usage(1, 2, 3)] * (2 * READ_RUNS + 10))
    read = getattr(view(stream, MSGPACK), how)
    batches: list[Batch] = [read(after, stream.log.head) for after in (0, READ_RUNS, 2 * READ_RUNS)]
    assert [batch.events for batch in batches] == [READ_RUNS, READ_RUNS, 10]
    assert batches[-1].last == stream.log.head


def test_saved_goes_over_no_more_runs_than_one_read_of_events() -> None:
    answer: list[Data] = [MessageStart("m"), *(TextDelta("x", number % 2) for number in range(READ_EVENTS + 100))]
    settings = StreamSettings(retention=Retention(events=10))
    stream = make_stream(settings)
    publish(stream, *answer)
    assert view(stream, types=frozenset({EventType.ERROR})).saved(0).last == READ_EVENTS


def test_folded_does_not_join_over_what_the_filter_holds_back() -> None:
    batch = view(filled(*MIXED), types=DELTAS_ONLY).folded(0, 9)
    assert spans_of(batch) == [(2, 3), (5, 7), (9, 9)]


def test_invariant_2_an_event_that_did_not_fold_has_the_bytes_it_has_raw() -> None:
    stream = filled(*MIXED)
    for codec in (JSON, MSGPACK):
        alone = [frame.data for frame in read_frames(view(stream, codec).folded(7, 9).data, codec)]
        raw = [frame.data for frame in read_frames(view(stream, codec).raw(7, 9).data, codec)]
        assert alone == raw


def test_folded_stops_after_the_frame_that_reaches_the_size() -> None:
    batch = view(filled(*MIXED)).folded(0, 9, 1)
    assert (spans_of(batch), batch.last) == ([(1, 1)], 1)


def test_folded_reads_on_where_it_stopped() -> None:
    stream = filled(*texts(*["x" * 40_000] * 5))
    first = view(stream).folded(0, 5)
    assert spans_of(first) == [(1, 1), (2, 2)], "two reach the chunk"
    assert spans_of(view(stream).folded(first.last, 5)) == [(3, 3), (4, 4)]


def test_skipping_names_neighbouring_deltas_in_one_gap_and_gives_the_others() -> None:
    batch = view(filled(*MIXED)).skipping(1, 9)
    assert spans_of(batch) == ["dropped 2-7", (8, 8), "dropped 9-9"]
    assert (batch.last, batch.dropped) == (9, 7)


def test_skipping_ends_where_it_is_told_to() -> None:
    batch = view(filled(*MIXED)).skipping(4, 6)
    assert (spans_of(batch), batch.last) == (["dropped 5-6"], 6)


def test_skipping_names_no_event_the_filter_holds_back() -> None:
    batch = view(filled(*MIXED), types=DELTAS_ONLY | {EventType.USAGE}).skipping(0, 9)
    assert spans_of(batch) == ["dropped 2-3", "dropped 5-7", (8, 8), "dropped 9-9"]
    assert batch.dropped == 6


def test_skipping_stops_after_the_frame_that_reaches_the_size_and_reads_on_there() -> None:
    alternating: list[Data] = [ContentEnd(0), TextDelta("x", 0)]
    seen: list[tuple[int, int] | str] = []
    after = 0
    looked_at = view(filled(*alternating * 20))
    for _ in range(40):
        batch = looked_at.skipping(after, 40, 1)
        seen += spans_of(batch)
        after = batch.last
    assert seen == [span for seq in range(1, 40, 2) for span in ((seq, seq), f"dropped {seq + 1}-{seq + 1}")]


def test_a_chunk_is_about_what_a_socket_takes() -> None:
    stream = filled(*texts(*["x" * 1_000] * 200))
    sizes = []
    after = 0
    while after < 200:
        batch = view(stream).raw(after, 200)
        sizes.append(len(batch.data))
        after = batch.last
    assert all(size <= CHUNK for size in sizes)
    assert all(left + right > CHUNK for left, right in pairwise(sizes))
