"""The JSON Schema of all messages, made from the types (`GET /v1/schema.json`)."""

from __future__ import annotations

from typing import Any

import msgspec

from deltawire.protocol.events import EVENT_CLASSES
from deltawire.protocol.messages import FROM_CONSUMER, FROM_PRODUCER, TO_CONSUMER, TO_PRODUCER

ID = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """The schema of all messages, with one definition per direction.

    Returns:
        A JSON Schema 2020-12 document. `$defs` has each type by name, and the unions of all messages in one direction:
        `to_consumer`, `from_consumer`, `to_producer` and `from_producer`. The document itself accepts all of them.
    """
    events = tuple(EVENT_CLASSES.values())
    directions = {
        "to_consumer": events + TO_CONSUMER,
        "from_consumer": FROM_CONSUMER,
        "to_producer": TO_PRODUCER,
        "from_producer": events + FROM_PRODUCER,
    }
    everything = list(dict.fromkeys(cls for classes in directions.values() for cls in classes))
    schemas, components = msgspec.json.schema_components(everything, ref_template="#/$defs/{name}")
    by_class = dict(zip(everything, schemas, strict=True))
    definitions = dict(components)
    for direction, classes in directions.items():
        definitions[direction] = {"anyOf": [by_class[cls] for cls in classes]}
    return {
        "$schema": ID,
        "title": "deltawire wire protocol, version 1",
        "anyOf": [{"$ref": f"#/$defs/{direction}"} for direction in directions],
        "$defs": definitions,
    }
