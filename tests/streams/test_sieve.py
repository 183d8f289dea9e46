"""Which events a filter lets through, by what each of them says."""

from __future__ import annotations

import pytest
from msgspec import UNSET

from deltawire.gateway.streams.blocks import MAX_BLOCKS
from deltawire.gateway.streams.coalesce import kind_of, runs_of
from deltawire.gateway.streams.sieve import Sieve
from deltawire.protocol.addresses import parse_subscribe
from deltawire.protocol.codec import decode_event, encode_event
from deltawire.protocol.events import (
    MAX_KIND,
    ContentEnd,
    ContentStart,
    Data,
    Error,
    Extension,
    MessageStart,
    MessageStop,
    TextDelta,
    Thinking,
    ToolDelta,
    Usage,
)
from deltawire.protocol.framing import TEXT, frame, payload_start
from deltawire.protocol.messages import Policy
from tests.support.reading import STAMP, ask, drain, make_stream, publish, spans

EVENTS: dict[str, Data] = {
    "start": MessageStart("m"),
    "plain": TextDelta("a"),
    "text 0": TextDelta("a", 0),
    "text 1 of choice 1": TextDelta("a", 1, 1),
    "refusal": TextDelta("a", 2, kind="refusal"),
    "thinking 1": Thinking("a", 1),
    "tool 2": ToolDelta(2, "{"),
    "begin 1": ContentStart(1, kind="text"),
    "begin 2": ContentStart(2, kind="tool_use", choice=1),
    "begin 3": ContentStart(3),
    "begin long": ContentStart(1, kind="k" * 100),
    "end 1": ContentEnd(1, kind="text"),
    "end 3": ContentEnd(3),
    "usage": Usage(1, 2, 3),
    "error": Error("x"),
    "ping": Extension("p", "ping", {"index": 9, "choice": 9, "kind": "x"}),
    "pong": Extension("p", "pong/1", None),
    "other": Extension("q", "ping", 1),
    "stop": MessageStop("m", "end_turn"),
    "stop 1": MessageStop("m", "end_turn", choice=1),
}
BLOCKS = set(EVENTS) - {"start", "usage", "error", "ping", "pong", "other", "stop", "stop 1"}


@pytest.mark.parametrize(
    ("query", "left_out"),
    [
        ("types=usage", set(EVENTS) - {"usage"}),
        ("index=0", BLOCKS - {"plain", "text 0"}),
        ("index=1,3", {"plain", "text 0", "refusal", "tool 2", "begin 2"}),
        ("choice=0", {"text 1 of choice 1", "begin 2", "stop 1"}),
        ("choice=1", BLOCKS - {"text 1 of choice 1", "begin 2"}),
        ("kind=text", {"refusal", "thinking 1", "tool 2", "begin 2", "begin long"}),
        ("kind=thinking,refusal", BLOCKS - {"refusal", "thinking 1", "begin 3", "end 3"}),
        (f"kind={'k' * MAX_KIND}", BLOCKS - {"begin 3", "begin long", "end 3"}),
        ("extension=p", {"other"}),
        ("extension=q,p/pong/1", {"ping"}),
        ("extension=x", {"ping", "pong", "other"}),
        ("index=1&kind=text&types=text_delta,content_end", set(EVENTS) - {"text 1 of choice 1", "end 1"}),
        ("types=extension&extension=q", set(EVENTS) - {"other"}),
    ],
)
def test_a_filter_leaves_out_what_it_does_not_name(query: str, left_out: set[str]) -> None:
    wanted = parse_subscribe(query).filter
    assert wanted is not None
    sieve = Sieve(wanted)
    for name, data in EVENTS.items():
        payload = encode_event(data, 1, STAMP)
        assert sieve.lets_through(kind_of(data), frame(TEXT, payload)) == (name not in left_out), name
        (run,) = runs_of([kind_of(data)], [payload], 1)
        assert sieve.lets_run_through(run) == (name not in left_out), name


def relayed(*events: Data) -> list[Data]:
    """What consumers get of what producers say."""
    stream = make_stream()
    publish(stream, *events)
    return [decode_event(it[payload_start(it) :]) for it in stream.log.frames(0, stream.log.head)]


