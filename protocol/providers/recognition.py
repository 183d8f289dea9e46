"""Which provider's format a body has, from what it begins with.

| format | a JSON object of it has |
|---|---|
| `anthropic-sse` | a `type`: `message_start`, `content_block_…`, `message_…`, `message`, `ping` |
| `openai-chat-sse` | `choices`, or an `object` that names the format |
| `openai-responses-sse` | a `type` that begins with `response.`, or an `object` that names the format |
| `gemini-sse` | `candidates`, `promptFeedback` or `usageMetadata` |
| `ollama-ndjson` | `done`, and a `message` or a `response` |
| `ai-sdk-sse` | a `type`: `start`, `finish`, `text-…`, `reasoning-…`, `tool-…`, `data-…` and others |
| `ag-ui-sse` | a `type` in capitals: `RUN_…`, `TEXT_MESSAGE_…`, `TOOL_CALL_…` and others |

An object that tells of nothing but a failure has no format.
"""

from __future__ import annotations

import re
from typing import Any

_TYPES = (
    ("openai-responses-sse", re.compile(r"response\.[a-z_.]+")),
    ("anthropic-sse", re.compile(r"message|message_(start|delta|stop)|content_block_(start|delta|stop)|ping")),
    (
        "ai-sdk-sse",
        re.compile(
            r"start|finish|abort|message-metadata|(start|finish|reset)-step|(text|reasoning)-(start|delta|end)"
            r"|tool-(input|output|approval)-[a-z]+|source-(url|document)|(reasoning-)?file|steering-message|data-.+"
        ),
    ),
    (
        "ag-ui-sse",
        re.compile(
            r"(RUN|STEP|TEXT_MESSAGE|TOOL_CALL|REASONING|THINKING|STATE|ACTIVITY|SUBAGENT)_[A-Z_]+"
            r"|MESSAGES_SNAPSHOT|RAW|CUSTOM"
        ),
    ),
)
_OBJECTS = {
    "chat.completion.chunk": "openai-chat-sse",
    "chat.completion": "openai-chat-sse",
    "text_completion": "openai-chat-sse",
    "response": "openai-responses-sse",
}
_GEMINI = ("candidates", "promptFeedback", "usageMetadata")


def recognise(payload: dict[str, Any]) -> str | None:
    """The name of the format that an object is a chunk of; None if it may be of any, or of none."""
    kind = payload.get("type")
    if isinstance(kind, str):
        for name, pattern in _TYPES:
            if pattern.fullmatch(kind):
                return name
    if (name_of_object := payload.get("object")) and isinstance(name_of_object, str) and name_of_object in _OBJECTS:
        return _OBJECTS[name_of_object]
    if isinstance(payload.get("choices"), list):
        return "openai-chat-sse"
    if any(isinstance(payload.get(name), (dict, list)) for name in _GEMINI):
        return "gemini-sse"
    if isinstance(payload.get("done"), bool) and ("message" in payload or "response" in payload):
        return "ollama-ndjson"
    return None
