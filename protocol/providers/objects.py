"""Chunks as SDKs give them, dicts and models, back as the JSON that they were made of.

JSON and no dict, so that what the program does to a chunk later changes no event, and so that chunks are read as bodies
are: what has no place in JSON costs only itself.

SDKs give more than the provider says, which is left out: the HTTP response; the answer so far (`snapshot`), and what
was parsed of it; and where they have a helper for streams, events that repeat what the provider's own events said.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec

_ADDED: Final = frozenset({"snapshot", "parsed", "parsed_arguments", "parsed_output"})
"""Fields of any model that an SDK adds."""

_ADDED_BY: Final = {
    "anthropic.lib.streaming": frozenset({"message", "content_block"}),
    "google.genai": frozenset({"sdk_http_response", "automatic_function_calling_history"}),
}
"""Likewise, by the package that has the model."""

_REPEATING: Final = {
    "anthropic.lib.streaming": frozenset({"text", "thinking", "citation", "signature", "input_json"}),
}
"""Types of the events that a helper adds, by its package."""

_WRAPPED: Final = "openai.lib.streaming.chat"
"""The helper whose events contain the provider's chunks, or repeat what these said."""


def encode_chunk(chunk: object) -> str | None:
    """The JSON of a chunk.

    Args:
        chunk: a mapping; a pydantic model; an object with `to_dict`, a dataclass or a msgspec struct; a list of these;
            or `msgspec.Raw`, which is JSON already. Fields of a model that are null are left out.

    Returns:
        JSON in which half a character, `NaN` and integers of any size may be; for any other object, the name of its
        type; None if the chunk says nothing that the provider's own chunks don't say.
    """
    if isinstance(chunk, msgspec.Raw):
        return bytes(chunk).decode()
    module = type(chunk).__module__
    if module.startswith(_WRAPPED):
        return None if getattr(chunk, "type", None) != "chunk" else encode_chunk(getattr(chunk, "chunk", None))
    for package, types in _REPEATING.items():
        if module.startswith(package) and getattr(chunk, "type", None) in types:
            return None
    text = _dump(chunk, module)
    if text is not None:
        return text
    try:
        return json.dumps(chunk, default=_to_builtins)
    except (TypeError, ValueError, RecursionError):
        return json.dumps(f"an object of the type {type(chunk).__qualname__}")


def _dump(chunk: object, module: str) -> str | None:
    """The JSON of a model, as it writes it; None for other objects, and where it can't."""
    dump = getattr(chunk, "model_dump_json", None)
    if dump is None:
        return None
    try:
        text = dump(by_alias=True, exclude_none=True, exclude=_added_by(module), warnings=False)
    except Exception:  # noqa: BLE001 - half a character, or a model with ideas of its own
        return None
    return text if isinstance(text, str) else None


@lru_cache(maxsize=256)
def _added_by(module: str) -> frozenset[str]:
    return _ADDED.union(*(names for package, names in _ADDED_BY.items() if module.startswith(package)))


def _to_builtins(value: Any) -> Any:
    """What `json` encodes in place of an object that it doesn't know.

    Raises:
        TypeError: nothing does.
    """
    if isinstance(value, Mapping):
        return dict(value)
    try:
        if hasattr(value, "model_dump"):
            added = _added_by(type(value).__module__)
            return value.model_dump(by_alias=True, exclude_none=True, exclude=added, warnings=False)
        if hasattr(value, "to_dict"):
            return value.to_dict()
        return msgspec.to_builtins(value)
    except Exception as error:
        raise TypeError(f"{type(value).__qualname__} is no JSON") from error
