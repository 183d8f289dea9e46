"""Stages that change what events say: `set` fields, `limit` the length of a text. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from deltawire.gateway.middleware.stage import Context, OnError, Plan, plan_function
from deltawire.protocol.events import (
    EVENT_CLASSES,
    Data,
    EventType,
    MessageStart,
    MessageStop,
    TextDelta,
)

LIMITED: Final = "length_limit"
"""The stop reason of a message whose text was cut."""

MAX_CHOICES: Final = 128
"""Choices of one message that are counted; further ones are not limited, but no provider offers as many."""


def set_fields(
    type: EventType, fields: Mapping[str, Any], where: Mapping[str, Any] | None = None, on_error: OnError = "refuse"
) -> Plan:
    """The stage `set`, which sets fields of the events of a type: to rename a model, or to add what is missing.

    Args:
        type: of the events.
        fields: names of fields, and their new values.
        where: names of fields, and the values that they must have; None sets them always.
        on_error: what becomes of an event on which it fails.

    Raises:
        ValueError: a field does not exist, or can't have this value.
    """
    data_class = next(it for it in EVENT_CLASSES if it.type is type)
    known = {field.name: field.type for field in msgspec.structs.fields(data_class)}
    wanted = where or {}
    for name in (*fields, *wanted):
        if name not in known or name == "digest":
            raise ValueError(f"fields: {type} has no `{name}` that can be set; it has {', '.join(known)}")
    for name, value in fields.items():
        try:
            msgspec.convert(value, known[name])
        except msgspec.ValidationError as error:
            raise ValueError(f"fields: {name}: {error}") from None
    new = dict(fields)

    def function(data: Data, _: Context) -> Iterable[Data]:
        if all(getattr(data, name) == value for name, value in wanted.items()):
            return (replace(data, **new),)
        return (data,)

    return plan_function("set", function, on_error, {type}, is_trusted=True)


def limit(characters: int, on_error: OnError = "refuse") -> Plan:
    """The stage that cuts the text of a message, for each choice, after so many characters.

    The message's stop reason then is `length_limit`; thinking and arguments of tools are not limited.
    """

    def function(data: Data, context: Context) -> Iterable[Data]:
        left: dict[int | UnsetType, int] = context.state
        match data:
            case TextDelta(text=text, choice=choice):
                room = left.get(choice, characters)
                if choice in left or len(left) < MAX_CHOICES:
                    left[choice] = room - len(text)
                if len(text) <= room:
                    return (data,)
                return (replace(data, text=text[:room]),) if room > 0 else ()
            case MessageStart():
                left.clear()
            case MessageStop(choice=choice) if (
                min(left.values(), default=0) if choice is UNSET else left.get(choice, 0)
            ) < 0:
                return (replace(data, stop_reason=LIMITED),)
            case _:
                pass
        return (data,)

    return plan_function("limit", function, on_error, is_trusted=True)
