"""Server-sent events: what each message looks like, and the ids by which readers resume (SPEC §9.3)."""

from __future__ import annotations

import json

import pytest

from deltawire.protocol.codec import encode_event, folded_event
from deltawire.protocol.event_stream import Body, EventStream, parse_event_id
from deltawire.protocol.events import TextDelta
from deltawire.protocol.messages import CaughtUp, Gap, Heartbeat, Message, Policy, Problem, StreamEnd, Subscribed
from deltawire.protocol.position import Position

PLAIN = EventStream("e1", Body(is_chunked=False))
CHUNKED = EventStream("e1", Body(is_chunked=True))


def test_an_event_has_its_position_as_id_and_no_name() -> None:
    payload = encode_event(TextDelta("a\nb\r\n"), 7, "2026-11-22T11:00:00.000000Z")
    id_, data, *rest = PLAIN.relay(payload, 7).split(b"\n")
    assert id_ == b"id: e1.7"
    assert json.loads(data.removeprefix(b"data: ")) == json.loads(payload)
    assert rest == [b"", b""], "its line breaks are escaped"


def test_a_folded_event_has_the_position_of_its_last_one() -> None:
    event = folded_event(TextDelta("ab"), 6, 7, "2026-11-22T11:00:00.000000Z")
    id_, data, *_ = PLAIN.relay_folded(event, 7).split(b"\n")
    assert id_ == b"id: e1.7"
    assert json.loads(data.removeprefix(b"data: "))["first"] == 6


@pytest.mark.parametrize(
    ("message", "id_"),
    [
        (CaughtUp(seq=4), b"id: e1.4"),
        (Gap(first=3, seq=9, reason="evicted"), b"id: e1.9"),
        (Gap(first=1, seq=0, reason="epoch_changed"), b"id: e1.0"),
        (StreamEnd(seq=5, reason="closed"), b"id: e1.5"),
        (Heartbeat(head=9), None),
        (Problem(code="idle", message="m", retryable=True, resume_after=3), None),
    ],
)
def test_a_control_message_is_named_by_its_type_and_moves_the_position_it_states(
    message: Message, id_: bytes | None
) -> None:
    lines = PLAIN.frame(message).split(b"\n")
    assert lines[0].removeprefix(b"event: ").decode() == message.__struct_config__.tag
    assert (lines[1] if lines[1].startswith(b"id:") else None) == id_
    assert json.loads(lines[-3].removeprefix(b"data: "))["type"] == message.__struct_config__.tag


def test_a_reader_has_a_position_before_the_first_event() -> None:
    subscribed = Subscribed(
        stream="s",
        epoch="e1",
        floor=1,
        head=9,
        after=9,
        policy=Policy.COALESCE,
        buffer=1,
        recovered=False,
        closed=False,
    )
    assert b"\nid: e1.9\n" in PLAIN.frame(subscribed), "one from now on would miss what comes before its first event"


def test_each_event_is_a_chunk_where_there_are_chunks() -> None:
    event = PLAIN.relay(b"{}", 1)
    assert CHUNKED.relay(b"{}", 1) == b"%x\r\n%b\r\n" % (len(event), event)
    assert (PLAIN.body.end(), CHUNKED.body.end()) == (b"", b"0\r\n\r\n")


@pytest.mark.parametrize(("text", "position"), [("e1.7", Position("e1", 7)), ("a.b.0", Position("a.b", 0))])
def test_an_id_is_a_position(text: str, position: Position) -> None:
    assert parse_event_id(text) == position


@pytest.mark.parametrize("text", ["7", ".7", "e1.", "e1.x", "e1.-1", "e1.9007199254740992", "e1.1.5x", "", "e1.٣"])
def test_anything_else_is_no_id(text: str) -> None:
    with pytest.raises(ValueError, match=r"EPOCH\.SEQ"):
        parse_event_id(text)


def test_encodings_of_one_epoch_are_one() -> None:
    assert EventStream("e1", Body(is_chunked=True)) == CHUNKED
    assert (
        len({CHUNKED, PLAIN, EventStream("e2", Body(is_chunked=True)), EventStream("e1", Body(is_chunked=True))}) == 3
    )
