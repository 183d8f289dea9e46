"""Redact what matches patterns in texts, thinking and arguments of tools, wherever deltas cut it (SPEC §7.8). Pure.

    delta ──► scanned ──► decided to its end? ──► yes ──► on, without what is cut
                               │ no
                               ▼
                             held, with everything behind it, until it is

Each block of each choice is a text of its own. It ends with its `content_end`, and with the message, but not while
another message is in progress: whose text it is can't be told, and the rest of a private key must not get out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias

from msgspec import UNSET, UnsetType, to_builtins
from msgspec.structs import replace

from deltawire.gateway.middleware.arguments import ArgumentsScanner
from deltawire.gateway.middleware.finder import Finder, Pattern
from deltawire.gateway.middleware.holding import HELD_COST, HoldingQueue
from deltawire.gateway.middleware.scanning import Cut, Scanner
from deltawire.gateway.middleware.stage import Item, OnError, Plan
from deltawire.protocol.events import (
    TEXT_FIELDS,
    ContentEnd,
    Data,
    Error,
    EventType,
    Extension,
    MessageStart,
    MessageStop,
)

MAX_TEXTS: Final = 256
"""Texts of one stream at a time, blocks times choices; past that, the oldest counts as ended."""

MAX_MESSAGES: Final = 16
"""Messages in progress that are known of; past that, the oldest counts as ended."""

TEXT_COST: Final = 1024
"""Bytes that a text costs: its scanner, and what that keeps of it."""

AT_ONCE: Final = 1024
"""Characters of an event scanned at once; the worst ones take 5 ms. The rest of it has to wait for `work`."""

VALUE_COST: Final = 32
"""Characters that each string of an extension counts as, beside its own: it is a text of its own."""

Key: TypeAlias = tuple[EventType, int | UnsetType, int | UnsetType]
"""Of a text: which deltas it is in, of which index and choice."""


class _Delta:
    """A delta that waits, or anything behind one."""

    __slots__ = ("data", "is_decided", "left", "origin", "parts", "size", "text")

    def __init__(self, origin: int, data: Data, text: str = "") -> None:
        self.origin = origin
        self.data = data
        self.text = text
        self.size = self.left = len(text)  # of these characters, those at its end are undecided
        self.is_decided = not text
        self.parts: list[str] | None = None  # what becomes of the others, if that is not just them

    def become(self, data: Data) -> None:
        """Decide what becomes of it, where it is no delta."""
        self.data = data
        self.is_decided = True

    def decide(self, size: int, text: str | None) -> None:
        """Decide the next characters."""
        if text is not None or self.parts is not None:
            start = self.size - self.left
            if self.parts is None:
                self.parts = [self.text[:start]]
            self.parts.append(self.text[start : start + size] if text is None else text)
        self.left -= size
        self.is_decided = not self.left

    @property
    def redacted(self) -> str:
        """What becomes of its text, once it is decided."""
        return self.text if self.parts is None else "".join(self.parts)

    def items(self) -> Sequence[Item]:
        """What becomes of it; nothing if no text is left of what it had."""
        if self.parts is None:
            return ((self.origin, self.data),)
        text = self.redacted
        return ((self.origin, replace(self.data, **{TEXT_FIELDS[self.data.type]: text})),) if text else ()


class _Text:
    """One text: its scanner, and the held deltas of it that are not decided."""

    __slots__ = ("held", "scanner")

    def __init__(self, scanner: Scanner | ArgumentsScanner) -> None:
        self.scanner = scanner
        self.held: deque[_Delta] = deque()

    def apply(self, cuts: Iterable[Cut]) -> None:
        held = self.held
        for size, text in cuts:
            left, becomes = size, text
            while left:
                first = held[0]
                taken = min(left, first.left)
                first.decide(taken, becomes)
                becomes = becomes and ""  # what stands for a match stands in the first of its deltas
                left -= taken
                if first.is_decided:
                    held.popleft()


class Redaction:
    """The stage `redact` of one stream.

    Args:
        finder: finds what is redacted.
        replacement: what takes its place.
    """

    __slots__ = ("_finder", "_messages", "_origin", "_queue", "_replacement", "_scan", "_spent", "_texts", "_waiting")

    def __init__(self, finder: Finder, replacement: str) -> None:
        self._finder = finder
        self._replacement = replacement
        self._texts: dict[Key, _Text] = {}
        self._messages: dict[str, None] = {}  # in progress
        self._queue = HoldingQueue()
        self._scan: Iterator[int] | None = None  # of the newest event in the queue; gives characters as they are done
        self._waiting: deque[Item] = deque()  # behind it
        self._origin = 0  # number of the event that was taken last
        self._spent = 0  # characters that came of it

    @property
    def oldest(self) -> int | None:
        """Number of the oldest event held."""
        if self._queue.events:
            return self._queue.events[0].origin
        return self._waiting[0][0] if self._waiting else None

    @property
    def bytes(self) -> int:
        """What the events and texts cost."""
        return self._queue.bytes + len(self._texts) * TEXT_COST + len(self._waiting) * HELD_COST

    def take(self, item: Item) -> Sequence[Item] | None:
        """Take the next event."""
        if item[0] != self._origin:
            self._origin, self._spent = item[0], 0
        if self._scan is not None or self._waiting or self._spent >= AT_ONCE:
            self._waiting.append(item)
            return ()
        items = self._take(item)
        return items if self._scan is None else (*(items or ()), *self.work())

    @property
    def is_working(self) -> bool:
        """Whether something of what was taken is not scanned yet."""
        return self._scan is not None or bool(self._waiting)

    def work(self) -> Sequence[Item]:
        """Scan some more; return what is decided now."""
        self._spent = 0
        items: list[Item] = []
        while self.is_working and self._spent < AT_ONCE:
            if self._scan is None:
                self._spent += VALUE_COST
                item = self._waiting.popleft()
                taken = self._take(item)
                items += (item,) if taken is None else taken
            elif (done := next(self._scan, None)) is None:
                self._scan = None
                items += self._queue.take_decided()
            else:
                self._spent += done
        return [*items, *self._queue.take_decided()]

    def _take(self, item: Item) -> Sequence[Item] | None:
        origin: int = item[0]
        data: Any = item[1]
        kind = data.type
        name = TEXT_FIELDS.get(kind)
        if name is None:
            return self._take_other(item)
        key = (kind, data.index, data.choice)
        text = self._texts.get(key)
        if text is None:
            self._begin(key)
            items = self._take(item)
            return (item,) if items is None else items  # it costs more now
        added: str = getattr(data, name)
        if len(added) > AT_ONCE:
            delta = _Delta(origin, data, added)
            text.held.append(delta)
            return self._hold(delta, self._scan_delta(text, added))
        self._spent += len(added)
        cuts = text.scanner.feed(added)
        if cuts is None and not self._queue.events:
            return None  # nearly always
        delta = _Delta(origin, data, added)
        if added:
            text.held.append(delta)
        text.apply((Cut(len(added), None),) if cuts is None else cuts)
        return self._hold(delta)

    def _begin(self, key: Key) -> None:
        if len(self._texts) >= MAX_TEXTS:
            self._end([next(iter(self._texts))])
        make = ArgumentsScanner if key[0] == EventType.TOOL_DELTA else Scanner
        self._texts[key] = _Text(make(self._finder, self._replacement))

    def _take_other(self, item: Item) -> Sequence[Item]:
        origin, data = item
        match data:
            case ContentEnd(index=index, choice=choice):
                self._end([key for key in self._texts if key[1:] == (index, choice)])
            case MessageStop(message_id=message_id, choice=choice):
                self._messages.pop(message_id, None)
                if not self._messages:
                    self._end([key for key in self._texts if choice is UNSET or key[2] in (choice, UNSET)])
            case MessageStart(message_id=message_id):
                if not self._messages:
                    self._end(list(self._texts))
                elif len(self._messages) >= MAX_MESSAGES:
                    del self._messages[next(iter(self._messages))]
                self._messages[message_id] = None
            case Error(error=value):
                return self._take_value(origin, data, "error", value)
            case Extension(data=value):
                return self._take_value(origin, data, "data", to_builtins(value))
            case _:
                pass
        return self._hold(_Delta(origin, data)) if self._queue.events else (item,)

    def _take_value(self, origin: int, data: Data, name: str, value: Any) -> Sequence[Item]:
        """Redact every text in a JSON value but the names of fields: two could become one."""
        texts = [*_texts_of(value)]
        whole = "\n".join(texts)  # no match that is in one of them is hidden by what is around it
        if not self._finder.is_plain(whole + "\n", 0):
            delta = _Delta(origin, data)
            delta.is_decided = False
            return self._hold(delta, self._scan_value(delta, name, value, texts))
        return self._hold(_Delta(origin, data)) if self._queue.events else ((origin, data),)

    def _scan_delta(self, text: _Text, added: str) -> Iterator[int]:
        for start in range(0, len(added), AT_ONCE):
            piece = added[start : start + AT_ONCE]
            cuts = text.scanner.feed(piece)
            text.apply((Cut(len(piece), None),) if cuts is None else cuts)
            yield len(piece)

    def _scan_value(self, delta: _Delta, name: str, value: Any, texts: Iterable[str]) -> Iterator[int]:
        redacted: list[str] = []
        for text in texts:
            alone = _Text(Scanner(self._finder, self._replacement))
            part = _Delta(delta.origin, delta.data, text)
            if text:
                alone.held.append(part)
                yield from self._scan_delta(alone, text)
                alone.apply(alone.scanner.finish())
            redacted.append(part.redacted)
            yield VALUE_COST
        delta.become(replace(delta.data, **{name: _with_texts(value, iter(redacted))}))

    def _end(self, keys: list[Key]) -> None:
        for key in keys:
            text = self._texts.pop(key)
            text.apply(text.scanner.finish())

    def _hold(self, delta: _Delta, scan: Iterator[int] | None = None) -> Sequence[Item]:
        items = self._queue.take_decided() if self._queue.add(delta) else self.let_out()
        self._scan = scan
        return items

    def let_out(self) -> Sequence[Item]:
        """Let out all that is held; the rest of a match that has begun will be redacted."""
        if self._scan is not None:  # for a moment: what comes next of the event is there
            return ()
        for text in self._texts.values():
            text.apply(text.scanner.let_out())
        return self._queue.take_decided()

    def finish(self) -> Sequence[Item]:
        """Decide all that is held, as the texts end here."""
        items: list[Item] = []
        while self.is_working:
            items += self.work()
        self._messages.clear()
        self._end(list(self._texts))
        return [*items, *self._queue.take_decided()]


def _texts_of(value: Any) -> Iterator[str]:
    """The texts in a JSON value, but for the names of fields."""
    match value:
        case str():
            yield value
        case list():
            for it in value:
                yield from _texts_of(it)
        case dict():
            yield from _texts_of([*value.values()])
        case _:
            pass


def _with_texts(value: Any, texts: Iterator[str]) -> Any:
    """A JSON value with other texts, in their order."""
    match value:
        case str():
            return next(texts)
        case list():
            return [_with_texts(it, texts) for it in value]
        case dict():
            return {name: _with_texts(it, texts) for name, it in value.items()}
        case _:
            return value


def redact(patterns: Iterable[Pattern], replacement: str = "[redacted]", on_error: OnError = "refuse") -> Plan:
    """The stage that redacts.

    Args:
        patterns: what to redact: `SECRETS`, `PERSONAL`, and others.
        replacement: what takes its place.
        on_error: what becomes of an event on which it fails.

    Raises:
        PatternError: a pattern can't be used.
        ImportError: the extra that it needs is not installed.
    """
    finder = Finder(patterns)
    return Plan("redact", lambda _: Redaction(finder, replacement), on_error, is_holding=True)
