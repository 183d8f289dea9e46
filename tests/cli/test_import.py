"""`deltawire import`: the events of an export, published to another stream."""

from __future__ import annotations

import json
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest

from deltawire.gateway.cli import import_
from deltawire.gateway.client import Publisher
from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from deltawire.protocol.events import Data, Event, TextDelta
from tests.cli.exports import delta, describe, lines_of
from tests.support.asking import http_client
from tests.support.processes import Run, Start

TWO = lines_of(describe(2, closed=True), delta(1, "one "), delta(2, "two"))


async def held(gateway: str, stream: str = "demo") -> list[dict[str, Any]]:
    """The events of a stream; none if it does not exist."""
    async with http_client(base_url=gateway.replace("ws:", "http:")) as http:
        page = await http.get(f"/v1/streams/{stream}/events")
    return [json.loads(line) for line in page.text.splitlines()] if page.status_code == 200 else []


async def test_a_file_is_published_under_its_own_id_or_another(run: Run, gateway: str, tmp_path: Path) -> None:
    file = tmp_path / "demo.ndjson"
    file.write_bytes(TWO)
    assert await run("import", str(file), f"--url={gateway}") == (0, "", "")
    assert await run("import", "--stream=other", f"--url={gateway}", stdin=TWO) == (0, "", "")
    assert await held(gateway) == await held(gateway, "other") == [delta(1, "one "), delta(2, "two")]
    info = json.loads((await run("streams", "info", "demo", "--json", f"--url={gateway}")).output)
    assert (info["closed"], info["head"]) == (True, 2)


async def test_what_comes_through_a_pipe_is_published_too(start: Start, gateway: str) -> None:
    process = await start("import", f"--url={gateway}", stdin=PIPE)
    assert await process.communicate(TWO) == (b"", b"")
    assert process.returncode == 0
    assert len(await held(gateway)) == 2


async def test_several_streams_of_a_file_are_published_and_open_ones_stay_open(run: Run, gateway: str) -> None:
    file = TWO + lines_of(describe(1, id="b"), delta(1), describe(0, id="c"))
    assert await run("import", f"--url={gateway}", stdin=file) == (0, "", "")
    infos = json.loads((await run("streams", "list", "--json", f"--url={gateway}")).output)
    assert [(info["id"], info["head"], info["closed"]) for info in infos] == [
        ("b", 1, False),
        ("c", 0, False),
        ("demo", 2, True),
    ]


@pytest.mark.parametrize(
    ("flags", "extra", "reason"),
    [
        ([], b"hello\n", "line 4: JSON is malformed"),
        ([], lines_of(describe(2, id="b"), delta(1)), "line 5: stream 'b' ends after event 1 of 2"),
        ([], lines_of(describe(0)), "line 4: stream 'demo' is in the file twice"),
        (["--stream=x"], lines_of(describe(0, id="b")), "line 4: a second stream begins here"),
    ],
)
async def test_nothing_is_published_of_a_file_that_is_not_whole(
    run: Run, gateway: str, flags: list[str], extra: bytes, reason: str
) -> None:
    done = await run("import", *flags, f"--url={gateway}", stdin=TWO + extra)
    assert (done.status, done.output, len(done.errors.splitlines())) == (1, "", 1)
    assert done.errors.startswith(f"deltawire: error: {reason}")
    assert json.loads((await run("streams", "list", "--json", f"--url={gateway}")).output) == []


async def test_a_stream_with_events_or_without_a_future_is_refused_before_any_is_published(
    run: Run, gateway: str
) -> None:
    url = f"--url={gateway}"
    await run("import", url, stdin=lines_of(describe(1, id="used"), delta(1)))
    await run("streams", "create", "closed", url)
    await run("streams", "close", "closed", url)
    for stream, reason in (("used", "has 1 events already"), ("closed", "is closed")):
        done = await run("import", url, stdin=TWO + lines_of(describe(1, id=stream), delta(1)))
        assert done == (1, "", f"deltawire: error: stream {stream!r} {reason}: name another with --stream\n")
    assert await held(gateway) == []


async def test_an_event_that_the_gateway_refuses_is_named_by_its_line(run: Run) -> None:
    events = [delta(1), *(delta(seq, "x" * 2000 if seq == 7 else "x") for seq in range(4, 10))]
    file = lines_of(describe(9), events[0], {"type": "gap", "first": 2, "seq": 3, "reason": "evicted"}, *events[1:])
    async with Gateway(Settings(port=0, drain_timeout=0, max_message=1024)) as gateway:
        done = await run("import", f"--url={gateway.url}", stdin=file)
        assert (await held(gateway.url))[:4] == [delta(seq) for seq in range(1, 5)]
    said = done.errors.splitlines()[-1]
    assert said.startswith("deltawire: error: line 7: event refused: ")
    assert "max_message" in said
    assert said.endswith("; stream 'demo' has only a part: import into another (--stream)")
    assert done.status == 1


async def test_what_is_missing_is_said(run: Run) -> None:
    too_small = "retention_events, retention_bytes or retention_age is too small"
    gap = {"type": "gap", "first": 1, "seq": 4, "reason": "evicted"}
    file = lines_of(describe(9, floor=5), gap, *map(delta, range(5, 10)))
    async with Gateway(Settings(port=0, drain_timeout=0, retention_events=3)) as gateway:
        done = await run("import", f"--url={gateway.url}", stdin=file)
        assert [event["seq"] for event in await held(gateway.url)] == [3, 4, 5]
    assert (done.status, done.errors.splitlines()) == (
        0,
        [
            "deltawire: stream 'demo': 4 events are not in the export; the others are numbered from 1",
            f"deltawire: stream 'demo': the gateway has evicted the first 2 events again: its {too_small} for all",
        ],
    )


async def test_another_producer_meanwhile_is_a_failure(run: Run, gateway: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Disturbed(Publisher):
        """Has somebody else publish before each of its events."""

        async def send(self, item: Data | Event) -> None:
            async with Publisher(gateway, "demo") as other:
                await other.send(TextDelta("of another"))
            await super().send(item)

    monkeypatch.setattr(import_, "Publisher", Disturbed)
    done = await run("import", f"--url={gateway}", stdin=TWO)
    assert (done.status, len(done.errors.splitlines())) == (1, 1)
    assert "others published to stream 'demo' meanwhile" in done.errors
    assert json.loads((await run("streams", "info", "demo", "--json", f"--url={gateway}")).output)["closed"] is False


async def test_a_gateway_that_loses_the_stream_is_a_failure(
    run: Run, gateway: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Publisher, "lost", 1)
    done = await run("import", f"--url={gateway}", stdin=TWO)
    assert done == (1, "", "deltawire: error: the gateway lost stream 'demo' meanwhile: import it again\n")


async def test_an_absent_file_is_one_line(run: Run) -> None:
    done = await run("import", "absent.ndjson")
    assert (done.status, len(done.errors.splitlines())) == (2, 1)
    assert "absent.ndjson" in done.errors
