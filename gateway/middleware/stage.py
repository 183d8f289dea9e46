"""What a stage is: it takes one event after the other, and gives what becomes of each. Pure.

Most stages are functions, `(data, context) -> events`. A stage that needs what comes next before it can decide holds
events back, always whole ones: an event is appended when all that became of it is known, or not at all. Every event
that leaves a stage has the number of the one that it came from, in the order of these numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from msgspec import Struct, field

from deltawire.protocol.codec import JSON
from deltawire.protocol.events import Data, EventType, make_event

Item: TypeAlias = tuple[int, Data]
"""An event, and the number of the event that a producer sent of which it came."""

OnError: TypeAlias = Literal["refuse", "drop", "pass"]
"""What becomes of an event on which a stage fails: its producer is told, or nobody is, or it goes on unchanged."""


class Context(Struct):
    """What a function may know and keep.

    Attributes:
        stream: id of the stream.
        state: its own on this stream, from one event to the next; it has to bound this itself.
    """

    stream: str
    state: dict[Any, Any] = field(default_factory=dict)


Function: TypeAlias = Callable[[Data, Context], Iterable[Data]]
"""Gives the events that take the place of one: `[data]` leaves it as it is, `[]` drops it."""


class Stage(Protocol):
    """One stage of the middleware of one stream."""

    @property
    def oldest(self) -> int | None:
        """Number of the oldest event that it holds back; None if it holds none."""

    @property
    def bytes(self) -> int:
        """What it holds costs."""

    @property
    def is_working(self) -> bool:
        """Whether it has more to do with what it has taken than one turn of the loop allows: see `work`."""

    def work(self) -> Sequence[Item]:
        """Do some of what is left to do, some milliseconds of work at most; return what is decided now."""

    def take(self, item: Item) -> Sequence[Item] | None:
        """Take the next event; return what is decided now.

        Nearly always, the event goes on as it is, and the stage holds nothing and costs what it did: then None.
        """

    def let_out(self) -> Sequence[Item]:
        """Return what it holds: that must not wait any longer. The texts go on."""

    def finish(self) -> Sequence[Item]:
        """Return what it holds, decided, as all texts end here."""


class Plan(NamedTuple):
    """A stage of the streams that a piece of configuration is for.

    Attributes:
        name: of the stage, for messages.
        open: makes it for the stream with this id.
        on_error: what becomes of an event on which it fails.
        is_holding: whether it holds events back.
        types: of the events that it takes; all others go by it. One that holds events back takes all.
    """

    name: str
    open: Callable[[str], Stage]
    on_error: OnError = "refuse"
    is_holding: bool = False
    types: frozenset[EventType] = frozenset(EventType)


class FunctionStage:
    """A stage that is a function.

    Args:
        function: called with each event.
        stream_id: of the stream.
        is_trusted: whether what it gives is valid for sure.
    """

    __slots__ = ("_context", "_function", "_is_trusted")

    oldest = None
    bytes = 0
    is_working = False

    def __init__(self, function: Function, stream_id: str, *, is_trusted: bool = False) -> None:
        self._function = function
        self._context = Context(stream_id)
        self._is_trusted = is_trusted

    def take(self, item: Item) -> Sequence[Item] | None:
        """Call the function.

        Raises:
            WireError: it gave what no consumer could decode.
        """
        origin, data = item
        given = self._function(data, self._context)
        match given:
            case [it] if it is data:
                return None
        items = [(origin, it) for it in given]
        if not self._is_trusted:
            for _, it in items:
                if it is not data:
                    JSON.check_event(make_event(it))
        return items

    def let_out(self) -> Sequence[Item]:
        """Nothing is held."""
        return ()

    finish = work = let_out


def plan_function(
    name: str,
    function: Function,
    on_error: OnError = "refuse",
    types: Collection[EventType] = frozenset(EventType),
    *,
    is_trusted: bool = False,
) -> Plan:
    """A stage that is a function, a program's own one unless it `is_trusted`."""
    return Plan(name, lambda it: FunctionStage(function, it, is_trusted=is_trusted), on_error, types=frozenset(types))
