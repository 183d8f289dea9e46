"""The promises of SPEC over real sockets and processes, under random faults."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import pytest
from msgspec import structs

from deltawire.gateway.client import Publisher
from deltawire.protocol.events import Data, Digest, Event, MessageStart, MessageStop, TextDelta, Usage, make_event
from deltawire.protocol.messages import Gap, Message, Policy, StreamEnd, Subscribed
from scripts.proof.actors import Actor, Consumer, Producer
from scripts.proof.answers import Tag, data_of, tag_of
from scripts.proof.children import Children, serving
from scripts.proof.journal import Journal, position_in, read_messages, read_number
from scripts.proof.proxy import open_door
from scripts.proof.verdict import Tally, count_proven, judge_consumer, judge_stream, text_of
from tests.support.running import run_script
from tests.support.soaking import lasting
from tests.support.waiting import DEADLINE, eventually

SEED = 20260728
ROUNDS = lasting(30, 200)
ROUNDS_A_KILL = 20
"""Every so many rounds the process is killed; in the others its connection is reset, which takes a hundredth."""


@pytest.mark.slow
async def test_nothing_is_lost_doubled_or_misordered_under_random_faults() -> None:
    output = await run_script("-m", "scripts.chaos", "--seconds", "4", "--streams", "1", "--seed", str(SEED))
    table = {line[:24].strip(): line[24:].strip() for line in output.splitlines()}
    assert f"seed {SEED}" in output
    assert (table["lost"], table["doubled"], table["misordered"], table["altered"]) == ("0", "0", "0", "0")
    assert int(table["delivered"]) > int(table["acked"]) > 100


# Rounds of losing a consumer, and a producer, during one long answer


class Lossy:
    """Somebody who keeps losing the connection, and now and then the life.

    Args:
        actor: who.
        notes: what it has got to.
    """

    def __init__(self, actor: Actor, notes: Path) -> None:
        self._actor = actor
        self._notes = notes
        self._seen = 0

    async def lose(self, *, life: bool) -> None:
        """Let it get a little further, then take something from it."""
        await eventually(lambda: self._actor.door.links and self._size > self._seen, "progress")
        if life:
            await self._actor.worker.kill()
            await self._actor.worker.start()
        else:
            for link in tuple(self._actor.door.links):
                link.cut()
        self._seen = self._size

    @property
    def _size(self) -> int:
        return self._notes.stat().st_size if self._notes.exists() else 0


async def _lose_again_and_again(actors: list[Lossy]) -> None:
    dice = Random(SEED)
    for number in range(1, ROUNDS + 1):
        await dice.choice(actors).lose(life=number % ROUNDS_A_KILL == 0)


@pytest.mark.slow
@pytest.mark.soak
async def test_rounds_of_kill_and_resume_of_consumers_and_of_a_producer_leave_one_text(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        children = await stack.enter_async_context(Children())
        gateway = await stack.enter_async_context(serving(children))
        doors = [await stack.enter_async_context(open_door(gateway.url)) for _ in range(3)]
        producer = Producer(doors[0], children, tmp_path, stream="long", name="p", length=0, rate=2000.0)
        consumers = [
            Consumer(door, children, tmp_path / f"{policy}.notes", stream="long", policy=policy)
            for door, policy in zip(doors[1:], (Policy.COALESCE, Policy.BLOCK), strict=True)
        ]
        workers = [producer.worker, *(consumer.worker for consumer in consumers)]
        await asyncio.gather(*(worker.start() for worker in workers))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_lose_again_and_again([Lossy(producer, tmp_path / "p-0.notes")]))
            tasks.create_task(_lose_again_and_again([Lossy(consumer, consumer.notes) for consumer in consumers]))
        await producer.finish(timeout=2 * DEADLINE)
        async with Publisher(gateway.url, "long") as ending:  # so that there is a digest of the whole text
            await ending.send(MessageStop(message_id=str(Tag("p", 0, 1)), stop_reason="end_turn"))
            await ending.close_stream()
        await asyncio.gather(*(consumer.worker.wait(0, timeout=2 * DEADLINE) for consumer in consumers))
    assert [worker.failures for worker in workers] == [[], [], []]
    acked = read_number(tmp_path / "p-0.notes")
    assert acked > ROUNDS
    said = text_of(data_of(Tag("p", 0, number), 0) for number in range(1, acked + 1))
    for consumer in consumers:
        noted = read_messages(consumer.notes)
        assert text_of(message.data for message in noted if isinstance(message, Event)) == said
        assert count_proven(noted) == 1


# The judge finds what it is there to find

LENGTH = 12


def _event(seq: int, data: Data) -> Event:
    return structs.replace(make_event(data), seq=seq)


def _stream(count: int = 30) -> list[Event]:
    return [_event(number, data_of(Tag("p", 0, number), LENGTH)) for number in range(1, count + 1)]


def _noted(events: list[Event]) -> list[Event | Message]:
    subscribed = Subscribed(
        stream="s", epoch="e", floor=1, head=0, after=0, policy=Policy.BLOCK, buffer=1, recovered=False, closed=False
    )
    return [subscribed, *events, StreamEnd(seq=len(events), reason="closed")]


def test_a_consumer_that_got_everything_is_clean() -> None:
    events = _stream()
    assert judge_consumer(_noted(events), events) == Tally(delivered=30)


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda noted: noted[:4] + noted[5:], "lost"),
        (lambda noted: noted[:-2] + noted[-1:], "lost"),
        (lambda noted: noted[:5] + noted[4:], "doubled"),
        (lambda noted: [*noted[:4], noted[5], noted[4], *noted[6:]], "misordered"),
        (lambda noted: noted[:-1], "altered"),
        (lambda noted: [noted[0], Gap(first=1, seq=1, reason="dropped"), *noted[2:]], "altered"),
        (lambda noted: [*noted[:4], structs.replace(noted[4], data=TextDelta("other")), *noted[5:]], "altered"),
    ],
)
def test_a_consumer_that_did_not_is_found(
    spoil: Callable[[list[Event | Message]], list[Event | Message]], found: str
) -> None:
    events = _stream()
    tally = judge_consumer(spoil(_noted(events)), events)
    assert getattr(tally, found) > 0
    assert not tally.is_clean


def test_a_folded_frame_must_be_what_it_stands_for() -> None:
    events = [_event(seq, TextDelta(f"{seq} ")) for seq in range(1, 4)]
    folded = structs.replace(_event(3, TextDelta("1 2 3 ")), first=1)
    assert judge_consumer(_noted([folded])[:2] + _noted(events)[-1:], events) == Tally(folded=3)
    short = structs.replace(folded, data=TextDelta("1 2 "))
    assert judge_consumer(_noted([short])[:2] + _noted(events)[-1:], events).altered == 1
    mixed = [_event(1, MessageStart("m")), *events[1:]]
    assert judge_consumer(_noted([folded])[:2] + _noted(events)[-1:], mixed).altered == 1


def test_a_text_that_is_not_its_digest_is_found() -> None:
    start, text, stop = (
        _event(1, MessageStart("m")),
        _event(2, TextDelta("hello")),
        MessageStop("m", "end_turn", digest=Digest(first=1, characters=5, sha256="0" * 64)),
    )
    events = [start, text, _event(3, stop)]
    assert judge_consumer(_noted(events), events).mismatched == 1


def test_a_stream_that_holds_what_was_acked_is_clean() -> None:
    assert judge_stream(_stream(), {("p", 0): 30}, LENGTH) == Tally(acked=30)
    assert judge_stream(_stream(), {("p", 0): 20}, LENGTH) == Tally(acked=20)


def test_a_stream_that_misses_what_was_acked_is_found() -> None:
    assert judge_stream(_stream(), {("p", 0): 32}, LENGTH).lost == 2
    assert judge_stream(_stream()[:10] + _stream()[11:], {("p", 0): 30}, LENGTH).lost == 1


def test_a_stream_that_holds_an_event_twice_is_found() -> None:
    assert judge_stream(_stream() + _stream()[-1:], {("p", 0): 30}, LENGTH).doubled == 1


def test_an_event_of_an_older_generation_after_a_newer_is_found() -> None:
    newer = _event(4, data_of(Tag("p", 1, 1), LENGTH))
    late = _event(5, data_of(Tag("p", 0, 4), LENGTH))
    assert judge_stream([*_stream(3), newer, late], {}, LENGTH).misordered == 1


def test_an_event_tells_where_it_comes_from() -> None:
    tags = [Tag("p", 2, number) for number in range(1, 400)]
    assert [tag_of(data_of(tag, LENGTH)) for tag in tags] == tags
    with pytest.raises(ValueError, match="no producer says"):
        tag_of(Usage(1, 1, 2))


def test_a_line_cut_short_by_a_crash_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_bytes(b"1\n2\n3")
    with Journal(path) as journal:
        journal.append(b"4")
    assert path.read_bytes() == b"1\n2\n4\n"


def test_a_consumer_resumes_after_what_it_noted() -> None:
    noted = _noted(_stream(5))
    assert position_in([]) is None
    assert position_in(noted[:1]) == ("e", 0)
    assert position_in(noted) == ("e", 5)
    assert position_in([*noted, Gap(first=6, seq=9, reason="evicted")]) == ("e", 9)
