"""`deltawire export`: what a gateway holds of a stream, as lines."""

from __future__ import annotations

import json
import os
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from deltawire.gateway.client import Publisher
from deltawire.gateway.client.backoff import Backoff
from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from deltawire.protocol.events import TextDelta
from tests.cli.exports import CUT, delta, describe, inform, lines_of, scripted
from tests.support.asking import http_client
from tests.support.processes import Done, Run, Start

GAP = {"type": "gap", "reason": "evicted"}
MISSING = "deltawire: stream 'demo': the gateway no longer has events {} to {}: the export lacks them\n"


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backoff, "delay", lambda *_: 0.0)


async def fill(run: Run, stream: str, url: str, *flags: str) -> None:
    """Publish a message in three events."""
    assert await run("publish", stream, "--format=text", *flags, f"--url={url}", stdin=b"some text") == (0, "", "")


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_a_stream_is_its_description_and_its_events_as_the_gateway_sends_them(run: Run, gateway: str) -> None:
    await fill(run, "demo", gateway, "--close")
    async with http_client(base_url=gateway.replace("ws:", "http:")) as http:
        info, page = (await http.get("/v1/streams/demo")).json(), (await http.get("/v1/streams/demo/events")).text
    done = await run("export", "demo", f"--url={gateway}")
    assert (done.status, done.errors) == (0, "")
    first, _, rest = done.output.partition("\n")
    assert json.loads(first) == {
        "type": "stream",
        "format": 1,
        **{name: info[name] for name in ("id", "epoch", "floor", "head", "closed", "created_at")},
    }
    assert info["closed"] is True
    assert rest == page


async def test_several_streams_follow_each_other_and_all_are_those_of_the_list(run: Run, gateway: str) -> None:
    await fill(run, "b", gateway)
    await fill(run, "a", gateway)
    named = (await run("export", "b", "a", f"--url={gateway}")).output.splitlines()
    listed = (await run("export", "--all", f"--url={gateway}")).output.splitlines()
    assert [json.loads(line)["id"] for line in named[::4]] == ["b", "a"]
    assert [json.loads(line)["id"] for line in listed[::4]] == ["a", "b"]
    assert sorted(named) == sorted(listed)


async def test_all_leaves_out_a_stream_that_is_gone_meanwhile(run: Run) -> None:
    streams = json.dumps([{"id": "gone"}, {"id": "demo"}]).encode()
    gone = ("404 Not Found\r\nContent-Length: 0", b"")
    async with scripted(streams, gone, inform(0), inform(0)) as gateway:
        done = await run("export", "--all", f"--url={gateway.url}")
    assert (done.status, done.errors) == (0, "")
    assert json.loads(done.output)["id"] == "demo"


async def test_an_open_stream_is_exported_up_to_the_head_it_has_at_the_beginning(run: Run) -> None:
    async with scripted(inform(2), lines_of(delta(1)), lines_of(delta(2)), inform(5)) as gateway:
        done = await run("export", "demo", f"--url={gateway.url}")
    assert (done.status, done.errors) == (0, "")
    assert list(map(json.loads, done.output.splitlines())) == [describe(2), delta(1), delta(2)]
    assert [target.partition("?")[2] for target in gateway.asked[1:3]] == ["after=0&limit=2", "after=1&limit=1"]


async def test_evicted_events_are_named_in_the_export_and_on_standard_error(run: Run) -> None:
    async with Gateway(Settings(port=0, drain_timeout=0, retention_events=10)) as gateway:
        async with Publisher(gateway.url, "demo") as publisher:
            for number in range(30):
                await publisher.send(TextDelta(str(number)))
        done = await run("export", "demo", f"--url={gateway.url}")
    described, gap, *events = map(json.loads, done.output.splitlines())
    assert (described["floor"], described["head"]) == (21, 30)
    assert gap == GAP | {"first": 1, "seq": 20}
    assert [event["seq"] for event in events] == [*range(21, 31)]
    assert (done.status, done.errors) == (0, MISSING.format(1, 20))


