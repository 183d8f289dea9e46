"""`deltawire streams` as a process."""

from __future__ import annotations

import asyncio
import json

import pytest

from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from deltawire.protocol.addresses import MAX_LISTED
from tests.support.processes import Run
from tests.support.serving import listening


async def test_streams_are_created_listed_shown_and_closed(run: Run, gateway: str) -> None:
    url = f"--url={gateway}"
    assert (await run("streams", "create", "one", url)).status == 0
    assert (await run("streams", "create", "two", url)).status == 0
    listed = (await run("streams", "list", url)).output.splitlines()
    assert listed[0].split()[0] == "id"
    assert sorted(line.split()[0] for line in listed[1:]) == ["one", "two"]
    closed = await run("streams", "close", "one", url)
    assert closed.status == 0
    info = dict(line.split(maxsplit=1) for line in (await run("streams", "info", "one", url)).output.splitlines())
    assert (info["id:"], info["head:"], info["closed:"]) == ("one", "0", "yes")


async def test_json_is_what_the_gateway_answers(run: Run, gateway: str) -> None:
    url = f"--url={gateway}"
    created = json.loads((await run("streams", "create", "a:b@c", "--json", url)).output)
    assert created["id"] == "a:b@c"
    listed = await run("streams", "list", "--json", env={"DELTAWIRE_URL": gateway})
    assert [info["id"] for info in json.loads(listed.output)] == ["a:b@c"]
    assert json.loads((await run("streams", "info", "a:b@c", "--json", url)).output)["epoch"] == created["epoch"]
    assert json.loads((await run("streams", "close", "a:b@c", "--json", url)).output)["closed"] is True


async def test_a_list_of_several_pages_is_whole(run: Run) -> None:
    async with Gateway(Settings(port=0)) as gateway:
        names = [f"s-{number:04}" for number in range(2 * MAX_LISTED)]
        for name in reversed(names):
            gateway.hub.create(name)
        listed = await run("streams", "list", "--json", f"--url={gateway.url}")
        assert [info["id"] for info in json.loads(listed.output)] == names
        table = (await run("streams", "list", f"--url={gateway.url}")).output.splitlines()
    assert [line.split()[0] for line in table] == ["id", *names]


@pytest.mark.parametrize(("action", "status"), [("create", 409), ("info", 404), ("close", 404)])
async def test_a_refusal_is_one_line_in_the_gateways_words(action: str, status: int, run: Run, gateway: str) -> None:
    url = f"--url={gateway}"
    await run("streams", "create", "taken", url)
    done = await run("streams", action, "taken" if action == "create" else "absent", url)
    assert done.status == 1
    assert done.output == ""
    assert len(done.errors.splitlines()) == 1
    assert done.errors.endswith(f"(HTTP {status})\n")


async def _answer_badly(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")


@pytest.mark.parametrize("arguments", [("streams", "list"), ("tail", "demo"), ("publish", "demo")])
async def test_something_else_that_answers_is_one_line(arguments: tuple[str, ...], run: Run) -> None:
    async with listening(_answer_badly) as port:
        done = await run(*arguments, f"--url=ws://127.0.0.1:{port}")
    assert done.status == 1
    assert len(done.errors.splitlines()) == 1
    assert done.errors.startswith("deltawire: error: ")
