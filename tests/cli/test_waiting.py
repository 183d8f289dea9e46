"""Commands wait for a gateway that says "not now"; an address at which nobody answers is said at once."""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Response

from deltawire.gateway.client import backoff
from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from tests.cli.exports import delta, describe, inform, lines_of, scripted
from tests.support.fakes import FakeGateway, FakeLog, Script, closing, frames
from tests.support.processes import SUBSCRIBED, Done, Run, Start

LATER = Response(503, "Service Unavailable", Headers({"Retry-After": "0"}), b'{"detail":"it is shutting down"}')
WAITS = "deltawire: the gateway at {} can't serve this now: {}; waiting up to 30 s\n"
AWAY = "HTTP 503: it is shutting down"
ENDED: Script = frames(SUBSCRIBED, {"type": "stream_end", "seq": 0, "reason": "closed"}, then=closing(1000))


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff.Backoff, "delay", lambda *_: 0.0)


def later(text: str = "it is shutting down") -> tuple[str, bytes]:
    """An answer over HTTP that says "not now"."""
    body = b'{"detail":"%b"}' % text.encode()
    return f"503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: {len(body)}", body


def nowhere() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"ws://127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [(LATER, AWAY), (closing(1001, "shutting down"), "closed with 1001: shutting down")],
    ids=["before the upgrade", "after it"],
)
async def test_what_is_in_the_pipe_is_published_once_the_gateway_takes_it(
    run: Run, refusal: Response | Script, reason: str
) -> None:
    log = FakeLog()
    async with FakeGateway(refusal, refusal, log.serving()) as gateway:
        done = await run("publish", "demo", "--pace=1e9", f"--url={gateway.url}", stdin=lines_of(delta(1, "text")))
        assert done == (0, "", WAITS.format(gateway.url, reason))
    assert log.texts == ["text"]


async def test_a_reader_waits_for_a_gateway_that_says_not_now(run: Run) -> None:
    async with FakeGateway(LATER, LATER, ENDED) as gateway:
        assert await run("tail", "demo", f"--url={gateway.url}") == (0, "", WAITS.format(gateway.url, AWAY))


@pytest.mark.parametrize(
    ("arguments", "answers"),
    [
        (("streams", "list"), (b"[]",)),
        (("streams", "info", "demo"), (inform(0),)),
        (("streams", "create", "demo"), (inform(0),)),
        (("streams", "close", "demo"), (inform(0),)),
        (("export", "demo"), (inform(0), inform(0))),
        (("export", "--all"), (b"[]",)),
    ],
)
async def test_a_request_is_made_again_if_the_gateway_says_not_now(
    run: Run, arguments: tuple[str, ...], answers: tuple[bytes, ...]
) -> None:
    async with scripted(later(), later("or its store is away"), *answers) as gateway:
        done = await run(*arguments, f"--url={gateway.url}")
    assert (done.status, done.errors) == (0, WAITS.format(gateway.url, AWAY))


@pytest.mark.parametrize(("tries", "hint"), [(0, ""), (1, ": perhaps an earlier try of this command created it")])
async def test_a_stream_that_an_earlier_try_may_have_created_is_said_to_be_that(
    run: Run, tries: int, hint: str
) -> None:
    taken = b'{"detail":"create \'demo\': the stream exists already"}'
    conflict = f"409 Conflict\r\nContent-Length: {len(taken)}", taken
    late = "504 Gateway Timeout\r\nContent-Length: 0", b""
    async with scripted(*[late] * tries, conflict) as gateway:
        done = await run("streams", "create", "demo", f"--url={gateway.url}")
    assert done.status == 1
    said = f"deltawire: error: create 'demo': the stream exists already (HTTP 409){hint}\n"
    assert done.errors.splitlines(keepends=True)[tries:] == [said]


async def test_an_import_waits_too(run: Run) -> None:
    file = lines_of(describe(1), delta(1))
    async with scripted(later(), inform(1)) as gateway:
        done = await run("import", f"--url={gateway.url}", stdin=file)
    assert done.errors.startswith(WAITS.format(gateway.url, AWAY))
    assert done.errors.endswith("stream 'demo' has 1 events already: name another with --stream\n")


async def test_a_gateway_that_drained_is_waited_for_while_it_starts_again(start: Start, run: Run) -> None:
    """First it says 503, then nobody listens, then it is there again."""
    async with AsyncExitStack() as first:
        fake = await first.enter_async_context(FakeGateway(*[LATER] * 100))
        port = int(fake.url.rpartition(":")[2])
        writer = await start(
            "publish", "demo", "--close", "--format=text", "--", "echo", "text", env={"DELTAWIRE_URL": fake.url}
        )
        assert writer.stderr is not None
        said = (await writer.stderr.readline()).decode()
        assert said == WAITS.format(fake.url, AWAY)
    async with Gateway(Settings(port=port, drain_timeout=0)) as gateway:
        assert await writer.wait() == 0
        assert (await run("tail", "demo", f"--url={gateway.url}")).output == "text\n"


@pytest.mark.parametrize("command", ["publish", "tail"])
@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_refusal_that_waiting_would_not_change_ends_it_at_once(run: Run, command: str, status: int) -> None:
    async with FakeGateway(Response(status, "No", Headers(), b'{"detail":"no"}')) as gateway:
        done = await run(command, "demo", f"--url={gateway.url}", "--retry-for=60")
    assert done == Done(1, "", f"deltawire: error: refused: no (HTTP {status})\n")


@pytest.mark.parametrize("line", ["publish demo", "tail demo", "streams list", "export demo"])
async def test_who_asks_for_patience_gets_it_where_nobody_listens_too(run: Run, line: str) -> None:
    url = nowhere()
    done = await run(*line.split(), f"--url={url}", "--retry-for=0.2")
    gone = f"no gateway at {url}: connection refused"
    assert done == Done(1, "", f"deltawire: {gone}; waiting up to 0.2 s\ndeltawire: error: {gone}\n")


async def test_a_gateway_that_asks_for_more_time_than_there_is_is_given_up_at_once(run: Run) -> None:
    much_later = Response(503, "Service Unavailable", Headers({"Retry-After": "31"}), b"{}")
    async with FakeGateway(much_later) as gateway:
        done = await run("publish", "demo", f"--url={gateway.url}")
        said = f"deltawire: error: the gateway at {gateway.url} can't serve this now: HTTP 503: Service Unavailable\n"
    assert done == Done(1, "", said)
