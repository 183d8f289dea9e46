"""The AsyncAPI document says what the code does, and AsyncAPI's own parser accepts it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from deltawire.gateway.server.http.target import parse_target
from deltawire.protocol.addresses import PUBLISH_PARAMETERS, SUBSCRIBE_PARAMETERS, parse_publish, parse_subscribe
from deltawire.protocol.asyncapi import asyncapi
from deltawire.protocol.codec import CODECS
from deltawire.protocol.codes import CloseCode, ProblemCode
from deltawire.protocol.errors import WireError
from deltawire.protocol.events import EventType
from deltawire.protocol.messages import Message
from tests.support.node import run_node
from tests.support.npm import installed

DOCUMENT = asyncapi()
CHANNELS = DOCUMENT["channels"]
CHECK = """
import { Parser } from "@asyncapi/parser";
import { readFileSync } from "node:fs";

const parser = new Parser();
const judgements = [];
for (const given of JSON.parse(readFileSync(0, "utf8"))) {
  const { document, diagnostics } = await parser.parse(given);
  const worse = diagnostics.filter(({ severity }) => severity < 2); // errors and warnings
  judgements.push({ messages: document?.allMessages().length ?? 0, worse });
}
console.log(JSON.stringify(judgements));
"""


def parameters_of(channel: str) -> dict[str, dict[str, Any]]:
    properties = CHANNELS[channel]["bindings"]["ws"]["query"]["properties"]
    assert isinstance(properties, dict)
    return properties


LISTS = {
    "types": ([*EventType, ",".join(EventType)], ["text"]),
    "index": (["0", "1,20"], ["x", "-1", "1.0"]),
    "choice": (["0", "1,20"], ["x", "-1", "1.0"]),
    "kind": (["text", "t" * 64], ["t" * 65]),
    "extension": (["p", "p/n", "p/n/m,q"], ["/n", "p/"]),
    "urgent": (["marked", "error,usage", "marked,message_stop"], ["text_delta", "x"]),
}
"""Values of the parameters that are lists, and what is none."""

PARAMETERS = [
    (channel, name, parse)
    for channel, parse in (("subscribe", parse_subscribe), ("publish", parse_publish))
    for name in parameters_of(channel)
]


@pytest.mark.thorough
async def test_asyncapi_s_own_parser_accepts_it_and_would_find_a_fault() -> None:
    script = installed("@asyncapi/parser", "3") / "check.mjs"
    script.write_text(CHECK, encoding="utf-8")
    broken = asyncapi()
    del broken["components"]["messages"]["ack"]
    accepted, refused = await run_node(script, given=[DOCUMENT, broken])  # takes long to be loaded
    assert accepted == {"messages": len(DOCUMENT["components"]["messages"]), "worse": []}
    assert refused["worse"]


def test_it_can_be_served_as_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(DOCUMENT)) == DOCUMENT


def test_every_event_and_every_message_is_there_and_travels() -> None:
    tags = {str(cls.__struct_config__.tag) for cls in Message.__subclasses__()} | set(EventType)
    assert tags | {"batch"} == set(DOCUMENT["components"]["messages"])
    assert tags | {"batch"} == {name for channel in CHANNELS.values() for name in channel["messages"]}
    operated = {
        it["$ref"].rpartition("/")[2] for operation in DOCUMENT["operations"].values() for it in operation["messages"]
    }
    assert tags | {"batch"} == operated


def test_every_problem_and_close_code_is_there() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["ProblemCode"]["enum"] == list(ProblemCode)
    assert schemas["Problem"]["properties"]["code"] == {"$ref": "#/components/schemas/ProblemCode"}
    for channel in ("subscribe", "publish"):
        assert set(CHANNELS[channel]["x-close-codes"]) == {str(int(code)) for code in CloseCode}


def test_websockets_name_their_parameters_and_subprotocols() -> None:
    assert tuple(parameters_of("subscribe")) == SUBSCRIBE_PARAMETERS
    assert tuple(parameters_of("publish")) == PUBLISH_PARAMETERS
    for channel in ("subscribe", "publish"):
        headers = CHANNELS[channel]["bindings"]["ws"]["headers"]["properties"]
        assert headers["Sec-WebSocket-Protocol"]["enum"] == list(CODECS)


@pytest.mark.parametrize(("channel", "name", "parse"), PARAMETERS)
def test_a_parameter_is_parsed_within_its_bounds_and_not_beyond(
    channel: str, name: str, parse: Callable[[str], object]
) -> None:
    schema = parameters_of(channel)[name]
    beside = {"epoch": "after=1&", "generation": "producer=p&"}.get(name, "")
    if schema["type"] == "integer":
        good, bad = [schema["minimum"], schema["maximum"]], [schema["minimum"] - 1, schema["maximum"] + 1, "x"]
    elif schema["type"] == "boolean":
        good, bad = ["true", "false"], ["1", "yes"]
    elif "enum" in schema:
        good, bad = schema["enum"], ["x", ""]
    elif "maxLength" in schema:
        good, bad = ["a" * schema["maxLength"], "..."], ["a" * (schema["maxLength"] + 1), "", "..", "a/b"]
        assert all(re.search(schema["pattern"], text) for text in good)
        assert not any(re.search(schema["pattern"], text) for text in bad[1:])
    else:
        good, bad = LISTS[name]
        bad = [*bad, "", f"{good[0]},", ",".join(good[:1] * 33)]
        good = [*good, ",".join(good[:1] * 32)]
        assert all(re.search(schema["pattern"], text) for text in good)
        assert not any(re.search(schema["pattern"], text) for text in bad)
    for value in good:
        parse(f"{beside}{name}={value}")
    for value in bad:
        with pytest.raises(WireError, match=name):
            parse(f"{beside}{name}={value}")


def test_every_address_is_served() -> None:
    for operation in DOCUMENT["operations"].values():
        channel = CHANNELS[operation["channel"]["$ref"].rpartition("/")[2]]
        method = operation.get("bindings", {}).get("http", {}).get("method", "GET")
        target = parse_target(channel["address"].replace("{stream}", "demo"), method)
        assert target.is_endpoint
        assert target.is_websocket is ("ws" in channel.get("bindings", {}))
