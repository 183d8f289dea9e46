"""An Anthropic message that comes whole, though a stream was asked for: as the events it would have come in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_LATER = frozenset({"stop_reason", "stop_sequence"})


def events_of(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The events of a message.

    Args:
        message: as it came; its `content` is a list.
    """
    rest = _LATER | {"content", "usage"}
    start = {name: value for name, value in message.items() if name not in rest}
    yield {"type": "message_start", "message": start}
    for index, block in enumerate(message["content"]):
        yield {"type": "content_block_start", "index": index, "content_block": block}
        yield {"type": "content_block_stop", "index": index}
    delta = {name: value for name, value in message.items() if name in _LATER}
    yield {"type": "message_delta", "delta": delta, "usage": message.get("usage")}
    yield {"type": "message_stop"}
