"""What waits to be committed of one stream, the commands for it, and what their replies mean. Pure.

| reply to an append | verdict |
|---|---|
| the head that it leads to | in |
| HEAD, the same | in: an earlier try was applied, and its reply lost |
| HEAD, a part of the way | the rest is sent |
| HEAD before what is committed · MISSING | the server has lost events: appended again from memory |
| FENCED, with the term that came before ours | the server has an older state: likewise |
| FENCED | another gateway has the stream |
| an error | what is stored of it is not what a gateway writes |
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from typing import Any, Final

from deltawire.gateway.engines.engine import Done
from deltawire.gateway.engines.redis.keys import Keys, OfStream
from deltawire.gateway.engines.redis.library import LIBRARY, call
from deltawire.gateway.engines.redis.link import Command
from deltawire.gateway.engines.redis.stored import Fields, Owned, changed_fields, flat, new_fields
from deltawire.gateway.streams.producers import MAX_REMEMBERED
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.staging import Commit

_APPEND: Final = f"{LIBRARY}_append"


class Verdict(Enum):
    """What a reply means."""

    IN = auto()
    AGAIN = auto()
    REPAIR = auto()
    LOST = auto()


class Work:
    """What waits of one stream.

    Args:
        stream: its id.
        epoch: of its log.

    Attributes:
        key: both.
        settings: of a stream that has to be created first.
        frames: to be appended.
        last: seq of the last of them.
        fields: that change with them.
        waiting: who is told when that is done: the number of a commit of many streams, its function, an index in it.
        floor: seq before which events are to be deleted; 0 for none.
        is_gone: the stream is to be deleted.
        is_asked: whether the stream is still this gateway's is to be found out.
        needs_repair: the server has lost events; the term that it shows, empty for ours or none.
    """

    __slots__ = (
        "epoch",
        "fields",
        "floor",
        "frames",
        "is_asked",
        "is_gone",
        "key",
        "last",
        "needs_repair",
        "settings",
        "stream",
        "waiting",
    )

    def __init__(self, stream: str, epoch: str) -> None:
        self.stream = stream
        self.epoch = epoch
        self.key = stream, epoch
        self.settings: StreamSettings | None = None
        self.frames: list[bytes] = []
        self.last = 0
        self.fields: Fields = {}
        self.waiting: list[tuple[int, Done, int]] = []
        self.floor = 0
        self.is_gone = False
        self.is_asked = False
        self.needs_repair: bytes | None = None

    @property
    def has_changes(self) -> bool:
        """Whether there is anything to append."""
        return bool(self.frames or self.fields)

    @property
    def only_appends(self) -> bool:
        """Whether events have to be appended, and nothing else be asked."""
        return bool(self.frames) and not (self.is_gone or self.is_asked or self.floor)

    def add(self, commit: Commit, waiting: tuple[int, Done, int], now: float) -> None:
        """Add a commit, which follows those added before, and who waits for it."""
        self.frames += commit.frames
        self.last = commit.first + len(commit.frames) - 1
        if commit.producers or commit.messages is not None or commit.end_reason is not None:
            self.fields |= changed_fields(commit.producers, commit.messages, commit.end_reason, now)
        self.waiting.append(waiting)

    def extend(self, newer: Work) -> None:
        """Add what has come since for the same stream."""
        self.settings = newer.settings or self.settings
        self.frames += newer.frames
        self.last = max(self.last, newer.last)
        self.fields |= newer.fields
        self.waiting += newer.waiting
        self.floor = max(self.floor, newer.floor)
        self.is_gone |= newer.is_gone
        self.is_asked |= newer.is_asked

    def commands(self, keys: Keys, node: str, owned: Owned | None, now: float) -> list[Command]:
        """What has to be sent for it; nothing for a stream that is another's.

        Args:
            keys: on the server.
            node: name of this gateway there.
            owned: what is known of the stream; None if this gateway does not own it.
            now: seconds since 1970.
        """
        if owned is None:
            if self.settings is None or self.is_gone:
                return []
            names = keys.of_stream(self.stream)
            return [call("create", names, node, b"", self.epoch, *flat(new_fields(self.settings, now)))]
        names = owned.names
        if self.is_gone:
            return [call("release", names, owned.term, "delete")]
        commands: list[Command] = []
        if self.floor:
            commands.append(call("trim", names, owned.term, self.floor, MAX_REMEMBERED))
        if self.frames or self.fields:
            left = self.last - owned.head  # of what the server does not have
            data = b"".join(self.frames[len(self.frames) - left :]) if left > 0 else b""
            last = self.last if left > 0 else owned.head
            commands.append(append(names, owned.term, owned.head, last, data, self.fields, now))
        elif self.is_asked:
            commands.append(call("confirm", names, owned.term, owned.head))
        return commands


def answers(works: Iterable[Work]) -> list[tuple[Done, list[int]]]:
    """Return who is told of work that is done, and of which commits: in the order in which these were taken.

    Each stream's own order is not enough: a function is called once for all streams, and one of them may have waited
    for an earlier function too.
    """
    told: dict[int, tuple[Done, list[int]]] = {}
    for work in works:
        for number, done, index in work.waiting:
            told.setdefault(number, (done, []))[1].append(index)
    return [told[number] for number in sorted(told)]


def append(  # noqa: PLR0913, PLR0917 - what the function of the server takes
    names: OfStream, term: bytes, head: int, last: int, data: bytes, fields: Fields, now: float
) -> Command:
    """The command that appends events up to a seq; arguments as the function has them."""
    command = ("FCALL", _APPEND, len(names), *names, term, head, last, int(now * 1000), data)
    return (*command, *flat(fields)) if fields else command  # most have none


def judge(reply: Any, owned: Owned, last: int) -> Verdict:
    """Judge the reply to an append or to `confirm`; changes the head of what is owned.

    Args:
        reply: a head, or text.
        owned: what was known before.
        last: seq that it leads to.
    """
    if isinstance(reply, int):
        owned.head = reply
        return Verdict.IN
    if isinstance(reply, Exception):
        return Verdict.LOST
    word, _, rest = bytes(reply).partition(b" ")
    if word == b"HEAD":
        head = int(rest)
        if head > last:
            return Verdict.LOST
        if head < owned.head:
            return Verdict.REPAIR
        owned.head = head
        return Verdict.IN if head == last else Verdict.AGAIN
    is_older = word == b"MISSING" or rest.partition(b" ")[0] == owned.prior
    return Verdict.REPAIR if is_older else Verdict.LOST


def seen_term(reply: Any) -> bytes:
    """The term that a reply names; empty for none."""
    word, _, rest = (reply if isinstance(reply, bytes) else b"").partition(b" ")
    return rest.partition(b" ")[0] if word == b"FENCED" else b""
