"""Tell thinking that stands in the text, `<think>…</think>`, apart from it, as `publish --inline-thinking` does. Pure.

A text delta becomes text deltas and `thinking`, of the same index and choice, in the order of the text. What may be the
beginning of a tag waits for what follows: at most seven characters, or backticks.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import TypeAlias

from msgspec import UNSET, UnsetType

from deltawire.gateway.middleware.holding import Held, HoldingQueue
from deltawire.gateway.middleware.stage import Item, OnError, Plan
from deltawire.protocol.events import ContentEnd, Data, MessageStart, MessageStop, TextDelta, Thinking
from deltawire.protocol.inline_thinking import ThinkingSplitter

MAX_TEXTS = 256
"""Texts of one stream at a time; past that, the oldest counts as ended."""

TEXT_COST = 512
"""Bytes that a text costs (CPython 3.11)."""

Key: TypeAlias = tuple[int | UnsetType, int | UnsetType]
"""Index and choice of a text."""


class _Other:
    """An event that waits behind a delta."""

    __slots__ = ("data", "origin")

    size = 0
    is_decided = True

    def __init__(self, origin: int, data: Data) -> None:
        self.origin = origin
        self.data = data

    def items(self) -> Sequence[Item]:
        return ((self.origin, self.data),)


class _Delta:
    """A delta that waits, and its pieces so far."""

    __slots__ = ("data", "is_decided", "origin", "pieces", "size")

    def __init__(self, origin: int, data: TextDelta, pieces: list[tuple[str, str]]) -> None:
        self.origin = origin
        self.data = data
        self.pieces = pieces
        self.size = len(data.text)
        self.is_decided = False

    def items(self) -> Sequence[Item]:
        runs = groupby(self.pieces, key=itemgetter(0))
        return [(self.origin, self._make(kind, "".join(text for _, text in run))) for kind, run in runs]

    def _make(self, kind: str, text: str) -> Data:
        data = self.data
        make = Thinking if kind == "thinking" else TextDelta
        return make(text, data.index, data.choice, data.kind)


class _Text:
    """One text, and its deltas that are not decided."""

    __slots__ = ("deltas", "splitter")

    def __init__(self) -> None:
        self.splitter = ThinkingSplitter()
        self.deltas: list[_Delta] = []

    def settle(self) -> None:
        """Decide its deltas: nothing of them is held back any more."""
        for delta in self.deltas:
            delta.is_decided = True
        self.deltas.clear()


class ThinkingSplit:
    """The stage `split_thinking` of one stream."""

    __slots__ = ("_queue", "_texts")

    is_working = False  # there is little to do with a text, however long

    def __init__(self) -> None:
        self._queue = HoldingQueue()
        self._texts: dict[Key, _Text] = {}

    @property
    def oldest(self) -> int | None:
        """Number of the oldest event held."""
        return self._queue.oldest

    @property
    def bytes(self) -> int:
        """What the events and texts cost."""
        return self._queue.bytes + len(self._texts) * TEXT_COST

    def take(self, item: Item) -> Sequence[Item] | None:
        """Take the next event."""
        origin, data = item
        if not isinstance(data, TextDelta):
            match data:
                case ContentEnd(index=index, choice=choice):
                    self._end([key for key in self._texts if key == (index, choice)])
                case MessageStop(choice=choice):
                    self._end([key for key in self._texts if choice is UNSET or key[1] in (choice, UNSET)])
                case MessageStart():
                    self._end(list(self._texts))
                case _:
                    pass
            return self._hold(_Other(origin, data)) if self._queue.events else (item,)
        key = (data.index, data.choice)
        text = self._texts.get(key)
        if text is None:
            self._begin(key)
            items = self.take(item)
            return (item,) if items is None else items  # it costs more now
        pieces = text.splitter.feed(data.text)
        if not self._queue.events and not text.splitter.is_holding:
            if not pieces:
                return () if data.text else None
            if pieces[0] == ("text", data.text):
                return None  # nearly always
        delta = _Delta(origin, data, pieces)
        text.deltas.append(delta)
        if not text.splitter.is_holding:
            text.settle()
        return self._hold(delta)

    def _begin(self, key: Key) -> None:
        if len(self._texts) >= MAX_TEXTS:
            self._end([next(iter(self._texts))])
        self._texts[key] = _Text()

    def _hold(self, waiting: Held) -> Sequence[Item]:
        return self._queue.take_decided() if self._queue.add(waiting) else self.let_out()

    def _end(self, keys: list[Key]) -> None:
        for key in keys:
            self._let_out(self._texts.pop(key))

    def _let_out(self, text: _Text) -> None:
        if text.deltas:
            last = text.deltas[-1]
            last.pieces += text.splitter.finish()
            text.settle()

    def work(self) -> Sequence[Item]:
        """Nothing is left to do."""
        return ()

    def let_out(self) -> Sequence[Item]:
        """Let out all that is held: the beginning of a tag is text, and so is the rest of it."""
        for text in self._texts.values():
            self._let_out(text)
        return self._queue.take_decided()

    def finish(self) -> Sequence[Item]:
        """Decide all that is held, as the texts end here."""
        self._end(list(self._texts))
        return self._queue.take_decided()


def split_thinking(on_error: OnError = "refuse") -> Plan:
    """The stage that tells thinking within the text apart from it."""
    return Plan("split_thinking", lambda _: ThinkingSplit(), on_error, is_holding=True)
