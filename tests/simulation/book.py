"""What was promised and seen, in all of a run, and what of it does not fit together."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from tests.simulation.store import Reply
from tests.simulation.world import World

_TEXT: Final = re.compile(rb'"text":"([^"]*)"')


class Book:
    """The book.

    Args:
        world: whose history it is told to.

    Attributes:
        violations: promises that were broken.
        may_lose: the faults are such that what the server had and nobody else may be lost.
        retained: events that a stream has at least, as far as there were so many.
        owned: by stream, the term and the epoch that the server has.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.violations: list[str] = []
        self.may_lose = False
        self.retained = 50_000
        self._contents: dict[tuple[str, str], dict[int, str]] = defaultdict(dict)  # stream and epoch → seq → text
        self._stored: set[tuple[str, str, int, str]] = set()
        self._acked: list[tuple[str, str, int, str]] = []
        self._missed: set[tuple[str, str, int]] = set()
        self.owned: dict[str, tuple[bytes, str]] = {}

    def violation(self, what: str) -> None:
        """A promise was broken."""
        self._world.tell(f"!!! {what}")
        self.violations.append(what)

    # At the server

    def called(self, function: str, stream: str, args: Sequence[bytes], reply: Reply) -> None:
        """A function was called on the server."""
        if stream == "*":
            return
        shown = b" ".join(it for it in args[:4] if len(it) < 24).decode(errors="replace")
        self._world.tell(f"    redis {function} {stream} {shown} → {_brief(function, reply)}")
        match function:
            case "create" | "claim" if isinstance(reply, list):
                fields = dict(zip(reply[0][::2], reply[0][1::2], strict=True))
                self.owned[stream] = fields[b"term"], fields[b"epoch"].decode()
            case "repair" if isinstance(reply, int):
                self.owned[stream] = args[0], args[3].decode()
            case "append" | "confirm" if isinstance(reply, int):
                term, epoch = self.owned[stream]
                if args[0] != term:
                    self.violation(f"who had term {args[0].decode()} of {stream} appends after {term.decode()}")
                if function == "append":
                    last = int(args[2])
                    texts = _TEXT.findall(args[4])
                    for seq, text in enumerate(texts, last - len(texts) + 1):
                        self._stored.add((stream, epoch, seq, text.decode()))
                        self._note("stored", stream, epoch, seq, text.decode())
            case _:
                pass

    def _note(self, how: str, stream: str, epoch: str, seq: int, text: str) -> None:
        known = self._contents[stream, epoch].setdefault(seq, text)
        if known != text:
            self.violation(f"{stream} {epoch} {seq} is {known}, and {text} is {how}")

    # At clients

    def acked(self, stream: str, epoch: str, seq: int, text: str) -> None:
        """A producer was told that an event is stored."""
        if (stream, epoch, seq, text) not in self._stored:
            self.violation(f"{text} is acked as {stream} {epoch} {seq}, and was never stored")
        self._acked.append((stream, epoch, seq, text))

    def read(self, stream: str, epoch: str, seq: int, text: str) -> None:
        """A reader got an event."""
        if (stream, epoch, seq, text) not in self._stored and not self._is_inherited(stream, seq, text):
            self.violation(f"{text} is read as {stream} {epoch} {seq}, and was never stored")
        self._note("read", stream, epoch, seq, text)

    def _is_inherited(self, stream: str, seq: int, text: str) -> bool:
        return any((stream, epoch, seq, text) in self._stored for of, epoch in self._contents if of == stream)

    def same(self, stream: str, old: str, new: str, upto: int) -> None:
        """A reader was told that what it has of an epoch is the beginning of another one."""
        for seq, text in self._contents[stream, old].items():
            if seq <= upto:
                self._note(f"in {old}", stream, new, seq, text)

    def missed(self, stream: str, epoch: str, first: int, last: int) -> None:
        """A reader was told that events are not there any more."""
        head = max(seq for of, _, seq, _ in self._stored if of == stream)
        if not self.may_lose and last > head - self.retained:
            self.violation(f"{stream} {epoch} has {first} to {last} no more")
        self._missed.update((stream, epoch, seq) for seq in range(first, last + 1))

    # In the end

    def judge(
        self,
        stream: str,
        epoch: str,
        texts: Mapping[int, str],
        lineage: Sequence[tuple[str, int]],
        whole: Iterable[str],
    ) -> None:
        """Hold what can be read in the end against all that was promised.

        Args:
            stream: its id.
            epoch: in the end.
            texts: of all events, by seq.
            lineage: earlier epochs, the newest first, with the last seq that the next one has of it.
            whole: the texts of all events that were published.
        """
        for of, acked_in, seq, text in self._acked:
            if of != stream:
                continue
            shared = _shared(acked_in, seq, epoch, lineage)
            if shared == seq:
                if texts.get(seq) != text and (stream, epoch, seq) not in self._missed:
                    self.violation(f"{text} was acked as {stream} {acked_in} {seq}, and there is {texts.get(seq)}")
            elif not self.may_lose:
                self.violation(f"{text} was acked as {stream} {acked_in} {seq}, and is lost without reason")
        reached: dict[str, int] = {}
        for text in texts.values():
            producer, _, number = text.partition("/")
            following = int(number) - reached.get(producer, int(number) - 1 if self._missed else 0)
            if following < 1 or (following > 1 and not self.may_lose):
                self.violation(f"{text} of {stream} comes after {producer}/{reached.get(producer, 0)}")
            reached[producer] = int(number)
        if not (self.may_lose or self._missed) and (missing := set(whole) - set(texts.values())):
            self.violation(f"{sorted(missing)} of {stream} are missing")


def _shared(epoch: str, seq: int, current: str, lineage: Sequence[tuple[str, int]]) -> int:
    """How much of a position in an earlier epoch is the same in the current one."""
    if epoch == current:
        return seq
    for name, last in lineage:
        seq = min(seq, last)
        if name == epoch:
            return seq
    return -1


def _brief(function: str, reply: Reply) -> str:
    """A reply for the history."""
    if function in {"create", "claim"} and isinstance(reply, list):
        fields = dict(zip(reply[0][::2], reply[0][1::2], strict=True))
        return " ".join(fields[name].decode() for name in (b"term", b"epoch", b"head", b"lineage"))
    if isinstance(reply, list):
        return f"{len(reply)} entries"
    return reply.decode() if isinstance(reply, bytes) else str(reply)
