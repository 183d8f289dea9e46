"""Tool calls in pieces: which piece is of which call, whatever servers do to indices, ids and names.

By the format, a call's first piece has its index, id and name, and later ones have the index and more of the
arguments. What servers do to that, and what is made of it:

| a piece | is |
|---|---|
| with an index, or else an id, that a call has | of that call, unless it can't be (below) |
| with neither, or with an index nobody has and neither id nor name | of the call spoken of last, unless it can't be |
| that can't be of its call: the arguments are whole and it has more; or it has another name; or it has another id \
and a name, and begins arguments | a new call |
| that is all of its call again: id, name and arguments | dropped |
| with a name or an id later than the first arguments | of its call; told as an extension if the block is open already |
| with arguments that are an object | as if they were its text |

A block opens when the call's name is known, as nobody can be told it later; with its id if that comes before the
arguments. Until then arguments are held: at most `MAX_HELD`, and no longer than to the end of the choice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec
from msgspec import Struct, field

from deltawire.protocol.events import Data
from deltawire.protocol.providers.blocks import Blocks
from deltawire.protocol.providers.bounds import make_arguments
from deltawire.protocol.providers.fields import Fields
from deltawire.protocol.providers.halves import encode_json, has_halves, join, mend

MAX_HELD = 65_536
"""Code points of arguments held for a call without a name."""

MAX_KEPT = 1 << 20
"""Code points of a call's arguments that are kept to tell whether they are whole; longer ones are taken not to be."""

_ARGUMENTS = ("arguments", "parameters", "input")


class _Piece(NamedTuple):
    """What a delta says of a call; its place is an index, where it has one."""

    place: int | str | None
    id: str | None
    name: str | None
    arguments: str

    @property
    def begins(self) -> bool:
        """Whether it may have the first of the arguments."""
        return self.arguments.lstrip().startswith("{")


class _ToolCall(Struct, eq=False):
    """A call.

    Attributes:
        block: index of its block.
        ids: those it was said to have, the first one first.
        names: as with `ids`.
        arguments: the text so far, joined now and then; none if it is too long to be kept.
        size: code points of that.
        half: half a character at its end.
        is_open: whether its block has started.
        is_empty_object: whether an empty object was given for its arguments, which may be all there is.
    """

    block: int
    ids: dict[str, None] = field(default_factory=dict)
    names: dict[str, None] = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)
    size: int = 0
    half: str = ""
    is_open: bool = False
    is_empty_object: bool = False
    is_malformed: bool = False

    @property
    def text(self) -> str:
        """The arguments so far."""
        self.arguments = ["".join(self.arguments)]
        return self.arguments[0]

    def is_whole(self) -> bool:
        """Whether the arguments are a whole object, so that nothing can follow."""
        if (
            self.is_malformed
            or self.size > MAX_KEPT
            or not self.arguments
            or not self.arguments[-1].rstrip().endswith("}")
        ):
            return False
        is_whole, self.is_malformed = _read_object(self.text)
        return is_whole


