"""The JSON Schema accepts what travels and refuses what does not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator, FormatChecker

from deltawire import protocol
from deltawire.protocol.events import EVENT_CLASSES
from deltawire.protocol.messages import FROM_CONSUMER, FROM_PRODUCER, TO_CONSUMER, TO_PRODUCER
from deltawire.protocol.schema import json_schema

SCHEMA = json_schema()
SPEC = (Path(protocol.__file__).parent / "SPEC.md").read_text(encoding="utf-8")
EXAMPLES = [
    (direction, line)
    for direction, body in re.findall(r"^```json ((?:to|from)_\w+)\n(.*?)^```$", SPEC, re.DOTALL | re.MULTILINE)
    for line in body.splitlines()
    if not line.startswith("[")
]


def _is_valid(message: Any, direction: str | None = None) -> bool:
    schema = {"$ref": f"#/$defs/{direction}", "$defs": SCHEMA["$defs"]} if direction else SCHEMA
    return bool(Draft202012Validator(schema, format_checker=FormatChecker()).is_valid(message))


def test_it_is_a_valid_schema_of_its_dialect() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_it_can_be_served_as_json() -> None:
    assert json.loads(msgspec.json.encode(SCHEMA)) == SCHEMA


@pytest.mark.parametrize(("direction", "line"), EXAMPLES)
def test_every_example_is_valid_in_its_direction_and_in_the_whole(direction: str, line: str) -> None:
    message = json.loads(line)
    assert _is_valid(message, direction)
    assert _is_valid(message)


@pytest.mark.parametrize(
    ("direction", "message"),
    [
        ("from_producer", {"type": "text", "data": {"text": "Hi"}}),
        ("from_producer", {"type": "text_delta"}),
        ("from_producer", {"type": "text_delta", "data": {"text": 5}}),
        ("from_producer", {"type": "text_delta", "data": {"text": "Hi", "index": -1}}),
        ("from_producer", {"type": "text_delta", "data": {"text": "Hi", "index": 2**53}}),
        ("from_producer", {"type": "message_start", "data": {"message_id": ""}}),
        ("from_producer", {"type": "signal", "name": "cancel"}),
        ("from_consumer", {"type": "signal"}),
        ("from_consumer", {"type": "close_stream"}),
        ("to_consumer", {"type": "gap", "first": 0, "seq": 1, "reason": "dropped"}),
        ("to_consumer", {"type": "gap", "first": 1, "seq": 1, "reason": "lost"}),
        ("to_producer", {"type": "ack"}),
        ("to_producer", "ready"),
    ],
)
def test_what_does_not_travel_there_is_invalid(direction: str, message: Any) -> None:
    assert not _is_valid(message, direction)


def test_fields_a_client_does_not_know_are_valid() -> None:
    assert _is_valid({"type": "caught_up", "seq": 1, "later": True}, "to_consumer")


def test_every_type_has_a_definition_of_its_name() -> None:
    classes = {*EVENT_CLASSES.values(), *EVENT_CLASSES, *TO_CONSUMER, *FROM_CONSUMER, *TO_PRODUCER, *FROM_PRODUCER}
    assert {cls.__name__ for cls in classes} <= set(SCHEMA["$defs"])
