"""OpenAI's own SDK, in a process of its own, reads a response from the gateway and cancels it (SPEC §9.5)."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest

from deltawire.gateway.server import Gateway
from deltawire.protocol.events import ContentEnd, MessageStart, MessageStop, TextDelta, Thinking, Usage
from tests.server.conftest import StartGateway
from tests.support.minting import token, write_secret
from tests.support.peers import producer
from tests.support.pip import installed_sdks
from tests.support.processes import clean_environment

pytestmark = pytest.mark.installs

PROGRAM = """
import json, sys
from openai import APIStatusError, OpenAI

url, *questions = sys.argv[1:]

def answers(what, token="none", events=0, **more):
    responses = OpenAI(base_url=url + "/v1", api_key=token, max_retries=0).responses
    match what:
        case "stream":
            for number, event in enumerate(responses.retrieve("demo", stream=True, **more), 1):
                yield [type(event).__name__, event.model_dump(mode="json")]
                if number == events:
                    break
        case "retrieve":
            yield responses.retrieve("demo").model_dump(mode="json")
        case "cancel":
            yield responses.cancel("demo").model_dump(mode="json")

for question in questions:
    try:
        print(json.dumps(list(answers(**json.loads(question)))))
    except APIStatusError as error:
        print(json.dumps([[type(error).__name__, error.status_code]]))
"""


@pytest.fixture(scope="session")
def sdks() -> Path:
    """A folder that has the SDK."""
    return installed_sdks()


async def ask(sdks: Path, gateway: Gateway, *questions: dict[str, Any]) -> list[Any]:
    """What the SDK gets for each question, all asked by one program: it takes the SDK long to be imported."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, gateway.url.replace("ws:", "http:"), *map(json.dumps, questions)),
        env=clean_environment(PYTHONPATH=str(sdks)),
        stdout=PIPE,
        stderr=PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return [json.loads(line) for line in output.decode().splitlines()]


def fill(gateway: Gateway) -> None:
    """A whole answer."""
    stream = gateway.hub.create("demo")
    for data in (
        MessageStart("m1", model="m-large"),
        Thinking("Hm", 0),
        ContentEnd(0),
        TextDelta("Hello", 1),
        TextDelta(", world", 1),
        Usage(1, 2, 3),
        MessageStop("m1", "end_turn"),
    ):
        stream.send_nowait(data)


async def test_a_response_is_streamed_and_resumed_after_any_of_its_events(sdks: Path, gateway: Gateway) -> None:
    fill(gateway)
    whole, first, rest = await ask(
        *(sdks, gateway, {"what": "stream"}),
        *({"what": "stream", "events": 7}, {"what": "stream", "starting_after": 6}),
    )
    assert [event["sequence_number"] for _, event in whole] == list(range(len(whole)))
    assert [name for name, _ in whole[:3]] == [
        "ResponseCreatedEvent",
        "ResponseInProgressEvent",
        "ResponseOutputItemAddedEvent",
    ]
    assert whole[-1][0] == "ResponseCompletedEvent"
    text = "".join(event["delta"] for name, event in whole if name == "ResponseTextDeltaEvent")
    assert text == "Hello, world"
    assert whole[-1][1]["response"]["usage"]["total_tokens"] == 3
    assert (len(first), first + rest) == (7, whole)


async def test_a_response_is_retrieved_as_it_is_now(sdks: Path, gateway: Gateway) -> None:
    fill(gateway)
    [[response]] = await ask(sdks, gateway, {"what": "retrieve"})
    assert (response["id"], response["status"], response["model"]) == ("demo", "completed", "m-large")
    assert response["output"][1]["content"][0]["text"] == "Hello, world"


async def test_a_cancellation_reaches_the_producer(sdks: Path, gateway: Gateway) -> None:
    async with producer(gateway) as writing:
        gateway.hub.get_or_create("demo").send_nowait(MessageStart("m1"))
        [[response]] = await ask(sdks, gateway, {"what": "cancel"})
        assert response["status"] == "in_progress"
        assert (await writing.read_until("signal"))[-1]["name"] == "cancel"


async def test_a_token_is_the_key(sdks: Path, start_gateway: StartGateway, tmp_path: Path) -> None:
    gateway = await start_gateway(auth_key=write_secret(tmp_path))
    fill(gateway)
    streamed, *refused = await ask(
        *(sdks, gateway, {"what": "stream", "token": token(subscribe=["demo"])}),
        {"what": "stream", "token": token(publish=["demo"])},
        {"what": "retrieve", "token": token(publish=["demo"])},
        {"what": "cancel", "token": token(subscribe=["demo"])},
        {"what": "cancel", "token": token(signal=["demo"])},
    )
    assert len(streamed) > 10
    assert refused == [[["PermissionDeniedError", 403]]] * 4


async def test_what_is_not_there_is_not_found(sdks: Path, gateway: Gateway) -> None:
    questions = ({"what": what} for what in ("stream", "retrieve", "cancel"))
    assert await ask(sdks, gateway, *questions) == [[["NotFoundError", 404]]] * 3
