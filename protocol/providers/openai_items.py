"""The output items of an OpenAI response: their blocks, and what of an item that comes again was not told before."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from typing import Any, Final

from msgspec import Struct, field, structs

from deltawire.protocol.providers.fields import Fields
from deltawire.protocol.providers.halves import has_halves
from deltawire.protocol.providers.named_blocks import NamedBlocks
from deltawire.protocol.providers.told import Told
from deltawire.protocol.providers.tool_calls import read_arguments

Extend = Callable[[str, dict[str, Any]], None]

STATES: Final = ("queued", "in_progress", "completed", "searching", "interpreting", "generating")
"""States of a response or an item that its events tell of."""

MAX_IDS: Final = 4
"""Changes of an item's id that are told: some servers give each event its own."""

_MAX_LISTED: Final = 1000  # annotations of a part that are remembered, to know the list of them again


class Text(Struct, frozen=True):
    """What a text is.

    Attributes:
        place: where in an item it is: `content`, `summary`, or `call`.
        kind: the kind of its block.
        said: `text`, `thinking` or `arguments`.
        is_code: whether it is code, the only argument of its call: it is put into an object, as others are in one.
    """

    place: str
    kind: str
    said: str
    is_code: bool = False


PARTS: Final = {
    "output_text": ("text", Text("content", "text", "text")),
    "text": ("text", Text("content", "text", "text")),
    "refusal": ("refusal", Text("content", "refusal", "text")),
    "reasoning_text": ("text", Text("content", "thinking", "thinking")),
    "summary_text": ("text", Text("summary", "thinking", "thinking")),
}
"""By the type of a part: the field with its text, and what that is."""

CALLS: Final = {
    "function_call": ("arguments", Text("call", "tool_use", "arguments")),
    "custom_tool_call": ("input", Text("call", "tool_use", "arguments")),
    "mcp_call": ("arguments", Text("call", "mcp_call", "arguments")),
    "code_interpreter_call": ("code", Text("call", "code_interpreter_call", "arguments", is_code=True)),
}
"""By the type of an item: the field with its arguments, and what these are."""

_IN_PARTS: Final = frozenset({"message", "reasoning"})


class _Item(Struct, eq=False):
    """One output item.

    Attributes:
        id: its id.
        type: its type.
        told: the last value of each field that was told.
        ids: how often the id has changed.
        keys: its blocks, as far as they are open or were.
        has_code: whether the object around its code has begun.
    """

    id: str | None = None
    type: str | None = None
    told: dict[str, Any] = field(default_factory=dict)
    ids: int = 0
    keys: dict[Hashable, None] = field(default_factory=dict)
    has_code: bool = False


