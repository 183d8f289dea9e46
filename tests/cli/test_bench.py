"""`deltawire bench`: its figures, and a run against a real gateway."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection

from deltawire.gateway.cli.bench.figures import Durations, Milliseconds, Reader, Report
from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from deltawire.protocol.codes import CloseCode
from tests.support.fakes import FakeGateway, closing, frames, stay, text
from tests.support.minting import token, write_secret
from tests.support.processes import SUBSCRIBED, Run, Start
from tests.support.waiting import eventually

SHORT = ("--seconds=0.1", "--producers=2", "--consumers=3")
FEW = Milliseconds(p50=1.0, p99=2.0, max=3.0)
MANY = Milliseconds(p50=3.0, p99=4.0, max=5.0)
NONE = Milliseconds(p50=None, p99=None, max=None)
REPORT = Report(
    url="ws://gateway",
    producers=2,
    consumers=3,
    rate=50,
    seconds=10.0,
    sent=1000,
    delivered=3000,
    events_per_second=100.0,
    deliveries_per_second=300.0,
    lost=0,
    altered=0,
    reconnects=0,
    producer_connect=FEW,
    consumer_connect=FEW,
    latency=FEW,
    own_delay=NONE,
    cpu=0.5,
)


READY = {"type": "ready", "stream": "s", "epoch": "e", "head": 0, "generation": 0, "producer_seq": 0}


def flat(message: dict[str, Any] | list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items of a batch, or the one message."""
    return message if isinstance(message, list) else [message]


def with_changes(**changes: Any) -> Report:
    return msgspec.structs.replace(REPORT, **changes)


def test_a_percentile_is_what_so_many_do_not_exceed() -> None:
    durations = Durations()
    for number in range(1, 101):
        durations.add(number / 1000)
    assert durations.summarise() == Milliseconds(p50=50.0, p99=99.0, max=100.0)
    assert Durations().summarise() == NONE


def test_a_reader_counts_what_came_folded_or_not_and_how_late() -> None:
    latency = Durations()
    reader = Reader([1.0, 2.0, 3.0], latency)
    reader.take(1, 1, now=1.5)
    reader.take(2, 3, now=4.0)
    assert (reader.delivered, reader.lost) == (3, 0)
    assert latency.summarise() == Milliseconds(p50=1000.0, p99=2000.0, max=2000.0)


def test_what_was_sent_and_did_not_come_is_lost() -> None:
    reader = Reader([1.0, 2.0, 3.0], Durations())
    reader.take(1, 1, now=1.0)
    assert reader.lost == 2


@pytest.mark.parametrize(
    ("changes", "doubt"),
    [
        ({}, None),
        ({"cpu": 0.95}, "95%"),
        ({"events_per_second": 80.0}, "100 events/s were asked for, and 80 were sent"),
        ({"events_per_second": 80.0, "rate": 0}, None),
        ({"own_delay": MANY}, "this computer is busy"),
        ({"own_delay": MANY, "latency": NONE}, None),
        ({"own_delay": FEW}, None),
    ],
)
def test_figures_that_say_more_of_the_client_are_doubted(changes: dict[str, Any], doubt: str | None) -> None:
    doubts = " ".join(with_changes(**changes).doubts())
    assert doubt in doubts if doubt else doubts == ""


@pytest.mark.parametrize(("changes", "word"), [({"lost": 1}, "lost"), ({"altered": 1}, "altered")])
def test_a_run_is_whole_only_without_losses(changes: dict[str, int], word: str) -> None:
    assert REPORT.is_whole
    report = with_changes(**changes)
    assert not report.is_whole
    assert any(re.fullmatch(rf"{word} +1\b.*", line) for line in report.lines())


async def test_a_run_says_what_it_measured_and_closes_its_streams(run: Run) -> None:
    async with Gateway(Settings(port=0, drain_timeout=0)) as gateway:
        done = await run("bench", gateway.url, *SHORT)
        assert [(info.id[:6], info.closed) for info in gateway.hub.list_info()] == [("bench-", True)] * 2
        await eventually(lambda: all(not it.consumers + it.producers for it in gateway.hub.list_info()), "nobody there")
    assert done.status == 0, done.errors
    assert [line.split()[0] for line in done.output.splitlines()] == [
        "connect",
        "consumers",
        "sent",
        "delivered",
        "latency",
        "lost",
    ]
    assert done.output.endswith("lost       0\n")


