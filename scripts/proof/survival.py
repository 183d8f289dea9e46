"""`python -m scripts.proof.survival`: kill a gateway with a store again and again, under load; what was acked stays.

The producer numbers its events and sends them as fast as acks come. After each kill it continues where `ready` says,
which must not be before the last ack. At the end the stream is read: each event once, in order, with its own text.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from deltawire.protocol.addresses import PREFIX
from scripts.proof.children import Children, Served, serving

WINDOW: Final = 64
"""Events sent and not acked, at most."""


class Survived(NamedTuple):
    """What came of it.

    Attributes:
        kills: of the gateway.
        acked: events, in all.
        stored: events that are in the stream at the end.
        faults: what must not be, in words.
    """

    kills: int
    acked: int
    stored: int
    faults: list[str]


class _Writer:
    """A producer through all its connections."""

    def __init__(self) -> None:
        self.acked = 0
        self.faults: list[str] = []

    async def publish(self, url: str) -> None:
        """Publish until the connection is gone."""
        with suppress(ConnectionClosed, OSError):
            async with connect(f"{url}{PREFIX}/s/publish?producer=p", proxy=None, ping_interval=None) as connection:
                ready = await _read(connection)
                if ready["producer_seq"] < self.acked:
                    self.faults.append(f"{self.acked} was acked, and ready says {ready['producer_seq']}")
                number = ready["producer_seq"]
                self.acked = max(self.acked, number)
                while True:
                    while number - self.acked < WINDOW:
                        number += 1
                        event = {"type": "text_delta", "producer_seq": number, "data": {"text": f"{number} "}}
                        await connection.send(msgspec.json.encode(event), text=True)
                    message = await _read(connection)
                    if message["type"] == "ack":
                        self.acked = max(self.acked, message.get("producer_seq", 0))


async def _read(connection: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = msgspec.json.decode(await connection.recv())
    return message


async def _stored(served: Served) -> list[dict[str, Any]]:
    """Every event of the stream."""
    url = f"{served.url}{PREFIX}/s/subscribe?policy=block"
    events: list[dict[str, Any]] = []
    async with connect(url, proxy=None, max_size=None) as connection:
        while (message := await _read(connection))["type"] != "caught_up":
            if message["type"] != "subscribed":
                events.append(message)
    return events


async def survive(storage: dict[str, object], kills: int, seed: int) -> Survived:
    """Kill a gateway at random moments.

    Args:
        storage: settings that choose its store.
        kills: how often.
        seed: of the moments.
    """
    chance = random.Random(seed)  # noqa: S311 - the same again for the same seed
    writer = _Writer()
    settings = storage | {"retention_events": 10_000_000, "retention_bytes": 2**30}
    async with Children() as children:
        for _ in range(kills):
            async with serving(children, **settings) as served:
                publishing = asyncio.create_task(writer.publish(served.url))
                await asyncio.sleep(chance.uniform(0.02, 0.3))  # at a random moment
                served.process.kill()
                await publishing
        async with serving(children, **settings) as served:
            events = await _stored(served)
    faults = list(writer.faults)
    for seq, event in enumerate(events, 1):
        if event != event | {"type": "text_delta", "seq": seq, "data": {"text": f"{seq} "}}:
            faults.append(f"in place of event {seq} there is {event}")
            break
    if len(events) < writer.acked:
        faults.append(f"{writer.acked} events were acked, and {len(events)} are there")
    return Survived(kills, writer.acked, len(events), faults)


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.proof.survival", description="Kills of a gateway.")
    parser.add_argument("--kills", type=int, default=200, help="how often")
    parser.add_argument("--sync", choices=["always", "interval", "off"], default="always", help="the setting")
    parser.add_argument("--engine-url", default="", help="a server to store on, instead of a folder")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the same moments again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        in_folder: dict[str, object] = {"data_dir": folder, "sync": arguments.sync}
        on_server: dict[str, object] = {"engine_url": arguments.engine_url, "engine_prefix": Path(folder).name}
        storage = on_server if arguments.engine_url else in_folder
        survived = uvloop.run(survive(storage, arguments.kills, arguments.seed))
    print(f"seed {arguments.seed}: {survived.kills} kills, {survived.acked} acked, {survived.stored} stored")
    for fault in survived.faults:
        print(f"FAILED: {fault}")
    print(f"{len(survived.faults)} failed" if survived.faults else "every acked event is there, once and in order")
    return 1 if survived.faults else 0


if __name__ == "__main__":
    sys.exit(main())
