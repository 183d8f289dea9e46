"""Ollama, streamed: JSON lines of `/api/chat` or `/api/generate` into deltawire events.

| on the wire | events |
|---|---|
| first line with a `message`, a `response` or `done` | `message_start` |
| `message.content`, `response` | `text_delta` in a block of kind `text` |
| `message.thinking`, `thinking` | `thinking` in a block of kind `thinking` |
| `message.tool_calls[]` | for each a block of kind `tool_use` with its arguments in one `tool_delta` |
| `done` | `content_end` of open blocks, `usage`, `message_stop` with the `done_reason` |
| `error`, or what else tells a failure (`not_a_stream`) | `error` |
| end of the body before that | `content_end`, `message_stop` with reason `error` or `incomplete` |

There are no ids: a message is called `ollama-BODY-NUMBER`. After `done` another one may follow; without a `done_reason`
the stop reason is `unknown`. Server-sent events that hold such objects are read, too.

*Extensions* hold the provider's JSON without what the events above say, one for each field and named after it:
`total_duration` and the other times, `context`, `logprobs`, `images`, `created_at` of the first line. What is constant
but repeated is told when it changes.

Dropped, because they say nothing: null and empty fields; `role: assistant`; `created_at` of later lines, which is about
when they came.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from deltawire.protocol.providers.choice import Choice
from deltawire.protocol.providers.choices import ChoiceTranslator
from deltawire.protocol.providers.counts import CountNames, read_usage
from deltawire.protocol.providers.fields import Fields
from deltawire.protocol.providers.halves import mend
from deltawire.protocol.providers.not_a_stream import HTTP_RETRYABLE
from deltawire.protocol.providers.openai_delta import read_calls
from deltawire.protocol.providers.tool_calls import read_arguments

_COUNTS = CountNames(prompt=("prompt_eval_count",), completion=("eval_count",))
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


class Ollama(ChoiceTranslator):
    """Translates one streamed response of Ollama's own API."""

    provider: ClassVar[str] = "ollama"
    retryable: ClassVar[Mapping[str, bool]] = HTTP_RETRYABLE
    HAS_LINES: ClassVar[bool] = True
    FINISH: ClassVar[str] = "done_reason"
    REPEATED: ClassVar[frozenset[str]] = frozenset({"model", "remote_model", "remote_host", "created_at", "event"})

    def _take(self, event: str, payload: Fields) -> None:
        source = payload.source
        is_chunk = (
            isinstance(source.get("message"), dict)
            or isinstance(source.get("response"), str)
            or isinstance(source.get("done"), bool)
        )
        if is_chunk:
            self._open(payload)
        self._take_chunk(event, payload, *(([0], [payload]) if is_chunk else ([], [])))
        if source.get("done") is True:
            self._close_done()

    def _take_choice(self, choice: Choice, fields: Fields) -> None:
        message = fields.object("message")
        message.drop("role", "assistant")
        has_said = False
        for holder, thinking, text in ((message, "thinking", "content"), (fields, "thinking", "response")):
            has_said |= self._say(choice, holder.parts(thinking, "thinking") + holder.parts(text, "text"))
        calls, _ = read_calls(message)
        for call in calls:
            self._take_call(choice, call)
        self._take_finish(choice, fields, has_said=has_said or bool(calls))
        if fields.source.get("done") is True and choice.finish_reason is None:
            choice.finish("unknown", has_said=False)
        fields.drop("done", True, False)
        if message.left():
            self._extend_fields(choice, message, frozenset(), "message")

    def _take_call(self, choice: Choice, call: Fields) -> None:
        """Take a call, which comes whole; its number says nothing more."""
        function = call.object("function")
        block = choice.open_call(call.label("id"), function.label("name"))
        choice.end_call(block, mend(read_arguments(function) or "{}"))
        function.count("index")
        call.drop("type", "function")
        if rest := call.left():
            self._extend("tool_calls", {"index": choice.number, "message": {"tool_calls": [rest]}})

    def _take_rest(self, payload: Fields) -> None:
        self._emit_usage(read_usage(payload, _COUNTS), Fields({}))
        time = payload.peek("created_at")
        if "created_at" in self._repeated and time is not None and _TIME.fullmatch(time):
            payload.drop("created_at")
