"""Provider streams translated into events.

A translator is a pure state machine: bytes of a response body in, split anywhere, event data out. It holds what it
must (an unfinished line, open blocks), reads no clock and mints nothing random, so equal bodies give equal events,
but for what is injected to make ids unique.

What holds for every translator:

1. Nothing is lost: what a provider says is in an event, else in an `extension`, else in its list of what is dropped.
2. Nothing raises: a body that is broken or hostile gives `extension` and `error` events. What is wrong in it costs
   itself, and no text beside it; no normal stop reason vouches for an answer of which a part can't be read.
3. However the bytes are split, the events are the same.
4. Every event is valid (`codec.Codec.decode_from_producer`) and fits a message of 64 KiB.
5. Every message that starts stops, every block that starts ends, and nothing of a message comes after its stop.

Tour, from the bottom up:

- `sse` — bytes to server-sent events
- `halves` — characters that come in halves
- `tolerant` — JSON that strict readers refuse
- `parts` — text in every shape that servers give it
- `fields` — reading a JSON object nobody vouches for
- `bounds` — events small enough for one message
- `not_a_stream` — what failed upstream, in whatever form
- `speech` — what is said in one place, piece by piece; `told` — knowing it again when it comes once more
- `counts` — token counts
- `objects` — chunks of SDKs as JSON
- `translator` — what all translators have in common: from bytes or objects to JSON objects
- `typed_events` — what those have in common whose events say their type; `named_blocks` — their blocks
  - `anthropic` — Anthropic Messages; `anthropic_whole`: those that come whole
  - `openai_responses` — OpenAI Responses; `openai_items`: their output items
  - `streamed_parts` — parts with a start, deltas and an end: `ai_sdk` — AI SDK UI message streams; `ag_ui` — AG-UI
- `choices` — what those have in common whose answers are choices; `choice`, `blocks`, `tool_calls` are their parts
  - `openai_chat` — OpenAI Chat Completions and its dialects; `openai_delta`, `choice_numbers`
  - `gemini` — Gemini; `partial_arguments`
  - `ollama` — Ollama
- `any_provider` — a body whose format is found; `recognition`: from what it is
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from deltawire.protocol.events import Data
from deltawire.protocol.providers.ag_ui import AGUI
from deltawire.protocol.providers.ai_sdk import AISDK
from deltawire.protocol.providers.anthropic import AnthropicMessages
from deltawire.protocol.providers.any_provider import AnyProvider
from deltawire.protocol.providers.gemini import Gemini
from deltawire.protocol.providers.ollama import Ollama
from deltawire.protocol.providers.openai_chat import OpenAIChat
from deltawire.protocol.providers.openai_responses import OpenAIResponses
from deltawire.protocol.providers.translator import BodyTranslator

__all__ = [
    "AGUI",
    "AISDK",
    "ANY",
    "TRANSLATORS",
    "AnthropicMessages",
    "Gemini",
    "Ollama",
    "OpenAIChat",
    "OpenAIResponses",
    "Translator",
    "make_any",
]


class Translator(Protocol):
    """Translates one response body."""

    @property
    def unparsed(self) -> int:
        """How much of it so far was no event of the provider, and became an extension `unparsed`."""

    def feed(self, chunk: bytes) -> list[Data]:
        """The events that are complete with these bytes, split anywhere."""

    def feed_object(self, chunk: object) -> list[Data]:
        """The events of one chunk that an SDK has read: a dict, a model, or what else `objects` can encode."""

    def finish(self) -> list[Data]:
        """What is left to say when the body has ended, cleanly or not; nothing the second time."""


class MakeTranslator(Protocol):
    """Makes the translator of one body."""

    def __call__(self, *, body: str = "", inline_thinking: bool = False) -> Translator:
        """A translator.

        Args:
            body: what makes ids that have to be made unique among all bodies; equal bodies give equal ids without it.
            inline_thinking: `<think>…</think>` within the answer's text is thinking.
        """
        ...


_BY_FORMAT: Final[dict[str, Callable[..., BodyTranslator]]] = {
    "anthropic-sse": AnthropicMessages,
    "openai-chat-sse": OpenAIChat,
    "openai-responses-sse": OpenAIResponses,
    "gemini-sse": Gemini,
    "ollama-ndjson": Ollama,
    "ai-sdk-sse": AISDK,
    "ag-ui-sse": AGUI,
}

ANY: Final = "auto"
"""The name for a format that is found from what a body begins with."""


def make_any(*, body: str = "", inline_thinking: bool = False) -> Translator:
    """A translator of one body in any of the formats; its arguments are those of all translators."""

    def make(name: str) -> BodyTranslator:
        return _BY_FORMAT[name](body=body, inline_thinking=inline_thinking)

    return AnyProvider(make, body=body, inline_thinking=inline_thinking)


TRANSLATORS: Final[dict[str, MakeTranslator]] = {ANY: make_any, **_BY_FORMAT}
"""Translators by the name of the format they read (`deltawire publish --format`)."""
