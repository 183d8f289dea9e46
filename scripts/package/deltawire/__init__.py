"""A WebSocket pub/sub gateway for LLM token streams.

The names below are the public API for Python programs; each is documented where it is defined.

- Clients of a gateway: `Publisher`, `Subscriber` (which yields `Frame`), and what they raise: `ClientError` and its
  subclasses
- Events: their payloads (`TextDelta`, `Thinking`, `ToolDelta`, `MessageStart`, `MessageStop`, …), the envelopes that a
  subscriber receives (`TextDeltaEvent`, …), and `events`, the module of both
- What a subscriber can also receive or ask for: `Gap`, `Policy`, `Position`, `SubscribeRequest`
- A gateway inside a program: `Gateway`, `Settings`, `make_settings`
- Streams without sockets: `Hub`, `LocalStream`, `LocalSubscription`, which raise `StreamError`

A name is imported when it is first used: a program that only publishes does not load the server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from deltawire.gateway.client import (
        ClientError,
        EventRefused,
        Fenced,
        Frame,
        GatewayUnreachable,
        NotDelivered,
        NotPermitted,
        ProtocolFault,
        Publisher,
        Refused,
        StreamClosed,
        StreamFull,
        Subscriber,
        TextMismatch,
        TokenProvider,
        TokenUnavailable,
    )
    from deltawire.gateway.config import Settings, make_settings
    from deltawire.gateway.hub import Hub, LocalStream, LocalSubscription
    from deltawire.gateway.server import Gateway
    from deltawire.protocol import events
    from deltawire.protocol.addresses import SubscribeRequest
    from deltawire.protocol.errors import DeltawireError, StreamError, is_full
    from deltawire.protocol.events import (
        ContentEnd,
        ContentEndEvent,
        ContentStart,
        ContentStartEvent,
        Data,
        Digest,
        Error,
        ErrorEvent,
        Event,
        EventType,
        Extension,
        ExtensionEvent,
        MessageStart,
        MessageStartEvent,
        MessageStop,
        MessageStopEvent,
        TextDelta,
        TextDeltaEvent,
        Thinking,
        ThinkingEvent,
        ToolDelta,
        ToolDeltaEvent,
        Usage,
        UsageEvent,
    )
    from deltawire.protocol.messages import Gap, Policy
    from deltawire.protocol.position import Position

__all__ = [
    "ClientError",
    "ContentEnd",
    "ContentEndEvent",
    "ContentStart",
    "ContentStartEvent",
    "Data",
    "DeltawireError",
    "Digest",
    "Error",
    "ErrorEvent",
    "Event",
    "EventRefused",
    "EventType",
    "Extension",
    "ExtensionEvent",
    "Fenced",
    "Frame",
    "Gap",
    "Gateway",
    "GatewayUnreachable",
    "Hub",
    "LocalStream",
    "LocalSubscription",
    "MessageStart",
    "MessageStartEvent",
    "MessageStop",
    "MessageStopEvent",
    "NotDelivered",
    "NotPermitted",
    "Policy",
    "Position",
    "ProtocolFault",
    "Publisher",
    "Refused",
    "Settings",
    "StreamClosed",
    "StreamError",
    "StreamFull",
    "SubscribeRequest",
    "Subscriber",
    "TextDelta",
    "TextDeltaEvent",
    "TextMismatch",
    "Thinking",
    "ThinkingEvent",
    "TokenProvider",
    "TokenUnavailable",
    "ToolDelta",
    "ToolDeltaEvent",
    "Usage",
    "UsageEvent",
    "events",
    "is_full",
    "make_settings",
]

_MODULES: Final = (
    "deltawire.protocol.events",
    "deltawire.protocol.messages",
    "deltawire.protocol.position",
    "deltawire.protocol.addresses",
    "deltawire.protocol.errors",
    "deltawire.gateway.client",
    "deltawire.gateway.config",
    "deltawire.gateway.hub",
    "deltawire.gateway.server",
)
"""Where the public names are, those that take longest to import last."""


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name == "events":
        return import_module("deltawire.protocol.events")
    if name in __all__:
        for module in _MODULES:
            if (found := getattr(import_module(module), name, None)) is not None:
                globals()[name] = found
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