async def test_the_report_as_json_has_the_same_figures(run: Run, gateway: str) -> None:
    done = await run("bench", "--json", *SHORT, "--rate=0", env={"DELTAWIRE_URL": gateway})
    report = msgspec.json.decode(done.output, type=Report)
    assert (report.url, report.producers, report.consumers) == (gateway, 2, 3)
    assert report.delivered == 3 * report.sent > 0
    assert report.latency.p99 is not None
    assert report.is_whole
    assert json.loads(done.output)["lost"] == 0


async def test_what_a_gateway_drops_is_lost_and_said(run: Run) -> None:
    sent: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def take(peer: ServerConnection) -> None:
        count = 0
        async for message in peer:
            for event in flat(json.loads(message)):
                if event["type"] == "close_stream":
                    sent.set_result(count)
                    return
                count += 1
                await peer.send(text({"type": "ack", "seq": count, "producer_seq": event["producer_seq"]}))

    async def drop(peer: ServerConnection) -> None:
        last = await sent
        await peer.send(text({"type": "gap", "first": 1, "seq": last, "reason": "dropped"}))
        await peer.send(text({"type": "stream_end", "seq": last, "reason": "closed"}))

    async with FakeGateway(
        frames(READY, then=stay), frames(READY, then=take), frames(SUBSCRIBED | {"head": 0}, then=drop)
    ) as gateway:
        done = await run("bench", gateway.url, "--producers=1", "--consumers=1", "--seconds=0.1")
    assert done.status == 1, done.errors
    assert f"lost       {await sent}\n" in done.output
    assert "latency    p50 –, p99 –, max –\n" in done.output


async def test_ctrl_c_closes_the_streams(start: Start) -> None:
    async with Gateway(Settings(port=0, drain_timeout=0)) as gateway:
        process = await start("bench", gateway.url, "--seconds=600", "--producers=2", "--consumers=1")
        await eventually(lambda: sum(it.head > 1 for it in gateway.hub.list_info()) == 2, "events of both")
        process.send_signal(signal.SIGINT)
        output, errors = await process.communicate()
        assert (process.returncode, output, errors) == (130, b"", b"\n")
        assert [info.closed for info in gateway.hub.list_info()] == [True, True]


async def test_a_gateway_that_goes_away_ends_the_run_in_one_line(start: Start) -> None:
    async with Gateway(Settings(port=0, drain_timeout=0)) as gateway:
        process = await start("bench", gateway.url, "--seconds=600", "--producers=1", "--consumers=1")
        await eventually(lambda: any(it.head > 1 for it in gateway.hub.list_info()), "events")
        gateway.hub.close_all()
        output, errors = await process.communicate()
    assert (process.returncode, output) == (1, b"")
    assert errors.decode().splitlines()[-1].startswith("deltawire: error: ")


async def test_a_stream_that_can_not_be_closed_is_named(run: Run) -> None:
    async with FakeGateway(
        frames(READY, then=stay), frames(READY, then=closing(CloseCode.FORBIDDEN, "not you"))
    ) as gateway:
        done = await run("bench", gateway.url, "--producers=1", "--consumers=0", "--prefix=mine")
    left, error = done.errors.splitlines()
    assert done.status == 1
    assert re.fullmatch(r"deltawire: may be left open, for `deltawire streams close`: mine-\w+-1", left)
    assert "not you" in error


async def test_a_prefix_that_leaves_no_room_for_the_rest_of_an_id_is_refused_as_such(run: Run) -> None:
    done = await run("bench", "ws://127.0.0.1:1", f"--prefix={'x' * 115}")
    assert (done.status, done.output) == (2, "")
    assert "Invalid value for '--prefix': expected at most 114 characters, got 115" in done.errors


async def test_without_permission_the_gateway_says_why(run: Run, tmp_path: Path) -> None:
    async with Gateway(Settings(port=0, drain_timeout=0, auth_key=write_secret(tmp_path))) as gateway:
        done = await run("bench", gateway.url, *SHORT)
        assert (done.status, done.output) == (1, "")
        assert "HTTP 401" in done.errors
        shown = {"DELTAWIRE_TOKEN": token(publish=["trial-*"], subscribe=["trial-*"])}
        assert "HTTP 403" in (await run("bench", gateway.url, *SHORT, env=shown)).errors
        allowed = await run("bench", gateway.url, *SHORT, "--prefix=trial", env=shown)
        assert allowed.status == 0, allowed.errors


async def test_more_connections_than_files_are_refused_before_any(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (256, 256))
    done = await run("bench", "ws://127.0.0.1:1", "--producers=100", "--consumers=9")
    assert (done.status, done.output) == (1, "")
    assert "1000 connections" in done.errors
    assert "ulimit -n" in done.errors
