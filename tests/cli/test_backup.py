"""`deltawire backup`: what a gateway stores, copied while it runs, and a gateway on the copy."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from deltawire.gateway.client import Publisher, Subscriber
from deltawire.gateway.engines.folder import FILE
from deltawire.protocol.events import TextDelta
from deltawire.protocol.messages import Gap
from deltawire.protocol.position import Position
from tests.support.asking import http_client
from tests.support.processes import Run, Serve, Served
from tests.support.soaking import lasting
from tests.support.waiting import eventually

STREAMS = [f"chat-{number}" for number in range(5)]


class Load:
    """Producers that publish numbers as fast as they are acked.

    Attributes:
        acked: how many each stream has.
    """

    def __init__(self, url: str) -> None:
        self.acked = dict.fromkeys(STREAMS, 0)
        self._url = url
        self._is_over = False

    async def _publish(self, stream: str) -> None:
        async with Publisher(self._url, stream, window=8) as publisher:
            number = 0
            while not self._is_over:
                number += 1
                await publisher.send(TextDelta(f"{number} "))
                self.acked[stream] = publisher.acked
        self.acked[stream] = number

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            for stream in STREAMS:
                tasks.create_task(self._publish(stream))
            yield
            self._is_over = True

    async def grow(self, events: int) -> None:
        """Wait until each stream has so many more acked events."""
        wanted = {stream: acked + events for stream, acked in self.acked.items()}
        await eventually(lambda: all(self.acked[stream] >= wanted[stream] for stream in STREAMS))


async def held(served: Served, stream: str) -> list[str]:
    """The texts of a stream, from its beginning."""
    texts: list[str] = []
    async with http_client(base_url=served.url.replace("ws:", "http:")) as http:
        while lines := (await http.get(f"/v1/streams/{stream}/events?after={len(texts)}")).text.splitlines():
            events = list(map(json.loads, lines))
            assert [event["seq"] for event in events] == [*range(len(texts) + 1, len(texts) + 1 + len(events))]
            texts += (event["data"]["text"] for event in events)
    return texts


async def inform(served: Served, stream: str) -> dict[str, Any]:
    async with http_client(base_url=served.url.replace("ws:", "http:")) as http:
        info: dict[str, Any] = (await http.get(f"/v1/streams/{stream}")).json()
    return info


def put_back(copy: Path) -> Path:
    """A folder for a gateway with a copy, as the README says to make one."""
    folder = copy.with_name(f"restored-{copy.name}")
    folder.mkdir()
    copy.rename(folder / FILE)
    return folder


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
async def test_a_gateway_on_a_copy_made_under_load_has_all_that_was_acked_before(
    serve: Serve, run_process: Run, tmp_path: Path
) -> None:
    served = await serve("--port=0", f"--data-dir={tmp_path / 'data'}")
    load, before = Load(served.url), []
    async with load.running():
        for number in range(3):
            await load.grow(lasting(80, 300))
            before.append(dict(load.acked))
            done = await run_process("backup", str(tmp_path / "data"), str(tmp_path / f"copy-{number}"))
            assert done == (0, "", "")
        await load.grow(40)
    for number, acked in enumerate(before):
        restored = await serve("--port=0", f"--data-dir={put_back(tmp_path / f'copy-{number}')}")
        for stream in STREAMS:
            texts = await held(restored, stream)
            assert acked[stream] <= len(texts) < load.acked[stream]
            assert texts == [f"{it} " for it in range(1, len(texts) + 1)]
    for stream in STREAMS:
        assert len(await held(served, stream)) == load.acked[stream], "nothing of the backups shows in the original"


async def test_one_copy_has_what_all_workers_store_and_any_number_of_workers_can_use_it(
    serve: Serve, run: Run, tmp_path: Path
) -> None:
    served = await serve("--port=0", f"--data-dir={tmp_path / 'data'}", "--workers=2")
    streams = [f"s{number}" for number in range(8)]
    for stream in streams:
        async with Publisher(served.url, stream) as publisher:
            await publisher.send(TextDelta(stream))
    assert await run("backup", str(tmp_path / "data"), str(tmp_path / "copy")) == (0, "", "")
    assert names_in(tmp_path) == ["copy", "data"]
    back = put_back(tmp_path / "copy")
    for workers in (3, 1):
        restored = await serve("--port=0", f"--data-dir={back}", f"--workers={workers}")
        for stream in streams:
            assert await held(restored, stream) == [stream]
        restored.process.terminate()
        await restored.process.wait()


async def test_a_reader_that_was_further_than_the_copy_is_told_so(serve: Serve, run: Run, tmp_path: Path) -> None:
    served = await serve("--port=0", f"--data-dir={tmp_path / 'data'}")
    async with Publisher(served.url, "demo") as publisher:
        await publisher.send(TextDelta("one"))
        await publisher.flush()
        assert await run("backup", str(tmp_path / "data"), str(tmp_path / "copy")) == (0, "", "")
        await publisher.send(TextDelta("two"))
        await publisher.flush()
    before = await inform(served, "demo")
    served.process.terminate()
    await served.process.wait()
    restored = await serve("--port=0", f"--data-dir={put_back(tmp_path / 'copy')}")
    async with Publisher(restored.url, "demo") as publisher:
        await publisher.send(TextDelta("another two"))
    async with Subscriber(restored.url, "demo", position=Position(before["epoch"], before["head"])) as subscriber:
        gap, *events = [await anext(subscriber) for _ in range(2)]
    assert isinstance(gap, Gap)
    assert gap.reason == "epoch_changed"
    assert [event.data for event in events if not isinstance(event, Gap)] == [TextDelta("oneanother two")]


async def test_a_backup_that_is_restored_twice_gives_no_two_events_one_epoch_and_seq(
    serve: Serve, run: Run, tmp_path: Path
) -> None:
    served = await serve("--port=0", f"--data-dir={tmp_path / 'data'}")
    async with Publisher(served.url, "demo") as publisher:
        await publisher.send(TextDelta("one"))
    assert await run("backup", str(tmp_path / "data"), str(tmp_path / "copy")) == (0, "", "")
    positions = []
    for number in range(2):
        shutil.copy(tmp_path / "copy", copy := tmp_path / f"copy-{number}")
        restored = await serve("--port=0", f"--data-dir={put_back(copy)}")
        async with Publisher(restored.url, "demo") as publisher:
            await publisher.send(TextDelta(f" and {number}"))
        positions.append(Position(publisher.epoch, publisher.seq))
    assert len({(await inform(served, "demo"))["epoch"], *(it.epoch for it in positions)}) == 3
    async with Subscriber(restored.url, "demo", position=positions[0]) as subscriber:
        gap, event = [await anext(subscriber) for _ in range(2)]
    assert isinstance(gap, Gap)
    assert gap.reason == "epoch_changed"
    assert not isinstance(event, Gap)
    assert event.data == TextDelta("one and 1"), "all that the backup has, and what came to this one"


async def test_a_copy_is_made_without_a_gateway_and_only_its_owner_can_read_it(
    serve: Serve, run: Run, tmp_path: Path
) -> None:
    served = await serve("--port=0", f"--data-dir={tmp_path / 'data'}")
    await run("publish", "demo", "--format=text", "--close", f"--url={served.url}", stdin=b"text")
    before = await inform(served, "demo")
    served.process.kill()
    await served.process.wait()
    copy = tmp_path / "copy"
    assert await run("backup", str(tmp_path / "data"), str(copy)) == (0, "", "")
    assert copy.stat().st_mode & 0o777 == 0o600
    assert names_in(tmp_path) == ["copy", "data"]
    restored = await serve("--port=0", f"--data-dir={put_back(copy)}")
    after = await inform(restored, "demo")
    assert (after["epoch"], after["head"], after["closed"]) == (before["epoch"], 3, True)


@pytest.mark.parametrize(
    ("data", "target", "reason"),
    [
        ("absent", "copy", "data_dir {}/absent: has no deltawire.sqlite: name that of a gateway with stored streams"),
        ("bad", "copy", "data_dir {}/bad: deltawire.sqlite can't be copied: file is not a database"),
        ("bad", "bad", "{}/bad: exists: name a new file, or remove it"),
        ("bad", "absent/copy", "{}/absent/copy: No such file or directory"),
    ],
)
async def test_what_can_not_be_copied_is_one_line_and_leaves_no_file(
    run: Run, tmp_path: Path, data: str, target: str, reason: str
) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / FILE).write_bytes(b"x" * 5000)
    done = await run("backup", str(tmp_path / data), str(tmp_path / target))
    assert done == (1, "", f"deltawire: error: {reason.format(tmp_path)}\n")
    assert names_in(tmp_path) == ["bad"]


async def test_a_full_disk_is_one_line_and_leaves_no_file(serve: Serve, run_process: Run, tmp_path: Path) -> None:
    served = await serve("--port=0", f"--data-dir={tmp_path / 'data'}")
    async with Publisher(served.url, "demo") as publisher:
        for _ in range(10):
            await publisher.send(TextDelta("x" * 50_000))
    served.process.terminate()
    await served.process.wait()
    small = ("sh", "-c", 'ulimit -f 400; exec "$@"', "sh")
    done = await run_process("backup", str(tmp_path / "data"), str(tmp_path / "copy"), wrapper=small)
    reason = f"data_dir {tmp_path / 'data'}: the copy can't be written: disk I/O error"
    assert done == (1, "", f"deltawire: error: {reason}\n")
    assert names_in(tmp_path) == ["data"]