class Items:
    """The items of one response.

    Args:
        blocks: of the message.
        extend: takes what has no event.
    """

    def __init__(self, blocks: NamedBlocks, extend: Extend) -> None:
        self._blocks = blocks
        self._extend = extend
        self._items: dict[int, _Item] = {}
        self._by_id: dict[str, int] = {}
        self._last = 0
        self._told = Told()
        self._told_in: dict[Hashable, dict[str, Any]] = {}  # as in an item, for each part

    def index_of(self, event: Fields) -> int:
        """The index of the item that an event is about, by its index, or else its id; or else the last one."""
        item_id = event.peek("item_id")
        index = event.amount("output_index")
        if index is None:
            index = self._last if item_id is None else self._by_id.get(item_id, self._last)
        self._last = index
        if item_id is not None:
            item = self._items.setdefault(index, _Item())
            if self._knows_id(item, index, item_id):
                event.drop("item_id")
        return index

    def find(self, place: int, item: Fields) -> int:
        """The index of an item in the list of all items, by its id, or else its place."""
        return self._by_id.get(item.peek("id") or "", place)

    def say(self, index: int, number: int, text: Text, piece: str) -> None:
        """More of a text.

        Args:
            index: of the item.
            number: of the part of the item.
            text: what it is.
            piece: the next piece of it.
        """
        if not piece:
            return
        key = self._open(index, number, text.place, text.kind)
        self._told.add(key, piece)
        if text.is_code:
            begin, self._items[index].has_code = "" if self._items[index].has_code else '{"code":"', True
            piece = begin + json.dumps(piece, ensure_ascii=has_halves(piece))[1:-1]
        self._blocks.say(key, text.said, piece)

    def say_rest(self, index: int, number: int, text: Text, whole: str) -> bool:
        """Say what of a whole text was not said; whether that goes on with what was."""
        rest = self._told.rest_of((index, text.place, number), whole)
        if rest is None:
            return False
        self.say(index, number, text, rest)
        return True

    def tell(self, index: int, item: Fields) -> str | None:
        """Tell of an item what was not told before: of all of it, when it is new; returns its type."""
        known = self._items.setdefault(index, _Item())
        self._last = index
        if known.type is None:
            known.type = item.peek("type")
            self._start(index, known.type, item, known)
        kind = known.type
        item.drop("type", kind)
        item_id = item.peek("id")
        if item_id is not None and self._knows_id(known, index, item_id):
            item.drop("id")
        item.drop("role", "assistant")
        item.drop("status", *STATES)
        if kind in _IN_PARTS:
            for place in ("summary", "content"):
                for number, part in enumerate(item.objects(place)):
                    self.tell_part(index, place, number, part)
        elif kind in CALLS:
            name, text = CALLS[kind]
            if not self.say_rest(index, 0, text, read_arguments(item, (name,)) or ""):
                item.keep(name)
        drop_told(item, known.told)
        return kind

    def tell_part(self, index: int, place: str, number: int, part: Fields) -> None:
        """Tell of a part what was not told before.

        Args:
            index: of the item.
            place: `content` or `summary`.
            number: of the part.
            part: as it came.
        """
        kind = part.label("type")
        name, text = PARTS.get(kind or "", ("", None))
        if text is not None:
            text = PARTS["summary_text"][1] if place == "summary" else structs.replace(text, place=place)
        key = (index, place, number)
        if key not in self._blocks.seen:
            self._open(index, number, place, kind if text is None else text.kind)
        if text is not None and not self.say_rest(index, number, text, part.text(name)):
            part.keep(name)
        drop_told(part, self._told_in.setdefault(key, {}))
        if rest := part.left():
            self._extend(kind or place, {"output_index": index, f"{place}_index": number, "part": rest})
            part.drop_all()

    def list_annotation(self, index: int, number: int, annotation: Any) -> None:
        """Remember an annotation that was told, to know the list of them again."""
        told = self._told_in.setdefault((index, "content", number), {})
        known = told.get("annotations") or []
        if isinstance(known, list) and len(known) < _MAX_LISTED:
            told["annotations"] = [*known, annotation]  # the list before may be in an event

    def end_part(self, index: int, place: str, number: int) -> None:
        """A part is complete."""
        self._blocks.end((index, place, number))

    def end(self, index: int) -> None:
        """An item is complete, and all its parts are."""
        item = self._items.get(index)
        if item is None:
            return
        if item.has_code and (index, "call", 0) in self._blocks:
            self._blocks.say((index, "call", 0), "arguments", '"}')
        for key in item.keys:
            self._blocks.end(key)
        item.keys.clear()

    def _start(self, index: int, kind: str | None, item: Fields, known: _Item) -> None:
        """Open the block of an item that has no parts, if none of what it says was told before."""
        key = (index, "call", 0)
        if kind is None or kind in _IN_PARTS or key in self._blocks.seen:
            return
        call_id, name = item.label("call_id"), item.label("name")
        if call_id is None and (call_id := item.label("id")) is not None:
            self._knows_id(known, index, call_id)
        known.told |= {"call_id": call_id, "name": name}
        _, text = CALLS.get(kind, ("", None))
        known.keys[key] = None
        self._blocks.start(key, kind if text is None else text.kind, call_id, name)

    def _open(self, index: int, number: int, place: str, kind: str | None) -> Hashable:
        key = (index, place, number)
        if key not in self._blocks:
            self._items.setdefault(index, _Item()).keys[key] = None
            self._blocks.start(key, kind)
        return key

    def _knows_id(self, item: _Item, index: int, item_id: str) -> bool:
        """Whether an id of an item was told, or has changed too often; it is its id from now on."""
        self._by_id[item_id] = index
        if item.id == item_id:
            return True
        item.ids += 1
        item.id = item_id
        return item.ids > MAX_IDS


def drop_told(fields: Fields, told: dict[str, Any]) -> None:
    """Take the fields whose value was told, and remember the others as told."""
    for name, value in fields.source.items():
        if name in told and told[name] == value:
            fields.drop(name)
        told[name] = value
