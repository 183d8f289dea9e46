"""OpenAI's own SDK, in a process of its own, reads a response from the gateway and cancels it (SPEC §9.5)."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import pytest

from deltawire.gateway.server import Gateway
from deltawire.protocol.events import ContentEnd, MessageStart, MessageStop, TextDelta, Thinking, Usage
from tests.server.conftest import StartGateway
from tests.support.minting import token, write_secret
from tests.support.peers import producer
from tests.support.pip import installed
from tests.support.processes import clean_environment

pytestmark = pytest.mark.installs

PROGRAM = """
import json, sys
from openai import APIStatusError, OpenAI

def answers(url, what, token="none", events=0, **more):
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

for line in sys.stdin:
    try:
        found = list(answers(**json.loads(line)))
    except APIStatusError as error:
        found = [[type(error).__name__, error.status_code]]
    print(json.dumps(found), flush=True)
"""


@pytest.fixture(scope="module")
def sdk() -> Iterator[Popen[str]]:
    """A program that answers questions with the SDK, one for all tests: it takes the SDK a second to be imported."""
    environment = clean_environment(PYTHONPATH=str(installed("sdks")))
    with Popen((sys.executable, "-c", PROGRAM), env=environment, stdin=PIPE, stdout=PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait() == 0


async def ask(sdk: Popen[str], gateway: Gateway, *questions: dict[str, Any]) -> list[Any]:
    """What the SDK gets for each question."""

    def answer(question: dict[str, Any]) -> Any:
        assert sdk.stdin is not None
        assert sdk.stdout is not None
        sdk.stdin.write(json.dumps({"url": gateway.url.replace("ws:", "http:"), **question}) + "\n")
        sdk.stdin.flush()
        return json.loads(sdk.stdout.readline())

    return [await asyncio.to_thread(answer, question) for question in questions]


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


async def test_a_response_is_streamed_and_resumed_after_any_of_its_events(sdk: Popen[str], gateway: Gateway) -> None:
    fill(gateway)
    whole, first, rest = await ask(
        *(sdk, gateway, {"what": "stream"}),
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


async def test_a_response_is_retrieved_as_it_is_now(sdk: Popen[str], gateway: Gateway) -> None:
    fill(gateway)
    [[response]] = await ask(sdk, gateway, {"what": "retrieve"})
    assert (response["id"], response["status"], response["model"]) == ("demo", "completed", "m-large")
    assert response["output"][1]["content"][0]["text"] == "Hello, world"


async def test_a_cancellation_reaches_the_producer(sdk: Popen[str], gateway: Gateway) -> None:
    async with producer(gateway) as writing:
        gateway.hub.get_or_create("demo").send_nowait(MessageStart("m1"))
        [[response]] = await ask(sdk, gateway, {"what": "cancel"})
        assert response["status"] == "in_progress"
        assert (await writing.read_until("signal"))[-1]["name"] == "cancel"


async def test_a_token_is_the_key(sdk: Popen[str], start_gateway: StartGateway, tmp_path: Path) -> None:
    gateway = await start_gateway(auth_key=write_secret(tmp_path))
    fill(gateway)
    streamed, *refused = await ask(
        *(sdk, gateway, {"what": "stream", "token": token(subscribe=["demo"])}),
        {"what": "stream", "token": token(publish=["demo"])},
        {"what": "retrieve", "token": token(publish=["demo"])},
        {"what": "cancel", "token": token(subscribe=["demo"])},
        {"what": "cancel", "token": token(signal=["demo"])},
    )
    assert len(streamed) > 10
    assert refused == [[["PermissionDeniedError", 403]]] * 4


async def test_what_is_not_there_is_not_found(sdk: Popen[str], gateway: Gateway) -> None:
    questions = ({"what": what} for what in ("stream", "retrieve", "cancel"))
    assert await ask(sdk, gateway, *questions) == [[["NotFoundError", 404]]] * 3
