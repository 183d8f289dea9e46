"""OpenAI's own SDK, in an environment of its own, reads a response from the gateway and cancels it (SPEC §9.5)."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import venv
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest

from deltawire.gateway.server import Gateway
from deltawire.protocol.events import ContentEnd, MessageStart, MessageStop, TextDelta, Thinking, Usage
from tests.server.conftest import StartGateway
from tests.support.minting import token, write_secret
from tests.support.peers import producer

pytestmark = pytest.mark.installs

PROGRAM = """
import json, sys
from openai import APIStatusError, OpenAI

url, token, what, *arguments = sys.argv[1:]
client = OpenAI(base_url=url + "/v1", api_key=token, max_retries=0)
try:
    match what:
        case "stream":
            starting_after, events = int(arguments[0]), int(arguments[1])
            more = {} if starting_after < 0 else {"starting_after": starting_after}
            for number, event in enumerate(client.responses.retrieve("demo", stream=True, **more), 1):
                print(json.dumps([type(event).__name__, event.model_dump(mode="json")]), flush=True)
                if number == events:
                    break
        case "retrieve":
            print(client.responses.retrieve("demo").model_dump_json())
        case "cancel":
            print(client.responses.cancel("demo").model_dump_json())
except APIStatusError as error:
    print(json.dumps([type(error).__name__, error.status_code]))
"""


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has the SDK."""
    environment = tmp_path_factory.mktemp("openai")
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    done = subprocess.run(
        (*pip, "install", "--quiet", "openai>=3,<4"), check=False, capture_output=True, text=True, timeout=300
    )
    if done.returncode != 0:
        pytest.skip(f"openai can't be installed here: {done.stderr.strip().splitlines()[-1]}")
    return python


async def ask(python: Path, gateway: Gateway, *arguments: str, token: str = "none") -> list[Any]:
    """What the program prints, line by line."""
    url = gateway.url.replace("ws:", "http:")
    process = await asyncio.create_subprocess_exec(
        python, "-c", PROGRAM, url, token, *arguments, stdout=PIPE, stderr=PIPE
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


async def test_a_response_is_streamed_and_resumed_after_any_of_its_events(python: Path, gateway: Gateway) -> None:
    fill(gateway)
    whole = await ask(python, gateway, "stream", "-1", "0")
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
    first = await ask(python, gateway, "stream", "-1", "7")
    rest = await ask(python, gateway, "stream", str(first[-1][1]["sequence_number"]), "0")
    assert first + rest == whole


async def test_a_response_is_retrieved_as_it_is_now(python: Path, gateway: Gateway) -> None:
    fill(gateway)
    [response] = await ask(python, gateway, "retrieve")
    assert (response["id"], response["status"], response["model"]) == ("demo", "completed", "m-large")
    assert response["output"][1]["content"][0]["text"] == "Hello, world"


async def test_a_cancellation_reaches_the_producer(python: Path, gateway: Gateway) -> None:
    async with producer(gateway) as writing:
        gateway.hub.get_or_create("demo").send_nowait(MessageStart("m1"))
        [response] = await ask(python, gateway, "cancel")
        assert response["status"] == "in_progress"
        assert (await writing.read_until("signal"))[-1]["name"] == "cancel"


async def test_a_token_is_the_key(python: Path, start_gateway: StartGateway, tmp_path: Path) -> None:
    gateway = await start_gateway(auth_key=write_secret(tmp_path))
    fill(gateway)
    assert len(await ask(python, gateway, "stream", "-1", "0", token=token(subscribe=["demo"]))) > 10
    for what, allowed in (
        ("stream", token(publish=["demo"])),
        ("retrieve", token(publish=["demo"])),
        ("cancel", token(subscribe=["demo"])),
        ("cancel", token(signal=["demo"])),
    ):
        assert await ask(python, gateway, what, "-1", "0", token=allowed) == [["PermissionDeniedError", 403]]


async def test_what_is_not_there_is_not_found(python: Path, gateway: Gateway) -> None:
    for what in ("stream", "retrieve", "cancel"):
        assert await ask(python, gateway, what, "-1", "0") == [["NotFoundError", 404]]
