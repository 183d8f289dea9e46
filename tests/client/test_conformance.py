"""The Python client passes the conformance cases (protocol/conformance)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from deltawire.gateway.client import (
    ClientError,
    GatewayUnreachable,
    NotDelivered,
    NotPermitted,
    ProtocolFault,
    Refused,
    Subscriber,
    TextMismatch,
    TokenUnavailable,
)
from deltawire.protocol.events import Event, EventType, TextDelta
from deltawire.protocol.messages import Gap, Policy
from deltawire.protocol.position import Position
from tests.support.conformance import CASES, Case, PlayedGateway, check
from tests.support.fakes import AT_ONCE

KINDS: dict[type[ClientError], str] = {
    GatewayUnreachable: "unreachable",
    Refused: "refused",
    TextMismatch: "text_mismatch",
    ProtocolFault: "protocol_fault",
    TokenUnavailable: "token_unavailable",
    NotPermitted: "not_permitted",
    NotDelivered: "not_delivered",
}


def kind_of(error: ClientError) -> str:
    return next(kind for cls, kind in KINDS.items() if isinstance(error, cls))


def arguments(options: dict[str, Any]) -> dict[str, Any]:
    """The options of a case, as arguments of `Subscriber`."""
    convert: dict[str, Callable[[Any], tuple[str, Any]]] = {
        "from": lambda value: ("start", value),
        "position": lambda value: ("position", Position(**value)),
        "policy": lambda value: ("policy", Policy(value)),
        "types": lambda value: ("types", [EventType(name) for name in value]),
        "urgent": lambda value: ("urgent", [EventType(name) for name in value]),
        "tokens": lambda value: ("token", iter(value).__next__),
    }
    return dict(convert.get(name, lambda value, name=name: (name, value))(value) for name, value in options.items())


def name_of(item: Event | Gap) -> str:
    """An item in the words of the cases."""
    message = msgspec.to_builtins(item)
    numbers = f"{message['first']}-{message['seq']}" if "first" in message else str(message["seq"])
    return f"{message['type']} {numbers}" + (f" {item.reason}" if isinstance(item, Gap) else "")


class Run:
    """One case, and what comes of it."""

    def __init__(self, case: Case) -> None:
        self._wanted = case.get("signals", [])
        self.delivers: list[str] = []
        self.text = ""
        self.signals: list[int | str] = []
        self.urgent: list[str] = []

    async def read(self, source: Subscriber) -> None:
        async for item in source:
            self.delivers.append(name_of(item))
            if isinstance(item, Gap) and item.reason == "epoch_changed":
                self.text = ""
            if isinstance(item, Event) and isinstance(item.data, TextDelta):
                self.text += item.data.text
            for signal in self._wanted:
                if signal["after"] == self.delivers[-1]:
                    await self._send(source, {name: signal[name] for name in ("name", "data") if name in signal})

    async def _send(self, source: Subscriber, signal: dict[str, Any]) -> None:
        try:
            self.signals.append(await source.signal(**signal))
        except ClientError as error:
            self.signals.append(kind_of(error))


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{name}: {case['name']}") for name, cases in CASES.items() for case in cases]
)
async def test_the_client_does_what_the_case_wants(case: Case) -> None:
    run, error = Run(case), None
    async with PlayedGateway(case) as gateway:
        asked = arguments(case.get("options", {}))
        if "urgent" in asked:
            asked["on_urgent"] = lambda event: run.urgent.append(name_of(event))
        source = Subscriber(gateway.url, "demo", backoff=AT_ONCE, **asked)
        try:
            async with source:
                await run.read(source)
        except ClientError as failure:
            error = {"kind": kind_of(failure)} | ({"code": failure.code} if isinstance(failure, Refused) else {})
    position = None if source.position is None else source.position._asdict()
    outcome = {"delivers": run.delivers, "text": run.text, "signals": run.signals, "error": error, "urgent": run.urgent}
    check(case, gateway, outcome | {"position": position, "verified": source.proven})
