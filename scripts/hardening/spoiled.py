"""Stores that can't be used as they are: spoiled ones, and those that a gateway must not begin with."""

from __future__ import annotations

import random
import shutil
import sqlite3
import tempfile
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from typing import Final, NamedTuple

from deltawire.gateway.engines.engine import EngineError, StoredStream
from deltawire.gateway.engines.folder import FILE
from deltawire.gateway.engines.sqlite import SqliteEngine
from deltawire.gateway.streams.coalesce import kind_of
from deltawire.gateway.streams.pages import StoredPage, Wanted
from deltawire.gateway.streams.producers import ProducerState
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.staging import Commit
from deltawire.protocol.codec import encode_event
from deltawire.protocol.events import TextDelta
from deltawire.protocol.framing import TEXT, frame
from scripts.proof.children import Children, serving

STREAMS: Final = 20
EVENTS: Final = 60
TIMESTAMP: Final = "2026-11-22T11:00:00.700000Z"
PATIENCE: Final = 2.0
"""Seconds within which a read is answered."""

STATUS: Final = 2
"""What a gateway that does not start ends with."""


class Round(NamedTuple):
    """What became of one spoiled store.

    Attributes:
        outcome: in a few words.
        wrong: what must not be.
    """

    outcome: str
    wrong: list[str]


def _frame_of(stream: int, seq: int) -> bytes:
    return frame(TEXT, encode_event(TextDelta(f"{stream}/{seq} ".ljust(60, ".")), seq, TIMESTAMP))


async def _make(folder: Path, killed: Path) -> None:
    """Store events of streams that came in turns; a copy of it as a killed gateway leaves it."""
    engine = SqliteEngine(folder, "off")
    await engine.open(lambda function: function())
    kind = kind_of(TextDelta(""))
    for stream in range(STREAMS):
        engine.create(f"s{stream}", f"e{stream}", StreamSettings())
    for seq in range(1, EVENTS + 1):
        done = SimpleQueue[Iterable[int]]()
        state = ProducerState("p", 1, seq, seq)
        commits = [
            Commit(f"s{it}", f"e{it}", seq, [kind], [_frame_of(it, seq)], [state], None, None) for it in range(STREAMS)
        ]
        engine.commit(commits, done.put)
        done.get()
    shutil.copytree(folder, killed)
    await engine.close()


def _spoil(path: Path, chance: random.Random) -> str:
    data = bytearray(path.read_bytes())
    if chance.random() < 0.3:
        data = data[: chance.randrange(len(data))]
        done = "cut"
    else:
        for _ in range(chance.choice((1, 1, 1, 8, 64))):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        done = "flipped"
    path.write_bytes(data)
    return done


async def _use(folder: Path) -> Round:
    """Open a store, and read everything it lists."""
    engine = SqliteEngine(folder, "off")
    try:
        streams = await engine.open(lambda function: function())
    except EngineError as error:
        return Round("refused", [] if str(error).startswith(f"data_dir {folder}: ") else [f"it says {error}"])
    except Exception as error:  # noqa: BLE001 - which is what must not be
        return Round("refused", [f"opening it raised {error!r}"])
    try:
        rounds = [_read(engine, stream) for stream in streams]
    finally:
        await engine.close()
    wrong = [what for it in rounds for what in it.wrong]
    outcomes = {it.outcome for it in rounds} | ({"less"} if len(streams) < STREAMS else set())
    return Round("found at a read" if "named" in outcomes else "less" if "less" in outcomes else "whole", wrong)


def _read(engine: SqliteEngine, stored: StoredStream) -> Round:
    floor, head = stored.state.history.floor, stored.state.history.last
    number = {f"s{it}": it for it in range(STREAMS)}.get(stored.id)
    if number is None or stored.epoch != f"e{number}":
        return Round("wrong", [f"there is a stream {stored.id!r} of the epoch {stored.epoch!r}"])
    wrong = [f"{stored.id} begins at {floor}"] if floor != 1 else []
    if list(stored.state.producers) != [ProducerState("p", 1, head, head)]:
        wrong.append(f"{stored.id} of {head} events has the producers {stored.state.producers}")
    outcome = "less" if head < EVENTS else "whole"
    seq = 1
    while seq <= head:
        answer: Future[StoredPage] = Future()
        engine.read(stored.id, stored.epoch, Wanted(seq, head), answer.set_result)
        try:
            page = answer.result(PATIENCE)
        except TimeoutError:
            return Round(outcome, [*wrong, f"reading {stored.id} has no answer"])
        if page.fault:
            outcome = "named"
        elif list(page.frames) != [_frame_of(number, it) for it in range(seq, page.last + 1)]:
            wrong.append(f"{stored.id} has wrong text in place of {seq} to {page.last}")
        if page.last < seq:
            return Round(outcome, [*wrong, f"{stored.id} has nothing to say of {seq}"])
        seq = page.last + 1
    return Round(outcome, wrong)


async def prove_spoiled(rounds: int, seed: int, folder: Path) -> list[str]:
    """What was wrong with stores that were cut at random places, or had random bits flipped.

    What a killed gateway leaves ends with a log that no reader can tell from one that was cut: SQLite takes what is
    whole. So there less may be left, and all that is left must be right.
    """
    await _make(folder / "ended", folder / "killed")
    files = [(folder / "ended", FILE), (folder / "ended", FILE), (folder / "killed", f"{FILE}-wal")]
    outcomes: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for number in range(rounds):
        chance = random.Random(f"{seed} {number}")  # noqa: S311 - the same again for the same seed
        source, file = chance.choice(files)
        with tempfile.TemporaryDirectory() as name:
            copy = Path(name) / "data"
            shutil.copytree(source, copy)
            done = _spoil(copy / file, chance)
            used = await _use(copy)
        if used.outcome == "less" and file == FILE:
            used.wrong.append("events are missing, and nobody says so")
        outcomes[f"{file.partition('.')[2]} {done}: {used.outcome}"] += 1
        wrong.update([f"round {number}: {what}" for what in used.wrong])
    print(f"a store that is cut or has bytes flipped: {rounds} rounds of seed {seed}")
    for outcome, count in sorted(outcomes.items()):
        print(f"  {outcome} ×{count}")
    return list(wrong)


async def prove_refused(folder: Path) -> list[str]:
    """What was wrong with starts that can't be: each must end at once, with a line that says why."""
    newer, garbage, used, file = (folder / name for name in ("newer", "garbage", "used", "file"))
    for name in (newer, garbage, used):
        name.mkdir()
    with closing(sqlite3.connect(newer / FILE)) as database:
        database.execute("PRAGMA user_version = 99")
    (garbage / FILE).write_bytes(b"no database" * 1000)
    file.touch()
    wrong = []
    async with Children() as children, serving(children, data_dir=used):
        for path, reason in (
            (used, "another gateway"),
            (newer, "newer"),
            (garbage, "not a database"),
            (file, "exists"),
        ):
            process = await children.start(
                *("-m", "deltawire", "serve", "--port", "0", "--data-dir", str(path)), stderr=PIPE
            )
            said = (await process.communicate())[1].decode().rstrip("\n")
            print(f"  {process.returncode}: {said.replace(str(folder), '…')}")
            if process.returncode != STATUS or "\n" in said or str(path) not in said or reason not in said:
                wrong.append(f"on {path.name} it ended with {process.returncode}: {said}")
    return wrong
