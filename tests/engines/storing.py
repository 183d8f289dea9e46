"""What tests of an engine store and read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from deltawire.gateway.engines.engine import StoredStream
from deltawire.gateway.engines.sqlite import SqliteEngine
from deltawire.gateway.engines.writer import Sync
from deltawire.gateway.streams.coalesce import kind_of
from deltawire.gateway.streams.pages import StoredPage, Wanted
from deltawire.gateway.streams.producers import ProducerState
from deltawire.gateway.streams.staging import Commit, OpenMessage
from deltawire.protocol.codec import decode_event, encode_event
from deltawire.protocol.events import TextDelta
from deltawire.protocol.framing import TEXT, frame, payload_start
from deltawire.protocol.messages import EndReason
from tests.support.reading import STAMP

KIND = kind_of(TextDelta("x"))
DEADLINE = 30.0
"""Seconds within which a commit has to be made on a busy machine."""


@contextmanager
def opened(folder: Path, sync: Sync = "off") -> Iterator[tuple[SqliteEngine, list[StoredStream]]]:
    engine = SqliteEngine(folder, sync)
    streams = engine.open(lambda function: function())
    try:
        yield engine, streams
    finally:
        engine.close()


def frames_of(first: int, *texts: str) -> list[bytes]:
    return [frame(TEXT, encode_event(TextDelta(text), seq, STAMP)) for seq, text in enumerate(texts, first)]


def commit(
    first: int,
    *texts: str,
    stream: str = "s",
    epoch: str = "e",
    producers: tuple[ProducerState, ...] = (),
    messages: list[OpenMessage] | None = None,
    end_reason: EndReason | None = None,
) -> Commit:
    frames = frames_of(first, *texts)
    return Commit(stream, epoch, first, [KIND] * len(frames), frames, producers, messages, end_reason)


def store(engine: SqliteEngine, *commits: Commit) -> None:
    """Commit, and wait until that is done."""
    done = threading.Event()
    engine.commit(commits, done.set)
    assert done.wait(DEADLINE), engine.failure


def read(
    engine: SqliteEngine, first: int, last: int, stream: str = "s", size: int = 1_000_000, *, epoch: str = "e"
) -> StoredPage:
    answer: Future[StoredPage] = Future()
    engine.read(stream, epoch, Wanted(first, last, size), answer.set_result)
    return answer.result(DEADLINE)


def texts(engine: SqliteEngine, first: int, last: int, stream: str = "s", *, epoch: str = "e") -> list[str]:
    page = read(engine, first, last, stream, epoch=epoch)
    assert (page.last, page.fault) == (last, "")
    events = [decode_event(it[payload_start(it) :]) for it in page.frames]
    return [it.text for it in events if isinstance(it, TextDelta)]


@contextmanager
def full_disk(engine: SqliteEngine) -> Iterator[None]:
    """Let the database have no more pages than it has."""
    engine._database.execute("PRAGMA max_page_count = 1")  # which is raised to what there is
    try:
        yield
    finally:
        engine._database.execute("PRAGMA max_page_count = 1073741823")


def wait(condition: Callable[[], object]) -> None:
    pause = threading.Event()
    for _ in range(int(DEADLINE / 0.01)):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it did not happen in time")
