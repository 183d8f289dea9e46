"""Chunks as SDKs give them, dicts and models, back as the JSON that they were made of.

JSON and no dict, so that what the program does to a chunk later changes no event, and so that chunks are read as bodies
are: what has no place in JSON costs only itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec


def encode_chunk(chunk: object) -> str:
    """The JSON of a chunk.

    Args:
        chunk: a mapping; a pydantic model; an object with `to_dict`, a dataclass or a msgspec struct; or a list of
            these. Fields that a model has and the provider did not send are left out, if they are null.

    Returns:
        JSON in which half a character, `NaN` and integers of any size may be; for all other objects, the name of their
        type.
    """
    dump = getattr(chunk, "model_dump_json", None)
    if dump is not None:
        try:
            text = dump(by_alias=True, exclude_none=True, warnings=False)
        except Exception:  # noqa: BLE001 - half a character, or a model with ideas of its own
            text = None
        if isinstance(text, str):
            return text
    try:
        return json.dumps(chunk, default=_to_builtins)
    except (TypeError, ValueError, RecursionError):
        return json.dumps(f"an object of the type {type(chunk).__qualname__}")


def _to_builtins(value: Any) -> Any:
    """What `json` encodes in place of an object that it doesn't know.

    Raises:
        TypeError: nothing does.
    """
    if isinstance(value, Mapping):
        return dict(value)
    try:
        if hasattr(value, "model_dump"):
            return value.model_dump(by_alias=True, exclude_none=True, warnings=False)
        if hasattr(value, "to_dict"):
            return value.to_dict()
        return msgspec.to_builtins(value)
    except Exception as error:
        raise TypeError(f"{type(value).__qualname__} is no JSON") from error
