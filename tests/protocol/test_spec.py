"""SPEC.md and the code say the same: its examples decode, its tables are those of the types."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from deltawire import protocol
from deltawire.gateway.config import Settings
from deltawire.gateway.metrics.catalogue import METRICS
from deltawire.gateway.streams.info import Counters, StreamInfo
from deltawire.protocol import addresses
from deltawire.protocol.codec import JSON, MSGPACK
from deltawire.protocol.codes import STAYS_OPEN, CloseCode, ProblemCode, close_code, is_problem_retryable, is_retryable
from deltawire.protocol.errors import WireError
from deltawire.protocol.event_stream import Body, EventStream
from deltawire.protocol.events import EVENT_CLASSES, Digest, Event
from deltawire.protocol.filters import FILTERS
from deltawire.protocol.messages import FROM_CONSUMER, FROM_PRODUCER, TO_CONSUMER, TO_PRODUCER, Message

SPEC = (Path(protocol.__file__).parent / "SPEC.md").read_text(encoding="utf-8")
BLOCKS = [(block[1], block[2]) for block in re.finditer(r"^```([^\n]+)\n(.*?)^```$", SPEC, re.DOTALL | re.MULTILINE)]
DECODERS = {
    "to_consumer": JSON.decode_to_consumer,
    "from_consumer": JSON.decode_from_consumer,
    "to_producer": JSON.decode_to_producer,
    "from_producer": JSON.decode_from_producer,
}


def _examples(tag: str) -> list[str]:
    return [line for found, body in BLOCKS if found == tag for line in body.splitlines()]


def _items(line: str) -> list[bytes]:
    payload = line.encode()
    return [bytes(item) for item in JSON.split_batch(payload)] if JSON.is_batch(payload) else [payload]


def _session_lines(peer: str) -> list[tuple[str, str]]:
    arrows = {"<": f"to_{peer}", ">": f"from_{peer}"}
    return [(arrows[line[0]], line[2:]) for line in _examples(f"session {peer}")]


EXAMPLES = [
    *[(direction, line) for direction in DECODERS for line in _examples(f"json {direction}")],
    *_session_lines("consumer"),
    *_session_lines("producer"),
]


def _table(first_header: str) -> list[list[str]]:
    """The rows of the table whose first header cell is this."""
    tables = re.findall(r"(?:^\|.*\n)+", SPEC, re.MULTILINE)
    rows = [[[cell.strip() for cell in line[1:-1].split("|")] for line in table.splitlines()] for table in tables]
    (found,) = [table for table in rows if table[0][0] == first_header]
    return found[2:]


def _column(first_header: str, number: int) -> list[str]:
    return [_bare(row[number]) for row in _table(first_header)]


def _bare(cell: str) -> str:
    return cell.strip("`")


def _kind(found: inspect.Type) -> str:
    """A type of the code in the words of SPEC §1."""
    match found:
        case inspect.StrType():
            return "name" if found.min_length else "string"
        case inspect.IntType():
            return {None: "integer", 0: "count", 1: "seq"}[found.ge]
        case inspect.EnumType():
            return " ".join(sorted(member.value for member in found.cls))
        case inspect.LiteralType():
            return " ".join(sorted(map(str, found.values)))
        case inspect.StructType():
            return found.cls.__name__.lower()
        case _:
            kinds = {inspect.BoolType: "boolean", inspect.AnyType: "value", inspect.RawType: "event"}
            return (kinds | {inspect.VarTupleType: "strings"})[type(found)]


def _rows_of_code(name: str, cls: type[Any]) -> list[tuple[str, str, str, str]]:
    described = inspect.type_info(cls)
    assert isinstance(described, inspect.StructType)
    rows = [
        (name, field.encode_name, _kind(field.type), "required" if field.required else "optional")
        for field in described.fields
    ]
    return rows or [(name, "—", "—", "—")]


def _rows_of_spec(first_header: str) -> list[tuple[str, str, str, str]]:
    return [
        (_bare(name), _bare(field), " ".join(sorted(_bare(word) for word in kind.split())), presence.split(";")[0])
        for name, field, kind, presence in _table(first_header)
    ]


def _tag(cls: type[Message]) -> str:
    return str(cls.__struct_config__.tag)


@pytest.mark.parametrize(("direction", "line"), EXAMPLES)
def test_every_example_decodes_in_its_direction(direction: str, line: str) -> None:
    for item in _items(line):
        assert DECODERS[direction](item) is not None


@pytest.mark.parametrize(("direction", "line"), [example for example in EXAMPLES if example[0].startswith("to_")])
def test_an_example_from_the_gateway_is_written_as_the_gateway_writes_it(direction: str, line: str) -> None:
    message = DECODERS[direction](line.encode())
    assert set(json.loads(JSON.encode(message))) == set(json.loads(line))
    if isinstance(message, Event):
        order = [name for name in _column("field", 0) if name in json.loads(line)]
        assert list(json.loads(line)) == order


@pytest.mark.parametrize("line", _examples("json refused_from_producer"))
def test_every_example_of_a_refused_event_is_refused(line: str) -> None:
    with pytest.raises(WireError) as caught:
        JSON.decode_from_producer(line.encode())
    assert caught.value.code is ProblemCode.INVALID_EVENT


@pytest.mark.parametrize("line", _examples("json refused_from_consumer"))
def test_every_example_of_a_refused_consumer_message_is_refused(line: str) -> None:
    with pytest.raises(WireError) as caught:
        JSON.decode_from_consumer(line.encode())
    assert caught.value.code is ProblemCode.UNKNOWN_MESSAGE


def test_the_messagepack_example_is_the_json_example_before_it() -> None:
    (body,) = [body for tag, body in BLOCKS if tag == "hex to_consumer"]
    assert MSGPACK.decode_to_consumer(bytes.fromhex(body)) == JSON.decode_to_consumer(BLOCKS[0][1].encode())


def test_every_block_of_examples_has_a_tag_that_is_tested() -> None:
    tested = {f"json {direction}" for direction in DECODERS} | {"session consumer", "session producer"}
    tested |= {
        "json refused_from_producer",
        "json refused_from_consumer",
        "hex to_consumer",
        "json http",
        "json claims",
        "sse",
    }
    assert {tag for tag, _ in BLOCKS} == tested


def test_every_http_example_is_json() -> None:
    for body in _examples("json http"):
        assert isinstance(json.loads(body), dict)


def test_the_example_of_server_sent_events_is_as_the_gateway_writes_it() -> None:
    (body,) = [body for tag, body in BLOCKS if tag == "sse"]
    encoding = EventStream("f3a1c2", Body(is_chunked=False))
    for event in body.removesuffix("\n\n").split("\n\n"):
        payload = event.rpartition("data: ")[2].encode()
        message = JSON.decode_to_consumer(payload)
        assert message is not None
        if isinstance(message, Event):
            assert isinstance(message.seq, int)
            written = encoding.relay(payload, message.seq)
        else:
            written = encoding.frame(message)
        assert written == f"{event}\n\n".encode()


def test_problems_in_examples_have_the_code_and_the_retryable_flag_of_the_code() -> None:
    for direction, line in EXAMPLES:
        fields = json.loads(line)
        if direction.startswith("to_") and fields["type"] == "problem":
            assert fields["retryable"] is is_problem_retryable(ProblemCode(fields["code"]))


def test_the_table_of_events_is_that_of_the_types() -> None:
    rows = [row for data in EVENT_CLASSES for row in _rows_of_code(data.type, data)]
    assert _rows_of_spec("type") == rows


def test_the_table_of_a_digest_is_that_of_the_type() -> None:
    rows = [(field, kind, presence) for _, field, kind, presence in _rows_of_code("", Digest)]
    assert [(_bare(field), kind, presence) for field, kind, presence in _table("in a digest")] == rows


def test_the_table_of_the_envelope_is_that_of_the_types() -> None:
    names = {"type", *(field.encode_name for field in msgspec.structs.fields(Event))}
    assert set(_column("field", 0)) == names
    assert {_bare(row[0]) for row in _table("field") if row[3] == "required"} == {"type", "data"}


@pytest.mark.parametrize(
    ("first_header", "classes"),
    [
        ("to a consumer", TO_CONSUMER),
        ("from a consumer", FROM_CONSUMER),
        ("to a producer", TO_PRODUCER),
        ("from a producer", FROM_PRODUCER),
    ],
)
def test_the_table_of_messages_is_that_of_the_types(first_header: str, classes: tuple[type[Message], ...]) -> None:
    rows = [row for cls in classes for row in _rows_of_code(_tag(cls), cls)]
    assert sorted(_rows_of_spec(first_header)) == sorted(rows)


@pytest.mark.parametrize(
    ("endpoint", "names"),
    [
        ("…/subscribe", addresses.SUBSCRIBE_PARAMETERS),
        ("…/publish", addresses.PUBLISH_PARAMETERS),
        ("…/events", addresses.EVENTS_PARAMETERS),
        ("…/ui-message-stream", addresses.UI_PARAMETERS),
        ("GET /v1/responses/{id}", addresses.RESPONSE_PARAMETERS),
        ("GET /v1/streams", addresses.LIST_PARAMETERS),
        ("PUT …", addresses.CREATE_PARAMETERS),
    ],
)
def test_the_table_of_parameters_is_that_of_the_code(endpoint: str, names: tuple[str, ...]) -> None:
    assert tuple(_column(f"parameter of `{endpoint}`", 0)) == names


def test_the_defaults_of_parameters_are_those_of_the_code() -> None:
    settings, subscribe = Settings(), addresses.parse_subscribe("")
    publish, events = addresses.parse_publish(""), addresses.parse_events("")
    defaults = {
        "subscribe": [
            subscribe.start,
            _or(subscribe.position, "—"),
            "—",
            settings.policy,
            str(settings.buffer),
            *[_or(getattr(subscribe, name), "all") for name in FILTERS],
            _or(subscribe.urgent, "none"),
            str(subscribe.interval),
            str(subscribe.heartbeat),
            str(subscribe.create).lower(),
        ],
        "publish": [_or(publish.producer, "—"), str(publish.generation), publish.on_full],
        "events": [str(events.after), _or(events.epoch or None, "—"), str(events.limit), str(events.wait)],
    }
    for endpoint, values in defaults.items():
        assert _column(f"parameter of `…/{endpoint}`", 2) == values
    ui = addresses.parse_ui_message_stream("")
    assert _column("parameter of `…/ui-message-stream`", 2) == [str(ui.interval), str(ui.create).lower()]
    listing = addresses.parse_list("")
    assert _column("parameter of `GET /v1/streams`", 2) == [_or(listing.after or None, "—"), str(listing.limit)]


def _or(value: object, word: str) -> object:
    return word if value is None else value


def test_the_table_of_stream_info_is_that_of_the_type() -> None:
    assert tuple(_column("info field", 0)) == StreamInfo.__struct_fields__
    for counter in Counters.__struct_fields__:
        assert f"`{counter}`" in _table("info field")[-2][2]


def test_the_table_of_problem_codes_is_that_of_the_code() -> None:
    yes_no = {True: "yes", False: "no"}
    rows = [
        [
            problem.value,
            "—" if problem in STAYS_OPEN else str(close_code(problem).value),
            yes_no[is_problem_retryable(problem)],
        ]
        for problem in ProblemCode
    ]
    assert [[_bare(row[0]), *row[1:3]] for row in _table("problem code")] == rows


def test_the_table_of_close_codes_is_that_of_the_code() -> None:
    rows = [[str(code.value), code.name.lower(), "yes" if is_retryable(code) else "no"] for code in CloseCode]
    assert [[row[0], _bare(row[1]), row[2]] for row in _table("close code")] == rows


def test_the_table_of_settings_is_that_of_the_code() -> None:
    defaults = {name: format(value, "g" if isinstance(value, float) else "") for name, value in _settings().items()}
    assert dict(zip(_column("setting", 0), _column("setting", 1), strict=True)) == defaults


def _settings() -> dict[str, Any]:
    settings: dict[str, Any] = msgspec.to_builtins(Settings())
    return settings


def test_the_table_of_metrics_is_that_of_the_catalogue() -> None:
    rows = [[metric.name, metric.kind, " ".join(metric.labels) or "—", metric.help] for metric in METRICS]
    found = [
        [_bare(name), kind, labels.replace("`", "").replace(",", ""), text]
        for name, kind, labels, text in _table("metric")
    ]
    assert found == rows


def test_bounds_in_the_text_are_those_of_the_code() -> None:
    assert f"1 to {addresses.MAX_STREAM_ID} characters of" in SPEC
    assert f"1 to {addresses.MAX_PRODUCER_ID} characters of" in SPEC
    assert f"lag limit in events, 1 to {addresses.MAX_BUFFER} " in SPEC
    assert f"milliseconds between writes, 0 to {addresses.MAX_INTERVAL_MS} " in SPEC


def test_every_link_inside_the_text_leads_to_a_heading() -> None:
    headings = re.findall(r"^#+ (.+)$", SPEC, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", SPEC)) <= anchors
