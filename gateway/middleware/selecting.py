"""Stages that let some events through and not others: `drop`, `keep`, `sample`. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from deltawire.gateway.middleware.stage import Context, Function, FunctionStage, OnError, Plan
from deltawire.protocol.events import Data, EventType

FRAME: Final = frozenset({EventType.MESSAGE_START, EventType.MESSAGE_STOP, EventType.ERROR})
"""Types that no stage drops: without them readers don't know what they read, nor whether it is whole."""


def drop(types: Collection[EventType], on_error: OnError = "refuse") -> Plan:
    """The stage that drops events of some types.

    Raises:
        ValueError: readers can't do without one of them.
    """
    return _plan("drop", _without(_checked(types)), on_error)


def keep(types: Collection[EventType], on_error: OnError = "refuse") -> Plan:
    """The stage that drops events of all other types, but for those that readers can't do without."""
    return _plan("keep", _without(frozenset(EventType) - frozenset(types) - FRAME), on_error)


def sample(types: Collection[EventType], every: int, on_error: OnError = "refuse") -> Plan:
    """The stage that keeps one of so many events of each of some types: the first, and every `every`-th after it.

    Raises:
        ValueError: readers can't do without one of them.
    """
    sampled = _checked(types)

    def function(data: Data, context: Context) -> Iterable[Data]:
        if data.type not in sampled:
            return (data,)
        seen: int = context.state.get(data.type, 0)
        context.state[data.type] = (seen + 1) % every
        return () if seen else (data,)

    return _plan("sample", function, on_error)


def _checked(types: Collection[EventType]) -> frozenset[EventType]:
    if needed := FRAME.intersection(types):
        raise ValueError(f"types: {', '.join(sorted(needed))} can't be dropped, readers need them")
    return frozenset(types)


def _without(dropped: frozenset[EventType]) -> Function:
    def function(data: Data, _: Context) -> Iterable[Data]:
        return () if data.type in dropped else (data,)

    return function


def _plan(name: str, function: Function, on_error: OnError) -> Plan:
    return Plan(name, lambda stream_id: FunctionStage(function, stream_id, is_trusted=True), on_error)