class ToolCalls:
    """The tool calls of one choice.

    Args:
        emit: takes the events.
        blocks: of the choice.
        begin: called before a call gets its block.
    """

    def __init__(self, emit: Callable[[Data], None], blocks: Blocks, begin: Callable[[], None]) -> None:
        self._emit = emit
        self._blocks = blocks
        self._begin = begin
        self._calls: list[_ToolCall] = []
        self._by_index: dict[int | str, _ToolCall] = {}
        self._by_id: dict[str, _ToolCall] = {}
        self._last: _ToolCall | None = None

    def __bool__(self) -> bool:
        return bool(self._calls)

    def take_all(self, items: list[Fields]) -> None:
        """What one delta says of calls; what is left of the items is to be told by others."""
        spoken: set[int] = set()  # the blocks of those that this delta has spoken of
        for item in items:
            spoken.add(self._take(item, _function_of(item), item.amount("index"), spoken).block)

    def take_function(self, function: Fields) -> None:
        """What one delta says of the only call, in the format before tools."""
        self._take(function, function, "function_call", set())

    def news(self, items: list[Fields]) -> list[Fields]:
        """Those of some calls that were not told before, with this name and these arguments, all of them."""
        told = {(name, call.text) for call in self._calls for name in call.names or (None,)}
        return [item for item in items if _read_call(item) not in told]

    def end(self) -> None:
        """All calls are complete; their blocks end with the choice's others."""
        for call in self._calls:
            self._say(call, mend(call.half))
            if call.is_empty_object and not call.size:
                self._say(call, "{}")
            self._open(call)
        self._calls, self._by_index, self._by_id, self._last = [], {}, {}, None

    def _take(self, item: Fields, function: Fields, place: int | str | None, spoken: set[int]) -> _ToolCall:
        arguments = read_arguments(function)
        piece = _Piece(place, item.peek("id"), function.peek("name"), arguments or "")
        call, is_elsewhere = self._find(piece)
        if call is not None and place is None and piece.name and call.block in spoken:
            call = None  # one delta lists each call once
        is_told = call is not None and not is_elsewhere and _repeats(call, piece)
        if call is None or not (is_told or _goes_on(call, piece, is_elsewhere=is_elsewhere)):
            self._begin()
            call = _ToolCall(self._blocks.reserve())
            self._calls.append(call)
        if place is not None:
            self._by_index[place] = call
        self._last = call
        item.drop("type", "function")
        self._name(call, piece, item, function)
        call.is_empty_object |= arguments == "" and isinstance(function.source.get("arguments"), dict)
        if not is_told:
            self._add(call, piece.arguments)
        if not call.is_open and _may_open(call, place):
            self._open(call)
        return call

    def _find(self, piece: _Piece) -> tuple[_ToolCall | None, bool]:
        """The call that a piece names, or the last one if it names none; and whether that has another index."""
        if piece.place is not None and piece.place in self._by_index:
            return self._by_index[piece.place], False
        if piece.id is not None:
            return self._by_id.get(piece.id), piece.place is not None
        return self._last, piece.place is not None

    def _name(self, call: _ToolCall, piece: _Piece, item: Fields, function: Fields) -> None:
        """Take the id and the name, unless they are news that come too late for the block's start."""
        for known, value, fields, name in (
            (call.ids, piece.id, item, "id"),
            (call.names, piece.name, function, "name"),
        ):
            if value is None:
                continue
            if value in known or not (known or call.is_open):
                fields.drop(name)
            known[value] = None
        if piece.id is not None:
            self._by_id[piece.id] = call

    def _add(self, call: _ToolCall, arguments: str) -> None:
        if call.half or has_halves(arguments):
            arguments, call.half = join(call.half + arguments)
        self._say(call, arguments)

    def _say(self, call: _ToolCall, arguments: str) -> None:
        if not arguments:
            return
        call.size += len(arguments)
        if not call.is_open or call.size <= MAX_KEPT:
            call.arguments.append(arguments)
        elif call.arguments:
            call.arguments.clear()
        if call.is_open:
            self._tell(call, arguments)

    def _open(self, call: _ToolCall) -> None:
        if call.is_open:
            return
        call.is_open = True
        self._blocks.start(call.block, "tool_use", next(iter(call.ids), None), next(iter(call.names), None))
        for arguments in call.arguments:
            self._tell(call, arguments)

    def _tell(self, call: _ToolCall, arguments: str) -> None:
        for data in make_arguments(arguments, call.block, self._blocks.choice):
            self._emit(data)


def _may_open(call: _ToolCall, place: int | str | None) -> bool:
    if not call.names:
        return call.size > MAX_HELD
    return bool(call.ids or call.size or isinstance(place, str))


def _repeats(call: _ToolCall, piece: _Piece) -> bool:
    """Whether a piece is all of a call again."""
    if not piece.begins or piece.id not in call.ids or (piece.name and piece.name not in call.names):
        return False
    return call.is_whole() and call.text == piece.arguments


def _goes_on(call: _ToolCall, piece: _Piece, *, is_elsewhere: bool) -> bool:
    """Whether a piece can be of a call, rather than the first one of another."""
    has_other_id = bool(call.ids) and piece.id is not None and piece.id not in call.ids
    has_other_name = bool(call.names) and piece.name is not None and piece.name not in call.names
    if call.is_whole():
        return not (piece.arguments.strip() or has_other_id or has_other_name or (is_elsewhere and piece.name))
    if piece.name is None or not call.names:
        return True
    if has_other_name:
        is_more = bool(call.size and piece.arguments) and not piece.begins
        return not is_elsewhere and (piece.id in call.ids or is_more)
    if not (has_other_id or is_elsewhere):
        return True
    if call.size or not piece.arguments:
        return bool(piece.arguments) and not piece.begins
    return (piece.id in call.ids or not is_elsewhere) and not _read_object(piece.arguments)[0]


def _function_of(item: Fields) -> Fields:
    """The object with name and arguments."""
    return next((item.object(name) for name in ("function", "custom") if isinstance(item.source.get(name), dict)), item)


def _read_call(item: Fields) -> tuple[str | None, str]:
    """Name and arguments of a call, which stay to be taken."""
    function = Fields(_function_of(item).source)
    return function.peek("name"), read_arguments(function) or ""


def read_arguments(function: Fields, names: tuple[str, ...] = _ARGUMENTS) -> str | None:
    """The arguments as text, an empty object as none; None if there are none, or they are something else."""
    for name in names:
        value = function.source.get(name)
        if isinstance(value, str):
            return function.text(name)
        if isinstance(value, (dict, list)):
            function.drop(name)
            return encode_json(value) if value else ""
    return None


def _read_object(text: str) -> tuple[bool, bool]:
    """Whether a text is a JSON object, and whether it can't become one."""
    try:
        return isinstance(msgspec.json.decode(text), dict), True
    except (ValueError, RecursionError) as error:
        return False, "truncated" not in str(error)
