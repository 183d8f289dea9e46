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
from pathlib import Path
from typing import NamedTuple

import uvloop

from scripts.proof.children import Children, serving
from scripts.proof.numbered import KEEPING, Writer


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


async def survive(folder: Path, kills: int, seed: int, sync: str = "always") -> Survived:
    """Kill a gateway at random moments.

    Args:
        folder: for its store.
        kills: how often.
        seed: of the moments.
        sync: the setting.
    """
    chance = random.Random(seed)  # noqa: S311 - the same again for the same seed
    writer = Writer()
    settings = {"data_dir": str(folder), "sync": sync, **KEEPING}
    async with Children() as children:
        for _ in range(kills):
            async with serving(children, **settings) as served:
                publishing = asyncio.create_task(writer.publish(served.url))
                await asyncio.sleep(chance.uniform(0.02, 0.3))  # at a random moment
                served.process.kill()
                await publishing
        async with serving(children, **settings) as served:
            stored = await writer.judge(served)
    return Survived(kills, writer.acked, stored, writer.faults)


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.proof.survival", description="Kills of a gateway.")
    parser.add_argument("--kills", type=int, default=200, help="how often")
    parser.add_argument("--sync", choices=["always", "interval", "off"], default="always", help="the setting")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the same moments again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        survived = uvloop.run(survive(Path(folder), arguments.kills, arguments.seed, arguments.sync))
    print(f"seed {arguments.seed}: {survived.kills} kills, {survived.acked} acked, {survived.stored} stored")
    for fault in survived.faults:
        print(f"FAILED: {fault}")
    print(f"{len(survived.faults)} failed" if survived.faults else "every acked event is there, once and in order")
    return 1 if survived.faults else 0


if __name__ == "__main__":
    sys.exit(main())
