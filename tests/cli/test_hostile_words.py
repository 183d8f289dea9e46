"""What others say drives nobody's terminal, and forges no line, wherever a command repeats it."""

from __future__ import annotations

import json
from http import HTTPStatus

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Response

from gateway.cli.ending import say
from tests.cli.processes import SUBSCRIBED, Run
from tests.client.fakes import FakeGateway, Script, closing, frames

HOSTILE = "a\x1b]0;owned\x07\x1b]52;c;ZXZpbA==\x07\x1b[2J\x9b2J\u202eb\ndeltawire: all is well\r"
SHORT = "\x1b]0;x\x07\x1b[2J\u202eb\ndeltawire: well\r"
PROBLEM = {"type": "problem", "code": "bad_request", "message": HOSTILE, "retryable": False}
REFUSED = Response(
    HTTPStatus.FORBIDDEN,
    "Forbidden",
    Headers({"Content-Type": "application/problem+json"}),
    json.dumps({"title": HOSTILE, "detail": HOSTILE}).encode(),
)
SAID: dict[str, Script | Response] = {
    "the detail of a refusal": REFUSED,
    "a problem": frames(PROBLEM, then=closing(4502, "bad_request")),
    "the reason of a close": frames(then=closing(4502, SHORT)),
    "the reason of a close that is retried": frames(SUBSCRIBED, then=closing(4000, SHORT)),
}


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("command", ["tail", "publish"])
async def test_what_a_gateway_says_drives_no_terminal(run: Run, command: str, said: str) -> None:
    async with FakeGateway(SAID[said]) as gateway:
        done = await run(command, "demo", f"--url={gateway.url}", stdin=b'{"type":"text_delta","data":{"text":"x"}}\n')
    assert done.status != 0
    assert_harmless(done.errors)


async def test_what_a_gateway_says_over_http_drives_no_terminal(run: Run) -> None:
    async with FakeGateway(REFUSED) as gateway:
        done = await run("streams", "list", f"--url={gateway.url}")
    assert done.status != 0
    assert_harmless(done.errors + done.output)


def test_whatever_is_said_is_one_line_that_drives_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE)
    assert_harmless(capsys.readouterr().err)


def assert_harmless(said: str) -> None:
    assert "]0;" in said, "it was repeated"
    assert not set(said) & set("\x1b\x07\x9b\r\u202e")
    assert all(line.startswith("deltawire: ") for line in said.splitlines())
    assert not any(line.startswith(("deltawire: all is", "deltawire: well")) for line in said.splitlines())
