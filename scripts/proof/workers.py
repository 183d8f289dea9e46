"""The producer and the consumer process: programs that use the client, and may be killed at any time."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
from msgspec import Struct

from deltawire.gateway.client import Fenced, Publisher, Subscriber
from deltawire.gateway.client.backoff import Backoff
from deltawire.protocol.codec import JSON, MSGPACK
from deltawire.protocol.messages import Policy
from scripts.proof.answers import Tag, data_of
from scripts.proof.journal import Journal, position_in, read_messages, read_number

FENCED: Final = 4
"""Exit status of a producer whose newer generation took over."""

STARTED: Final = "started"
"""The line a worker prints when it can be told to end; before, SIGTERM would just kill it."""

QUICK: Final = Backoff(initial=0.02, longest=0.5)
"""Connections are lost several times a second here, and have to be back before the next fault."""

PATIENCE: Final = 60.0
"""Seconds without progress after which a worker gives up: a fault of the gateway, as no fault here lasts that long."""

BURST = 64
"""Events sent in a row before a producer pauses: bursts are what fills buffers."""


class Produce(Struct, frozen=True, kw_only=True, tag="produce"):
    """What a producer process is to do, until it is told to end by SIGTERM.

    Attributes:
        url: the gateway's, or a proxy's.
        stream: the stream's id.
        producer: its id.
        generation: its generation.
        length: events of a message (`data_of`).
        rate: events a second.
        notes: file of the numbers acked.
        is_text: JSON or MessagePack.
    """

    url: str
    stream: str
    producer: str
    generation: int
    length: int
    rate: float
    notes: str
    is_text: bool


class Consume(Struct, frozen=True, kw_only=True, tag="consume"):
    """What a consumer process is to do, until the stream ends.

    Attributes:
        url: the gateway's, or a proxy's.
        stream: the stream's id.
        policy: what happens when it falls behind.
        buffer: its lag limit, in events.
        interval: milliseconds between writes.
        notes: file of everything it got.
        is_text: JSON or MessagePack.
    """

    url: str
    stream: str
    policy: Policy
    buffer: int
    interval: int
    notes: str
    is_text: bool


Job: TypeAlias = Produce | Consume


async def produce(job: Produce) -> None:
    """Publish from where the gateway says the last process with this id and generation got to."""
    told_to_end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told_to_end.set)
    print(STARTED, flush=True)
    path = Path(job.notes)
    with Journal(path) as notes:
        noted = read_number(path)
        async with Publisher(
            job.url,
            job.stream,
            producer=job.producer,
            generation=job.generation,
            retry_for=PATIENCE,
            codec=JSON if job.is_text else MSGPACK,
            backoff=QUICK,
        ) as publisher:
            number = publisher.acked
            if number < noted:
                raise RuntimeError(f"event {noted} was acked, but the gateway says it has {number}")
            while not told_to_end.is_set():
                for _ in range(BURST):
                    number += 1
                    await publisher.send(data_of(Tag(job.producer, job.generation, number), job.length))
                    if publisher.acked > noted:
                        noted = publisher.acked
                        notes.append(b"%d" % noted)
                await asyncio.sleep(BURST / job.rate)
            await publisher.flush()
            notes.append(b"%d" % publisher.acked)


async def consume(job: Consume) -> None:
    """Note everything, from where the notes end."""
    print(STARTED, flush=True)
    path = Path(job.notes)
    with Journal(path) as notes:
        async with Subscriber(
            job.url,
            job.stream,
            position=position_in(read_messages(path)),
            policy=job.policy,
            buffer=job.buffer,
            interval=job.interval,
            retry_for=PATIENCE,
            codec=JSON if job.is_text else MSGPACK,
            backoff=QUICK,
        ) as subscriber:
            async for _, message in subscriber.frames():
                notes.append(JSON.encode(message))


def main(job: str) -> int:
    """Do a job given as JSON; the exit status."""
    try:
        match msgspec.json.decode(job, type=Job):
            case Produce() as work:
                asyncio.run(produce(work))
            case Consume() as work:
                asyncio.run(consume(work))
    except Fenced:
        return FENCED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
