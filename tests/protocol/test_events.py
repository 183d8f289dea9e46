"""Event types: their names, their envelopes, their strict twins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from deltawire.protocol.events import (
    DELTA_TYPES,
    EVENT_CLASSES,
    Data,
    Event,
    EventType,
    TextDelta,
    event_class,
    format_timestamp,
    make_event,
    parse_event_type,
    strict_events,
)


@pytest.mark.parametrize("event_type", EventType)
def test_every_type_has_one_envelope_with_its_tag(event_type: EventType) -> None:
    assert event_class(event_type).__struct_config__.tag == event_type.value
    assert [data.type for data in EVENT_CLASSES].count(event_type) == 1


@pytest.mark.parametrize(("data", "event"), EVENT_CLASSES.items())
def test_an_envelope_holds_the_data_of_its_type(data: type[Data], event: type[Event]) -> None:
    assert event_class(data.type) is event
    assert event.__annotations__["data"] is data


@pytest.mark.parametrize("event", strict_events())
def test_a_strict_twin_refuses_unknown_fields_in_envelope_and_data(event: type[Event]) -> None:
    (data,) = (field.type for field in msgspec.structs.fields(event) if field.name == "data")
    assert event.__struct_config__.forbid_unknown_fields
    assert data.__struct_config__.forbid_unknown_fields


def test_the_strict_twins_are_events_of_every_type() -> None:
    assert [event.__base__ for event in strict_events()] == list(EVENT_CLASSES.values())


def test_only_pieces_of_content_are_deltas() -> None:
    assert {"text_delta", "thinking", "tool_delta"} == DELTA_TYPES


@pytest.mark.parametrize("event_type", EventType)
def test_a_type_is_found_by_its_name(event_type: EventType) -> None:
    assert parse_event_type(str(event_type)) is event_type


@pytest.mark.parametrize("name", ["", "text", "TEXT_DELTA", " usage"])
def test_an_unknown_type_is_refused_with_the_list_of_types(name: str) -> None:
    with pytest.raises(ValueError, match=rf"unknown event type '{name}'; the types are text_delta, .*, extension$"):
        parse_event_type(name)


def test_an_event_is_made_with_what_is_given_and_nothing_else() -> None:
    assert msgspec.to_builtins(make_event(TextDelta("Hi"))) == {"type": "text_delta", "data": {"text": "Hi"}}


def test_an_event_is_made_with_timestamp_and_number() -> None:
    moment = datetime(2026, 11, 22, 11, tzinfo=timezone(timedelta(hours=1)))
    event = make_event(TextDelta("Hi", choice=0), timestamp=moment, producer_seq=3)
    assert msgspec.to_builtins(event) == {
        "type": "text_delta",
        "timestamp": "2026-11-22T11:00:00+01:00",
        "producer_seq": 3,
        "data": {"text": "Hi", "choice": 0},
    }


def test_an_event_is_not_made_of_a_time_without_a_zone() -> None:
    moment = datetime(2026, 11, 22, 11, tzinfo=UTC).replace(tzinfo=None)
    with pytest.raises(ValueError, match="timestamp has no zone"):
        make_event(TextDelta("Hi"), timestamp=moment)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1.5, "1970-01-01T00:00:01.500000Z"),
        (1795345200.123456, "2026-11-22T11:00:00.123456Z"),
    ],
)
def test_a_timestamp_is_utc_with_microseconds(seconds: float, text: str) -> None:
    assert format_timestamp(seconds) == text
