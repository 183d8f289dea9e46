"""`python -m scripts.hardening.proofs`: what a gateway takes and how long a turn is, whatever its peers send.

- *memory*: hundreds of peers do anything that can be done, at random, read it or not, and go at any moment. What the
  process takes stays within `ROOM` times `memory_limit` over what it took at first, and when all have gone, as much is
  in use as when others had gone before.
- *returned*: the same with the allocator of the C library, and when all have gone, the process takes as much as when
  others had gone before. Python's own allocator keeps a MiB for as long as one object in it lives.
- *loop*: one message of the largest size of every shape, in both encodings, to producers' and consumers' endpoints.
  No turn of the loop takes longer than `TURN_MS`, and the p99 of a healthy group is at most `FACTOR` times that of a
  quiet run (`turns`).
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Final, NamedTuple

import uvloop

from scripts.bench.wire import request
from scripts.hardening.frames import MIB, text
from scripts.hardening.generated import (
    CONSUMED,
    PRODUCED,
    SUBPROTOCOLS,
    encode,
    random_message,
    random_query,
    random_request,
)
from scripts.hardening.hostile import Hostile, NoAnswerError
from scripts.hardening.measured import Measure, Measured, measuring
from scripts.hardening.turns import ROUNDS, WAITED, prove_loop
from scripts.proof.children import Children

LIMIT: Final = 64 * MIB
"""`memory_limit` of the gateway that is measured."""

ROOM: Final = 1.5
"""Times the limit that the process may take over what it took at first: what an allocator leaves unused, and what is on
its way between two rounds of counting, counts for the rest."""

AFTERWARDS: Final = 1.2
"""Times the memory and the blocks in use when a crowd had gone that may be taken when another has."""

GONE: Final = 30.0
"""Seconds after which it must have given everything back: three and a half, and the rest for a busy machine."""

KNOWN: Final = 200
"""Messages of each kind that are generated beforehand, so that peers are as fast as they can be."""

FULL: Final = "full"
"""A stream that has much to be read."""

MOOD: Final = 2.0
"""Seconds until all that peers do is drawn again."""

SETTINGS: Final[dict[str, float]] = {
    "memory_limit": LIMIT,
    "retention_bytes": 2 * MIB,
    "connection_rate": 0.0,
    "closed_retention": 1.0,
    "inactive_after": 3.0,
    "cleanup_interval": 1.0,
    "lease": 0.5,
    "handshake_timeout": 2.0,
    "send_timeout": 2.0,
    "block_timeout": 1.0,
}
"""Where they are not the defaults: everything that ends by itself does so in seconds."""


class Times(NamedTuple):
    """How much is done.

    Attributes:
        seconds: of random peers.
        peers: at a time.
        every: one of so many shapes.
        rounds: of watching neighbours, at least.
    """

    seconds: float
    peers: int
    every: int
    rounds: int = ROUNDS


QUICK: Final = Times(seconds=4.0, peers=100, every=40)
BRIEF: Final = QUICK._replace(seconds=2.5, every=160, rounds=2)
WHOLE: Final = Times(seconds=30.0, peers=400, every=1)


# Memory


class Mood(NamedTuple):
    """What peers are like for a while. Each is drawn by itself, so that in some all do the same, at its extreme.

    Attributes:
        acts: what they do: `ask` over HTTP, `read` or `write` a stream.
        ends: how they take what comes: `whole`, `slowly` or `never`.
        streams: how many there are to choose from.
        patience: seconds until one goes, whatever it is about, on average.
        buffer: SO_RCVBUF in bytes; 0 leaves it.
        messages: how many one sends at most.
        known: frames they send, by endpoint and encoding.
        requests: they send over plain HTTP.
    """

    acts: tuple[str, ...]
    ends: tuple[str, ...]
    streams: int
    patience: float
    buffer: int
    messages: int
    known: dict[tuple[str, bool], list[bytes]]
    requests: list[bytes]


def draw_mood(chance: random.Random) -> Mood:
    """Any mood."""
    kinds = chance.choice((3, KNOWN))  # of messages: so few that one of them is nearly all there is, or many
    return Mood(
        acts=_some(chance, ("ask", "read", "write")),
        ends=_some(chance, ("whole", "slowly", "never")),
        streams=chance.choice((1, 30, 3000)),
        patience=chance.choice((0.1, 1.0, 10.0)),
        buffer=chance.choice((0, 4096)),
        messages=chance.choice((1, 30, 1000)),
        known={
            (endpoint, is_text): [encode(random_message(chance, messages), is_text=is_text) for _ in range(kinds)]
            for endpoint, messages in (("write", PRODUCED), ("read", CONSUMED))
            for is_text in (True, False)
        },
        requests=[random_request(chance, FULL) for _ in range(kinds)],
    )


def _some(chance: random.Random, of: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(chance.sample(of, chance.choice((1, 1, len(of)))))


class Crowd:
    """Peers that do anything, one after the other.

    Args:
        port: of the gateway.
        seed: of what they do.
        until: monotonic seconds at which nobody begins anything new.
    """

    def __init__(self, port: int, seed: int, until: float) -> None:
        self._port = port
        self._chance = random.Random(seed)  # noqa: S311 - the same again for the same seed
        self._mood = draw_mood(self._chance)
        self._until = until

    async def run(self, peers: int) -> None:
        """Be there until the time is over."""
        await asyncio.gather(self._change_moods(), self._fill(), *(self._be_somebody() for _ in range(peers)))

    async def _change_moods(self) -> None:
        while time.monotonic() < self._until:
            await asyncio.sleep(MOOD)
            self._mood = draw_mood(self._chance)

    async def _fill(self) -> None:
        """Have one stream full all the time, whatever others do to it."""
        words = text({"type": "text_delta", "data": {"text": "x" * 20_000}})
        while time.monotonic() < self._until:
            async with Hostile(self._port) as it:
                with suppress(NoAnswerError, OSError):
                    await it.ask(request(f"/v1/streams/{FULL}/publish", self._port))
                    while time.monotonic() < self._until and await it.send(words):  # noqa: ASYNC110 - at a pace
                        await asyncio.sleep(0.01)
            await asyncio.sleep(0.01)

    async def _be_somebody(self) -> None:
        chance = self._chance
        while time.monotonic() < self._until:
            mood = self._mood
            address = f"127.0.{chance.randrange(1, 250)}.{chance.randrange(1, 250)}"
            patience = min(chance.expovariate(1 / mood.patience), self._until - time.monotonic())
            async with Hostile(self._port, address, mood.buffer) as it:
                with suppress(TimeoutError, NoAnswerError, OSError):
                    async with asyncio.timeout(patience):  # then it goes, whatever it was about
                        await self._act(it, mood)
            await asyncio.sleep(0)

    async def _act(self, it: Hostile, mood: Mood) -> None:
        chance = self._chance
        stream = f"s{chance.randrange(mood.streams)}"
        act = chance.choice(mood.acts)
        if act == "ask":
            await it.send(chance.choice(mood.requests))
        else:
            await self._speak(it, mood, act, stream)
        match chance.choice(mood.ends):
            case "whole":
                await it.read_rest()
            case "slowly":
                while await it.take(100):  # noqa: ASYNC110 - nothing announces what a slow reader waits for
                    await asyncio.sleep(0.05)
            case _:
                await asyncio.sleep(60.0)

    async def _speak(self, it: Hostile, mood: Mood, act: str, stream: str) -> None:
        """Open a WebSocket, and send messages on it, whole but for a few."""
        chance = self._chance
        subprotocol = chance.choice(SUBPROTOCOLS)
        query = random_query(chance) if act == "read" else chance.choice(("", f"producer=p{chance.randrange(1000)}"))
        endpoint = "subscribe" if act == "read" else "publish"
        await it.ask(request(f"/v1/streams/{stream}/{endpoint}?{query}".rstrip("?"), self._port, subprotocol))
        known = mood.known[act, subprotocol == SUBPROTOCOLS[0]]
        for _ in range(chance.randrange(mood.messages + 1) if act == "write" else chance.randrange(3)):
            data = chance.choice(known)
            if not await it.send(data if chance.random() < 0.99 else data[: chance.randrange(len(data))]):
                break


async def prove_memory(times: Times, seed: int, allocator: str = "pymalloc") -> list[str]:
    """What was wrong with the memory that was taken."""
    async with AsyncExitStack() as stack:
        children = await stack.enter_async_context(Children())
        gateway = await stack.enter_async_context(measuring(children, is_timed=False, allocator=allocator, **SETTINGS))
        cold = await gateway.measure()
        await Crowd(gateway.port, seed + 1, time.monotonic() + times.seconds).run(times.peers)
        base = await _rest(gateway)
        print(f"memory with {allocator}: {_say(cold)} at first, {_say(base)} when a crowd had gone, seed {seed}")
        crowd = asyncio.create_task(Crowd(gateway.port, seed, time.monotonic() + times.seconds).run(times.peers))
        most = counted = connections = streams = 0
        while not crowd.done():
            now = await gateway.measure()
            most, counted = max(most, now.resident), max(counted, now.counted)
            connections, streams = max(connections, now.connections), max(streams, now.streams)
            await asyncio.sleep(0.05)
        await crowd
        after = await _rest(gateway)
    allowed = cold.resident + int(ROOM * LIMIT)
    print(f"  {connections} connections and {streams} streams at most, {counted / MIB:.0f} MiB counted")
    print(f"  {most / MIB:.0f} MiB at most (limit {allowed / MIB:.0f}), {_say(after)} afterwards")
    return [
        *([f"it took {most / MIB:.0f} MiB, more than {allowed / MIB:.0f}"] if most > allowed else []),
        *(
            [f"it kept {after.blocks} blocks of {base.blocks} before"]
            if after.blocks > AFTERWARDS * base.blocks
            else []
        ),
        *(
            [f"it kept {after.resident / MIB:.0f} MiB of {base.resident / MIB:.0f} before"]
            if allocator == "malloc" and after.resident > AFTERWARDS * base.resident
            else []
        ),
        *([f"it still counts {after.counted} bytes"] if after.counted else []),
        *([f"{after.faults} faults"] if after.faults else []),
    ]


async def prove_returned(times: Times, seed: int) -> list[str]:
    """What was wrong with the memory that was taken and given back."""
    return await prove_memory(times, seed, "malloc")


def _say(measure: Measure) -> str:
    return f"{measure.resident / MIB:.0f} MiB in {measure.blocks} blocks"


async def _rest(gateway: Measured) -> Measure:
    """What there is when everybody has gone, and everything has been given back that is."""
    until = time.monotonic() + GONE
    while True:
        now = await gateway.measure()
        if (not now.connections and not now.streams) or time.monotonic() > until:
            break
        await asyncio.sleep(0.1)
    await asyncio.sleep(1.0)  # what is given back late, once
    return await gateway.measure()


PROOFS: Final[dict[str, Callable[[Times, int], Awaitable[list[str]]]]] = {
    "memory": prove_memory,
    "returned": prove_returned,
    "loop": lambda times, seed: prove_loop(times.every, seed, times.rounds),
}


async def run(names: list[str], times: Times, seed: int, *, is_judged_by_waits: bool = True) -> list[str]:
    """Run proofs one after the other; what failed.

    Args:
        names: of the proofs.
        times: how much is done.
        seed: of what is drawn.
        is_judged_by_waits: whether neighbours may not wait: only on a machine that does nothing else.
    """
    failures: list[str] = []
    for name in names:
        found = await PROOFS[name](times, seed)
        if is_judged_by_waits and found and all(what.startswith(WAITED) for what in found):
            print(f"  {'; '.join(found)}: once more, as the machine may be to blame")
            found = await PROOFS[name](times, seed)
        failures += [f"{name}: {what}" for what in found if is_judged_by_waits or not what.startswith(WAITED)]
    return failures


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.hardening.proofs", description="Bounds that always hold.")
    parser.add_argument("--quick", action="store_true", help="a short go of each")
    parser.add_argument("--brief", action="store_true", help="as quick, and too few rounds of *loop* to judge latency")
    parser.add_argument("--only", choices=PROOFS, help="one of them")
    parser.add_argument("--beside-others", action="store_true", help="judge no latency, as other things run meanwhile")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the same again")
    arguments = parser.parse_args()
    names = [arguments.only] if arguments.only else list(PROOFS)
    times = BRIEF if arguments.brief else QUICK if arguments.quick else WHOLE
    failures = uvloop.run(
        run(names, times, arguments.seed, is_judged_by_waits=not (arguments.beside_others or arguments.brief))
    )
    for failure in failures:
        print(f"FAILED: {failure}")
    print(f"{len(failures)} failed" if failures else "every bound held")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