@pytest.mark.parametrize(
    ("said", "named"),
    [
        (TextDelta("a", 1), "refusal"),
        (Thinking("a", 1), "refusal"),
        (ToolDelta(1, "{"), "refusal"),
        (ContentEnd(1), "refusal"),
        (TextDelta("a", 1, kind="own"), "own"),
        (ContentEnd(1, kind="own"), "own"),
        (TextDelta("a"), UNSET),
        (TextDelta("a", 1, 0), UNSET),
        (ContentEnd(0), UNSET),
    ],
)
def test_the_events_of_a_block_say_the_kind_it_began_with(said: Data, named: str) -> None:
    assert relayed(ContentStart(1, kind="refusal"), said)[-1].kind == named  # type: ignore[attr-defined]  # of a block


@pytest.mark.parametrize("kind", ["text", "thinking", "tool_use"])
def test_deltas_of_a_common_kind_say_none_and_the_end_does(kind: str) -> None:
    deltas = [TextDelta("a", 0), Thinking("a", 0), ToolDelta(0, "{")]
    start = ContentStart(0, kind=kind)
    assert relayed(start, *deltas, ContentEnd(0)) == [start, *deltas, ContentEnd(0, kind=kind)]


@pytest.mark.parametrize("end", [ContentEnd(0), MessageStart("n"), ContentStart(0)])
def test_a_block_is_over_with_its_end_the_next_message_or_another_beginning(end: Data) -> None:
    assert relayed(ContentStart(0, kind="refusal"), end, TextDelta("a", 0))[-1] == TextDelta("a", 0)


def test_a_kind_is_repeated_only_as_far_as_it_is_short() -> None:
    assert relayed(ContentStart(0, kind="k" * 100), TextDelta("a", 0))[-1] == TextDelta("a", 0, kind="k" * MAX_KIND)


def test_the_oldest_of_too_many_open_blocks_is_forgotten_and_the_rest_are_counted() -> None:
    stream = make_stream()
    before = stream.bytes - stream.log.bytes
    publish(stream, *(ContentStart(index, kind="refusal") for index in range(MAX_BLOCKS + 1)))
    assert stream.bytes - stream.log.bytes > before + 100 * MAX_BLOCKS
    publish(stream, TextDelta("a", 0), TextDelta("a", 1))
    assert b"refusal" not in stream.log.frame(MAX_BLOCKS + 2)
    assert b"refusal" in stream.log.frame(MAX_BLOCKS + 3)
    publish(stream, MessageStart("m"))
    assert stream.bytes - stream.log.bytes < before + 1_000


def test_invariant_6_a_filter_is_counted_while_somebody_reads_through_it() -> None:
    stream = make_stream()
    names = ",".join(f"{number}{'x' * 60}" for number in range(32))
    before = stream.bytes
    readers = [stream.subscribe(ask(f"kind={names}&extension={names}"), now=0.0) for _ in range(2)]
    costs = stream.bytes - before
    assert 2 * 32 * 100 < costs < 2 * 32 * 250, "once for both"
    for reader in readers:
        assert stream.bytes == before + costs
        stream.unsubscribe(reader, 0.0)
    assert stream.bytes == before


ANSWER: list[Data] = [
    MessageStart("m"),  # 1
    ContentStart(0, kind="thinking"),  # 2
    Thinking("t", 0),  # 3
    Thinking("u", 0),  # 4
    ContentEnd(0),  # 5
    ContentStart(1, kind="refusal"),  # 6
    TextDelta("a", 1),  # 7
    TextDelta("b", 1),  # 8
    Extension("p", "n", 1),  # 9
    TextDelta("c", 1),  # 10
    ContentEnd(1),  # 11
    MessageStop("m", "refusal"),  # 12
]


@pytest.mark.parametrize("policy", Policy)
def test_a_filter_by_kind_lets_the_same_through_at_the_head_and_in_a_replay_from_any_position(policy: Policy) -> None:
    stream = make_stream()
    asked = f"policy={policy}&kind=refusal&extension=q"
    live = stream.subscribe(ask(asked), now=0.0)
    drain(live)
    heard = []
    for data in ANSWER:
        publish(stream, data)
        heard += spans(drain(live))
    assert heard == [(seq, seq) for seq in (1, 6, 7, 8, 10, 11, 12)]
    for after in range(len(ANSWER)):
        late = drain(stream.subscribe(ask(f"{asked}&after={after}"), now=0.0))
        if policy is Policy.COALESCE:  # 7 and 8 fold, 10 does not join them over 9
            folded = [(7, 8)] if after < 7 else [(8, 8)] if after < 8 else []
            expected = [span for span in [(1, 1), (6, 6), *folded, (10, 10), (11, 11), (12, 12)] if span[0] > after]
        else:
            expected = [span for span in heard if isinstance(span, tuple) and span[0] > after]
        assert spans(late) == expected
