"""What others say drives nobody's terminal, and forges no line, wherever a command repeats it."""

from __future__ import annotations

import json
from http import HTTPStatus

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Response

from deltawire.gateway.cli.ending import say
from tests.support.fakes import FakeGateway, Script, closing, frames
from tests.support.processes import SUBSCRIBED, Run, Start, Terminal

HOSTILE = "a\x1b]0;owned\x07\x1b]52;c;ZXZpbA==\x07\x1b[2J\x9b2J\u202e\u200f\u200e\u061cb\ndeltawire: all is well\r"
SHORT = "\x1b]0;x\x07\x1b[2J\u202e\u200fb\ndeltawire: well\r"
MARKS = set("\x1b\x07\x9b\r\u202e\u200f\u200e\u061c")
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


NESTED = Response(HTTPStatus.FORBIDDEN, "Forbidden", Headers(), b'{"a":' * 100_000)


@pytest.mark.parametrize(
    "command", [("tail", "demo"), ("publish", "demo"), ("streams", "list"), ("streams", "info", "a")]
)
async def test_a_refusal_that_nobody_can_decode_is_one_line_in_words_of_http(
    run: Run, command: tuple[str, ...]
) -> None:
    async with FakeGateway(NESTED) as gateway:
        done = await run(*command, f"--url={gateway.url}")
    assert (done.status, len(done.errors.splitlines())) == (1, 1)
    assert "Forbidden (HTTP 403)" in done.errors


async def test_an_epoch_that_can_not_be_asked_for_is_one_line(run: Run) -> None:
    script = frames(SUBSCRIBED | {"epoch": HOSTILE}, then=closing(4000))
    async with FakeGateway(script) as gateway:
        done = await run("tail", "demo", f"--url={gateway.url}")
    assert done.status == 1
    assert_harmless(done.errors)


def answering(info: object) -> Response:
    return Response(HTTPStatus.OK, "OK", Headers(), json.dumps(info, ensure_ascii=False).encode())


async def test_what_is_shown_of_streams_is_a_line_each_that_drives_no_terminal(run: Run) -> None:
    for command, info in (("info", {"id": HOSTILE, HOSTILE: {HOSTILE: [HOSTILE]}}), ("list", [{"id": HOSTILE}])):
        async with FakeGateway(answering(info)) as gateway:
            arguments = ("demo",) if command == "info" else ()
            done = await run("streams", command, *arguments, f"--url={gateway.url}")
        assert (done.status, len(done.output.splitlines())) == (0, 2)
        assert not set(done.output) & MARKS


@pytest.mark.parametrize("arguments", [("list",), ("info", "demo")])
async def test_json_on_a_terminal_is_equal_and_drives_nothing(
    start: Start, terminal: Terminal, arguments: tuple[str, ...]
) -> None:
    info: object = {"id": f"{HOSTILE}\x7f\u2028"}
    answer = [info] if arguments == ("list",) else info
    response = answering(answer)
    response.body = b" \r\n" + response.body + b"\n"
    async with FakeGateway(response) as gateway:
        url = f"--url={gateway.url}"
        process = await start("streams", *arguments, "--json", url, stdout=terminal.side)
        assert await process.wait() == 0
    await terminal.wait_shown("}")
    await terminal.wait_shown("\n")
    shown = terminal.shown.replace("\r\n", "\n")
    assert not set(shown) & (MARKS | set("\x7f\u2028"))
    assert json.loads(shown) == answer


@pytest.mark.parametrize("body", [b"\x1b[2J", b'["no info"]', b"{} {}"])
async def test_what_is_no_answer_is_not_printed_for_one(run: Run, body: bytes) -> None:
    async with FakeGateway(Response(HTTPStatus.OK, "OK", Headers(), body)) as gateway:
        done = await run("streams", "info", "demo", "--json", f"--url={gateway.url}")
    assert (done.status, done.output, len(done.errors.splitlines())) == (1, "", 1)


async def test_a_number_that_json_can_not_be_made_of_is_no_traceback(run: Run) -> None:
    body = b'[{"id": "a", "head": 99999999999999999999999}]'
    async with FakeGateway(Response(HTTPStatus.OK, "OK", Headers(), body)) as gateway:
        done = await run("streams", "list", "--json", f"--url={gateway.url}")
    assert (done.status, json.loads(done.output)) == (0, json.loads(body))


def test_whatever_is_said_is_one_line_that_drives_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE)
    assert_harmless(capsys.readouterr().err)


def assert_harmless(said: str) -> None:
    assert "]0;" in said, "it was repeated"
    assert not set(said) & MARKS
    assert all(line.startswith("deltawire: ") for line in said.splitlines())
    assert not any(line.startswith(("deltawire: all is", "deltawire: well")) for line in said.splitlines())
