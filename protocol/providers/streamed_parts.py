"""What translators have in common whose provider streams parts with ids: each has a start, deltas and an end."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, ClassVar, NamedTuple

from deltawire.protocol.providers.fields import Fields
from deltawire.protocol.providers.typed_events import TypedTranslator


class Part(NamedTuple):
    """What events say of parts of one sort.

    Attributes:
        name: of the sort; ids tell apart parts of one sort.
        kind: the kind of their blocks.
        said: `text`, `thinking` or `arguments`.
        id: the field with the id.
        delta: the field with the next piece.
    """

    name: str
    kind: str
    said: str
    id: str
    delta: str


class PartTranslator(TypedTranslator):
    """Makes a block of each part; its id is the block's."""

    PARTS: ClassVar[Mapping[str, Part]]
    """By the type of an event: the sort of part that it is about."""

    NAME: ClassVar[str]
    """The field with the name of a tool."""

    REPEATED: ClassVar[tuple[str, ...]]
    """Fields of a part's events that are told when they change."""

    def _forget_message(self) -> None:
        super()._forget_message()
        self._repeated: dict[Hashable, dict[str, Any]] = {}  # by part

    def _find(self, payload: Fields) -> tuple[Hashable, Part]:
        """The key of the part that an event is about, and its sort."""
        part = self.PARTS[self._kind]
        key = (part.name, payload.label(part.id))
        self._drop_repeated(key, payload)
        return key, part

    def _drop_repeated(self, key: Hashable, payload: Fields) -> None:
        told = self._repeated.setdefault(key, {})
        for name in self.REPEATED:
            if name in payload.source:
                if name in told:
                    payload.drop(name, told[name])
                told[name] = payload.source[name]

    def start_part(self, payload: Fields) -> None:
        """Take the start of a part."""
        key, part = self._find(payload)
        self._start(key, part, payload)

    def _start(self, key: Hashable, part: Part, payload: Fields) -> None:
        """Open the block of a part, and end one of its id that is open."""
        name = payload.label(self.NAME) if part.said == "arguments" else None
        self._open().blocks.start(key, part.kind, payload.peek(part.id), name)

    def take_delta(self, payload: Fields) -> None:
        """Take a piece of a part."""
        key, part = self._find(payload)
        self._say(key, part, payload)

    def _say(self, key: Hashable, part: Part, payload: Fields) -> None:
        """More of a part; one whose start is missing starts."""
        if text := payload.text(part.delta):
            if key not in self._open().blocks:
                self._start(key, part, payload)
            self._open().blocks.say(key, part.said, text)

    def end_part(self, payload: Fields) -> None:
        """Take the end of a part."""
        key, part = self._find(payload)
        if self._message is None or key not in self._message.blocks.seen:
            payload.keep(part.id)
        else:
            self._message.blocks.end(key)
