"""What the publisher's tests share."""

from __future__ import annotations

from typing import Any

from deltawire.gateway.client import Publisher
from deltawire.protocol.events import TextDelta
from tests.support.fakes import AT_ONCE, FakeGateway, text


def publisher(gateway: FakeGateway, **arguments: Any) -> Publisher:
    return Publisher(gateway.url, "demo", backoff=AT_ONCE, **arguments)


async def send_numbers(target: Publisher, first: int, last: int) -> None:
    for number in range(first, last + 1):
        await target.send(TextDelta(str(number)))


def numbers(first: int, last: int) -> list[str]:
    return [str(number) for number in range(first, last + 1)]


def problem(code: str, number: int | None = None) -> str:
    about = {} if number is None else {"producer_seq": number}
    return text({"type": "problem", "code": code, "message": f"{code}!", "retryable": False, **about})
