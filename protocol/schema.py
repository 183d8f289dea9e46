"""The JSON Schema of all messages, made from the types (`GET /v1/schema.json`)."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from deltawire.protocol.events import EVENT_CLASSES, Event
from deltawire.protocol.messages import FROM_CONSUMER, FROM_PRODUCER, TO_CONSUMER, TO_PRODUCER, Message

ID = "https://json-schema.org/draft/2020-12/schema"

_EVENTS = tuple(EVENT_CLASSES.values())

DIRECTIONS: Final[dict[str, tuple[type[Event | Message], ...]]] = {
    "to_consumer": _EVENTS + TO_CONSUMER,
    "from_consumer": FROM_CONSUMER,
    "to_producer": TO_PRODUCER,
    "from_producer": _EVENTS + FROM_PRODUCER,
}
"""What travels in each direction."""

CLASSES: Final = tuple(dict.fromkeys(cls for classes in DIRECTIONS.values() for cls in classes))
"""All of it."""


def schemas_of_classes(references: str) -> tuple[tuple[dict[str, Any], ...], dict[str, Any]]:
    """The schemas of `CLASSES`, in order, and the definitions that they refer to.

    Args:
        references: the form of a reference, with `{name}` for the name of the definition.
    """
    return msgspec.json.schema_components(CLASSES, ref_template=references)


def json_schema() -> dict[str, Any]:
    """The schema of all messages, with one definition per direction.

    Returns:
        A JSON Schema 2020-12 document. `$defs` has each type by name, and the unions of all messages in one direction:
        `to_consumer`, `from_consumer`, `to_producer` and `from_producer`. The document itself accepts all of them.
    """
    schemas, definitions = schemas_of_classes("#/$defs/{name}")
    by_class = dict(zip(CLASSES, schemas, strict=True))
    for direction, classes in DIRECTIONS.items():
        definitions[direction] = {"anyOf": [by_class[cls] for cls in classes]}
    return {
        "$schema": ID,
        "title": "deltawire wire protocol, version 1",
        "anyOf": [{"$ref": f"#/$defs/{direction}"} for direction in DIRECTIONS],
        "$defs": definitions,
    }
