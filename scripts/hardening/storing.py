"""`python -m scripts.hardening.storing`: a gateway whose store fails while it runs, is spoiled, or can't be used.

While a store fails, a producer numbers its events and sends as acks come, and readers of every policy follow it.
Newcomers read other streams, which are stored since before: how long they wait is how much the fault disturbs who only
reads. Others try to publish, and note what they are told. Then the gateway is killed, and started again on what it
stored.

    python -m scripts.hardening.storing [--quick] [--seed 1] [--only full,killed]

Where a disk can't be mounted, that row is skipped, and says so.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import uvloop
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from deltawire.protocol.addresses import PREFIX
from deltawire.protocol.messages import Policy
from scripts.bench.stores import EVENTS, fill
from scripts.hardening.ailments import AILMENTS, Ailment, NotHereError
from scripts.hardening.spoiled import prove_refused, prove_spoiled
from scripts.proof.children import Children, Served, serving
from scripts.proof.numbered import KEEPING, STREAM, Writer, event_of, publishing, read_message, text_of

FAILING: Final = "scripts.hardening.failing"

STORED: Final = 500
"""Streams that are there already, for each second of a go: each is read by one newcomer, as who comes after it would
find it in memory."""

PAUSE: Final = 0.02
"""Seconds between two newcomers, and between two tries to publish."""

TRY: Final = 0.3
"""Seconds that a try may take."""

PACE: Final = 0.005
"""Seconds between two windows of the producer."""

PATIENCE: Final = 20.0
"""Seconds within which a failure must show, and must be over when its cause is."""

SETTLED: Final = 0.3
"""Seconds after which an ack that was on its way has come."""

WAITED: Final = "newcomers waited"
"""What a busy machine makes them do too."""

FACTOR: Final = 3.0
"""How much longer newcomers may wait than while nothing failed."""

FLOOR_MS: Final = 100.0
"""What is never too long: a busy machine takes as much."""


class Waits(NamedTuple):
    """Milliseconds that newcomers waited for everything they came for."""

    p50: float
    longest: float

    def __str__(self) -> str:
        return f"{self.p50:7.1f}{self.longest:8.1f}"


class Peers:
    """Who uses the gateway while its store fails.

    Args:
        served: the gateway.
        writer: the producer.
        stored: streams that are there already.
    """

    def __init__(self, served: Served, writer: Writer, stored: int) -> None:
        self._served = served
        self._writer = writer
        self._waits: list[float] = []
        self._numbers = iter(range(stored))
        self._client = httpx.AsyncClient(base_url=served.http, trust_env=False)
        self.reached = dict.fromkeys(Policy, 0)
        self.told: Counter[str] = Counter()
        self.faults = writer.faults

    @asynccontextmanager
    async def living(self) -> AsyncIterator[None]:
        """Be there, until the gateway is killed at the end of the block."""
        async with self._client, asyncio.TaskGroup() as tasks:
            for policy in Policy:
                tasks.create_task(self._follow(policy))
            coming = [tasks.create_task(it) for it in (self._publish(), self._keep_coming(), self._try())]
            yield
            for task in coming:
                task.cancel()
            self._served.process.kill()

    async def _publish(self) -> None:
        while True:
            await self._writer.publish(self._served.url)
            await asyncio.sleep(PAUSE)

    def _subscribe(self, stream: str, query: str = "") -> connect:
        return connect(f"{self._served.url}{PREFIX}/{stream}/subscribe{query}", proxy=None)

    async def _follow(self, policy: Policy) -> None:
        """See that each event comes, once and in order, with its text, and nothing else."""
        with suppress(ConnectionClosed):
            async with self._subscribe(STREAM, f"?policy={policy}&buffer=1000") as connection:
                while True:
                    message = await read_message(connection)
                    if message["type"] == "text_delta":
                        first, last = message.get("first", message["seq"]), message["seq"]
                        if first != self.reached[policy] + 1 or message["data"]["text"] != text_of(first, last):
                            self.faults.append(f"a reader ({policy}) got {message} after {self.reached[policy]}")
                        self.reached[policy] = last
                    elif message["type"] not in ("subscribed", "caught_up"):
                        self.faults.append(f"a reader ({policy}) got {message}")

    async def _keep_coming(self) -> None:
        for number in self._numbers:
            began = time.monotonic()
            text = ""
            async with self._subscribe(f"s{number}") as connection:
                while (message := await read_message(connection))["type"] != "caught_up":
                    text += message.get("data", {}).get("text", "")
            self._waits.append(1000 * (time.monotonic() - began))
            if text != EVENTS * " word":
                self.faults.append(f"a newcomer read {text!r:.100}")
            await asyncio.sleep(PAUSE)

    async def _try(self) -> None:
        """Publish an event, again and again, and note what comes of it."""
        while True:
            with suppress(WebSocketException, TimeoutError):  # what came before it failed waits to be stored
                async with (
                    asyncio.timeout(TRY),
                    connect(f"{self._served.url}{PREFIX}/tried/publish", proxy=None) as connection,
                ):
                    await connection.send('{"type":"text_delta","data":{"text":"x"}}')
                    while (message := await read_message(connection))["type"] not in ("ack", "problem"):
                        pass
                    self.told[message.get("message", message["type"])] += 1
            await asyncio.sleep(PAUSE)

    async def rest(self, seconds: float) -> Waits:
        """Go on for a while, and see how long newcomers wait."""
        self._waits.clear()
        self.told.clear()
        await asyncio.sleep(seconds)
        seen = len(self._waits)

        async def has_come() -> bool:
            return len(self._waits) > seen

        await self.until("the newcomer who is there should have read all", has_come)
        waits = sorted(self._waits) or [1000 * PATIENCE]
        return Waits(waits[len(waits) // 2], waits[-1])

    async def ready(self) -> httpx.Response:
        """What `/readyz` says."""
        return await self._client.get("/readyz", timeout=PATIENCE)

    async def until(self, what: str, condition: Callable[[], Awaitable[bool]]) -> float:
        """Wait for something; how many seconds it took. That it does not come is a fault."""
        began = time.monotonic()
        while time.monotonic() < began + PATIENCE:
            if await condition():
                return time.monotonic() - began
            await asyncio.sleep(PAUSE)
        self.faults.append(f"{what}, and did not within {PATIENCE:g} s")
        return PATIENCE


async def prove_ailment(ailment: Ailment, seconds: float, folder: Path) -> list[str]:
    """What was wrong while a store failed, and afterwards."""
    writer = Writer(PACE)
    settings = {"data_dir": str(folder), **KEEPING}
    stored = int(STORED * seconds)
    fill(folder, stored)
    async with Children() as children:
        async with serving(children, FAILING, **settings) as served:
            peers = Peers(served, writer, stored)

            async def has_status(status: int) -> bool:
                return (await peers.ready()).status_code == status

            async def goes_on() -> bool:
                return writer.acked > acked and min(peers.reached.values()) > acked

            async with peers.living():
                await asyncio.sleep(SETTLED)
                quiet = await peers.rest(seconds)
                with ailment.cause(served, folder):
                    noticed = await peers.until("/readyz should say 503", partial(has_status, 503))
                    detail = (await peers.ready()).json().get("detail", "")
                    await asyncio.sleep(SETTLED)
                    acked = writer.acked
                    failing = await peers.rest(seconds)
                    if writer.acked != acked:
                        writer.faults.append(f"{writer.acked - acked} events were acked while nothing was stored")
                told = peers.told.copy()
                if ailment.is_curable:
                    cured = await peers.until("/readyz should say 200 again", partial(has_status, 200))
                    again = await peers.until("events should be acked and read again", goes_on)
                    after = await peers.rest(seconds)
        async with serving(children, **settings) as served:
            left = await writer.judge(served)
    print(f"{ailment.name:<48}{quiet} {failing} {after if ailment.is_curable else ''}")
    print(f"  noticed after {noticed:.1f} s; {left} stored, {writer.acked} acked; told {dict(told)}")
    if ailment.is_curable:
        print(f"  {cured:.1f} s after its cause /readyz said 200, {again:.1f} s later events were acked and read")
    return [
        *writer.faults,
        *([f"/readyz says {detail!r}"] if ailment.reason not in detail else []),
        *([f"who published was told {what!r}" for what in told if ailment.reason not in what]),
        *([] if told else ["nobody who published was told anything"]),
        *([f"{WAITED} {failing.longest:.0f} ms"] if failing.longest > max(FACTOR * quiet.longest, FLOOR_MS) else []),
    ]


async def prove_killed(seconds: float, folder: Path) -> list[str]:
    """What was wrong when a gateway was killed after a commit, and before anybody was told of it."""
    writer = Writer(PACE)
    settings = {"data_dir": str(folder), **KEEPING}
    async with Children() as children:
        async with serving(children, FAILING, **settings) as served:
            writing = asyncio.create_task(writer.publish(served.url))
            await asyncio.sleep(seconds)
            served.process.send_signal(signal.SIGUSR2)
            await writing
            await served.process.wait()
        unacked = writer.acked + 1
        async with serving(children, **settings) as served:
            async with publishing(served.url) as connection:
                last = (await read_message(connection))["producer_seq"]
                if last < unacked:
                    writer.faults.append(f"{writer.acked} was acked, something committed after it, and it has {last}")
                for number in range(unacked, last + 1):
                    await connection.send(event_of(number), text=True)
                ack: dict[str, Any] = {}
                while last >= unacked and ack.get("producer_seq") != last:
                    ack = await read_message(connection)
                if ack and ack["seq"] != last:
                    writer.faults.append(f"event {last} has the seq {ack['seq']} when it comes again")
            stored = await writer.judge(served)
    print(f"{KILLED:<48} {unacked - 1} acked, {last} committed, {stored} stored after they came again")
    return [*writer.faults, *([f"{stored} are stored of {last}"] if stored != last else [])]


KILLED: Final = "a gateway killed between a commit and its acks"
SPOILED: Final = "a store that is cut or has bytes flipped"
REFUSED: Final = "a store in use, of a newer schema, or none at all"

NAMES: Final = (*(ailment.name for ailment in AILMENTS), KILLED, SPOILED, REFUSED)


async def run(names: list[str], seed: int, *, is_quick: bool, is_judged_by_waits: bool = True) -> list[str]:
    """Bring about what can go wrong, one after the other; what failed.

    Args:
        names: of `NAMES`, or words in them.
        seed: of what is drawn.
        is_quick: whether a short go will do.
        is_judged_by_waits: whether newcomers may not wait: only on a machine that does nothing else.
    """
    seconds, rounds = (0.5, 100) if is_quick else (3.0, 2000)
    proofs: dict[str, Callable[[Path], Awaitable[list[str]]]] = {
        **{it.name: partial(_prove_prepared, it, seconds) for it in AILMENTS},
        KILLED: partial(prove_killed, seconds),
        SPOILED: partial(prove_spoiled, rounds, seed),
        REFUSED: prove_refused,
    }
    failures = []
    print(f"{'newcomers waited, ms (p50, longest)':<48}{'quiet':>15} {'failing':>15} {'after':>15}")
    for name, prove in proofs.items():
        if names and not any(wanted in name for wanted in names):
            continue
        try:
            found = await _prove_apart(prove)
            if is_judged_by_waits and found and all(what.startswith(WAITED) for what in found):
                print(f"  {'; '.join(found)}: once more, as the machine may be to blame")
                found = await _prove_apart(prove)
        except NotHereError as error:
            print(f"{name:<48} skipped: {error}")
            continue
        failures += [f"{name}: {what}" for what in found if is_judged_by_waits or not what.startswith(WAITED)]
    return failures


async def _prove_apart(prove: Callable[[Path], Awaitable[list[str]]]) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        return await prove(Path(folder))


async def _prove_prepared(ailment: Ailment, seconds: float, folder: Path) -> list[str]:
    with ailment.prepare(folder):
        return await prove_ailment(ailment, seconds, folder)


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.hardening.storing", description="Faults of a store.")
    parser.add_argument("--quick", action="store_true", help="a short go of each")
    parser.add_argument("--only", default="", help="words in the names of rows: full,killed")
    parser.add_argument("--beside-others", action="store_true", help="judge no waits, as other things run meanwhile")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the same again")
    arguments = parser.parse_args()
    names = [name for name in arguments.only.split(",") if name]
    print(f"seed {arguments.seed}")
    failures = uvloop.run(
        run(names, arguments.seed, is_quick=arguments.quick, is_judged_by_waits=not arguments.beside_others)
    )
    for failure in failures:
        print(f"FAILED: {failure}")
    print(f"{len(failures)} failed" if failures else "nothing that was acked was lost, and every fault was named")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