async def test_events_that_are_evicted_during_the_export_are_named_too(run: Run) -> None:
    pages = lines_of(delta(1)), lines_of(delta(4)), b""
    async with scripted(inform(6), *pages, inform(9, floor=9), inform(9, floor=9)) as gateway:
        done = await run("export", "demo", f"--url={gateway.url}")
    assert list(map(json.loads, done.output.splitlines()))[1:] == [
        delta(1),
        GAP | {"first": 2, "seq": 3},
        delta(4),
        GAP | {"first": 5, "seq": 6},
    ]
    assert done.errors == MISSING.format(2, 3) + MISSING.format(5, 6)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        ((CUT, lines_of(delta(1), delta(2)) + b'{"type":"text_del'), "the connection was lost"),
        (("503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 0", b""), "HTTP 503: Service Unavailable"),
    ],
    ids=["lost", "overloaded"],
)
async def test_an_export_goes_on_where_it_was_after_a_failure(
    run: Run, failure: tuple[str, bytes], reason: str
) -> None:
    have = failure[1].count(b"\n")
    rest = lines_of(*map(delta, range(have + 1, 4)))
    async with scripted(inform(3), failure, rest, inform(3)) as gateway:
        done = await run("export", "demo", f"--url={gateway.url}")
    assert [json.loads(line).get("seq") for line in done.output.splitlines()] == [None, 1, 2, 3]
    assert (done.status, done.errors) == (0, f"deltawire: {reason}; reconnecting in 0.0 s\n")
    assert gateway.asked[2].endswith(f"after={have}&limit={3 - have}")


async def test_a_gateway_that_stays_away_is_given_up_and_leaves_no_half_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "demo.ndjson"
    file.write_text("of yesterday")
    async with scripted(inform(3), (CUT, lines_of(delta(1)))) as gateway:
        done = await run("export", "demo", f"--output={file}", f"--url={gateway.url}", "--retry-for=0")
    assert done == (1, "", f"deltawire: error: no gateway at {gateway.url}: the connection was lost\n")
    assert names_in(tmp_path) == ["demo.ndjson"]
    assert file.read_text() == "of yesterday"


async def test_a_stream_that_began_anew_meanwhile_is_a_failure(run: Run) -> None:
    async with scripted(inform(1), lines_of(delta(1)), inform(3, epoch="e2")) as gateway:
        done = await run("export", "demo", f"--url={gateway.url}")
    assert done.status == 1
    assert "lost and began anew while it was exported: export it again" in done.errors


@pytest.mark.parametrize(
    "page",
    [lines_of(delta(2), delta(1)), lines_of(delta(3)), b"[]\n", b"{}\n", b"hello\n"],
    ids=["backwards", "beyond", "array", "empty object", "text"],
)
async def test_pages_that_are_not_of_a_gateway_end_it_in_one_line(run: Run, page: bytes) -> None:
    async with scripted(inform(2), page) as gateway:
        done = await run("export", "demo", f"--url={gateway.url}")
    assert done.status == 1
    assert done.errors.splitlines()[-1].startswith("deltawire: error: the server there is not a gateway")


async def test_events_that_the_gateway_has_and_does_not_send_are_a_failure(run: Run) -> None:
    async with scripted(inform(2), lines_of(delta(1)), b"", inform(2)) as gateway:
        done = await run("export", "demo", f"--url={gateway.url}")
    assert (done.status, len(done.errors.splitlines())) == (1, 1)
    assert "has events after event 1 of 2, and does not send them" in done.errors


async def test_a_file_is_for_its_owner_and_a_link_to_it_stays(run: Run, gateway: str, tmp_path: Path) -> None:
    await fill(run, "demo", gateway)
    link, file = tmp_path / "link", tmp_path / "file"
    file.write_text("before")
    link.symlink_to(file)
    assert await run("export", "demo", f"--output={link}", f"--url={gateway}") == (0, "", "")
    assert len(file.read_text().splitlines()) == 4
    assert (file.stat().st_mode & 0o777, link.is_symlink()) == (0o600, True)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("/dev/null", "exists and is not a regular file"), ("absent/file", "No such file or directory")],
)
async def test_what_can_not_become_the_file_is_one_line(run: Run, gateway: str, name: str, reason: str) -> None:
    await fill(run, "demo", gateway)
    done = await run("export", "demo", f"--output={name}", f"--url={gateway}")
    assert done == Done(1, "", f"deltawire: error: {name}: {reason}\n")


async def test_a_full_disk_is_one_line_and_leaves_no_file(run: Run, start: Start, gateway: str, tmp_path: Path) -> None:
    await fill(run, "demo", gateway)
    file = tmp_path / "file"
    full = ("sh", "-c", 'ulimit -f 0; exec "$@"', "sh")
    process = await start("export", "demo", f"--output={file}", f"--url={gateway}", wrapper=full)
    _, errors = await process.communicate()
    assert (process.returncode, errors.decode()) == (1, f"deltawire: error: {file}: File too large\n")
    assert names_in(tmp_path) == []


async def test_a_reader_that_leaves_ends_it_without_a_word(start: Start, gateway: str, run: Run) -> None:
    await run("publish", "demo", "--format=text", f"--url={gateway}", stdin=b"word " * 100_000)
    reader, writer = os.pipe()
    process = await start("export", "demo", f"--url={gateway}", stdout=writer, stderr=PIPE)
    os.close(writer)
    os.close(reader)
    _, errors = await process.communicate()
    assert (process.returncode, errors) == (141, b"")
