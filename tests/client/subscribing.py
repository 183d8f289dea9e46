"""What the subscriber's tests share."""

from __future__ import annotations

from typing import Any

from deltawire.gateway.client import Subscriber
from tests.support.fakes import AT_ONCE, FakeGateway, Script, closing, frames

Message = dict[str, Any]


def subscribed(after: int = 0, epoch: str = "e1") -> Message:
    return {
        "type": "subscribed",
        "stream": "demo",
        "epoch": epoch,
        "floor": 1,
        "head": 9,
        "after": after,
        "policy": "coalesce",
        "buffer": 100,
        "recovered": True,
        "closed": False,
    }


def event(seq: int, first: int | None = None) -> Message:
    folded = {} if first is None else {"first": first}
    return {"type": "text_delta", **folded, "seq": seq, "timestamp": "2026-11-22T11:00:00Z", "data": {"text": f"{seq}"}}


def events(first: int, last: int) -> list[Message]:
    return [event(seq) for seq in range(first, last + 1)]


CAUGHT_UP = {"type": "caught_up", "seq": 0}


def ending(seq: int) -> Script:
    return frames({"type": "stream_end", "seq": seq, "reason": "closed"}, then=closing(1000))


def subscriber(gateway: FakeGateway, **arguments: Any) -> Subscriber:
    return Subscriber(gateway.url, "demo", backoff=AT_ONCE, **arguments)


async def seqs(source: Subscriber) -> list[int]:
    return [item.seq async for item in source if isinstance(item.seq, int)]
