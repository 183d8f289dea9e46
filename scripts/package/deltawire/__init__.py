"""A WebSocket pub/sub gateway for LLM token streams.

The names below are the public API for Python programs; each is documented where it is defined.

- Clients of a gateway: `Publisher`, `Subscriber` (which yields `Frame`), and what they raise: `ClientError` and its
  subclasses; `iterate_with_idle_timeout` for a source that may fall silent, which raises `SourceStalled`
- `tee`, which publishes what an SDK yields while a program reads it (a `Tee`)
- Events: their payloads (`TextDelta`, `Thinking`, `ToolDelta`, `MessageStart`, `MessageStop`, …), the envelopes that a
  subscriber receives (`TextDeltaEvent`, …), and `events`, the module of both
- What a subscriber can also receive or ask for: `Gap`, `Policy`, `Position`, `SubscribeRequest`
- A gateway inside a program: `Gateway`, `Settings`, `make_settings`
- Streams without sockets: `Hub`, `LocalStream`, `LocalSubscription`, which raise `StreamError`
- What becomes of events before they are appended: `middleware`, the module of its stages

A name is imported when it is first used: a program that only publishes does not load the server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from deltawire.gateway import middleware
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
        SourceStalled,
        StreamClosed,
        StreamFull,
        StreamNotFound,
        Subscriber,
        TextMismatch,
        TokenProvider,
        TokenUnavailable,
        iterate_with_idle_timeout,
    )
    from deltawire.gateway.config import Settings
    from deltawire.gateway.configuring import make_settings
    from deltawire.gateway.hub import Hub, LocalStream, LocalSubscription
    from deltawire.gateway.server import Gateway
    from deltawire.gateway.tee import Tee, tee
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

__version__ = "0.1.0"
"""The only place that says it: packages, `deltawire --version` and metrics take it from here."""

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
    "SourceStalled",
    "StreamClosed",
    "StreamError",
    "StreamFull",
    "StreamNotFound",
    "SubscribeRequest",
    "Subscriber",
    "Tee",
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
    "iterate_with_idle_timeout",
    "make_settings",
    "middleware",
    "tee",
]

_MODULES: Final = {
    "deltawire.gateway": ("middleware",),
    "deltawire.gateway.client": (
        "ClientError",
        "EventRefused",
        "Fenced",
        "Frame",
        "GatewayUnreachable",
        "NotDelivered",
        "NotPermitted",
        "ProtocolFault",
        "Publisher",
        "Refused",
        "SourceStalled",
        "StreamClosed",
        "StreamFull",
        "StreamNotFound",
        "Subscriber",
        "TextMismatch",
        "TokenProvider",
        "TokenUnavailable",
        "iterate_with_idle_timeout",
    ),
    "deltawire.gateway.config": ("Settings",),
    "deltawire.gateway.configuring": ("make_settings",),
    "deltawire.gateway.hub": ("Hub", "LocalStream", "LocalSubscription"),
    "deltawire.gateway.server": ("Gateway",),
    "deltawire.gateway.tee": ("Tee", "tee"),
    "deltawire.protocol": ("events",),
    "deltawire.protocol.addresses": ("SubscribeRequest",),
    "deltawire.protocol.errors": ("DeltawireError", "StreamError", "is_full"),
    "deltawire.protocol.events": (
        "ContentEnd",
        "ContentEndEvent",
        "ContentStart",
        "ContentStartEvent",
        "Data",
        "Digest",
        "Error",
        "ErrorEvent",
        "Event",
        "EventType",
        "Extension",
        "ExtensionEvent",
        "MessageStart",
        "MessageStartEvent",
        "MessageStop",
        "MessageStopEvent",
        "TextDelta",
        "TextDeltaEvent",
        "Thinking",
        "ThinkingEvent",
        "ToolDelta",
        "ToolDeltaEvent",
        "Usage",
        "UsageEvent",
    ),
    "deltawire.protocol.messages": ("Gap", "Policy"),
    "deltawire.protocol.position": ("Position",),
}
"""Where each public name is defined; a test compares it with the imports above."""

_MODULE_OF: Final = {name: module for module, names in _MODULES.items() for name in names}

if not TYPE_CHECKING:  # a type checker would take every name for one that exists

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used (PEP 562)."""
        if (module := _MODULE_OF.get(name)) is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name in ("events", "middleware"):  # modules themselves
            return import_module(f"{module}.{name}")
        found = globals()[name] = getattr(import_module(module), name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
