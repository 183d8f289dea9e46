"""Stages that let some events through and not others: `drop`, `keep`, `sample`. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from deltawire.gateway.middleware.stage import Context, OnError, Plan, plan_function
from deltawire.protocol.events import Data, EventType

FRAME: Final = frozenset({EventType.MESSAGE_START, EventType.MESSAGE_STOP, EventType.ERROR})
"""Types that no stage drops: without them readers don't know what they read, nor whether it is whole."""


def drop(types: Collection[EventType], on_error: OnError = "refuse") -> Plan:
    """The stage that drops events of some types.

    Raises:
        ValueError: readers can't do without one of them.
    """
    return plan_function("drop", _drop, on_error, _checked(types), is_trusted=True)


def keep(types: Collection[EventType], on_error: OnError = "refuse") -> Plan:
    """The stage that drops events of all other types, but for those that readers can't do without."""
    return plan_function("keep", _drop, on_error, frozenset(EventType) - frozenset(types) - FRAME, is_trusted=True)


def sample(types: Collection[EventType], every: int, on_error: OnError = "refuse") -> Plan:
    """The stage that keeps one of so many events of each of some types: the first, and every `every`-th after it.

    Raises:
        ValueError: readers can't do without one of them.
    """

    def function(data: Data, context: Context) -> Iterable[Data]:
        seen: int = context.state.get(data.type, 0)
        context.state[data.type] = (seen + 1) % every
        return () if seen else (data,)

    return plan_function("sample", function, on_error, _checked(types), is_trusted=True)


def _checked(types: Collection[EventType]) -> frozenset[EventType]:
    if needed := FRAME.intersection(types):
        raise ValueError(f"types: {', '.join(sorted(needed))} can't be dropped, readers need them")
    return frozenset(types)


def _drop(_: Data, __: Context) -> Iterable[Data]:
    return ()
