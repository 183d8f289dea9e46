"""OpenAI Chat Completions, streamed, from OpenAI and from other servers with this format.

| on the wire | events |
|---|---|
| first chunk with an id or a choice | `message_start` |
| `delta.content`, `text` of the old completions | `text_delta` in a block of kind `text` |
| `delta.reasoning_content`, `reasoning`, `reasoning_text`, `thinking` or `reasoning_details`, the first there is | \
`thinking` in a block of kind `thinking` |
| `delta.refusal` | `text_delta` in a block of kind `refusal`: terminals show it, programs can tell it apart |
| any of these in parts: a list, an object with its text, one within another | as if each part came by itself |
| `delta.tool_calls[]`, `delta.function_call` | `tool_delta` in a block of kind `tool_use`, one for each call |
| `message` in place of `delta` | as if it were that; what of it was told before is told once |
| `finish_reason` | `content_end` of the choice's open blocks, if the next chunk doesn't go on; the reason waits |
| `usage`, on any chunk or choice, in integers, floats or text | `usage` |
| `error` in a chunk or a choice, `event: error`, or what else tells a failure (`not_a_stream`) | `error` |
| `[DONE]` or the end of the body | for every choice `content_end` of open blocks, `message_stop` |

*Blocks.* The format has none, so they are made, for each choice by itself, numbered from 0. Text, thinking and refusal
take turns: the one ends where another, or a tool call, begins. Tool calls run in parallel and end with their choice;
`tool_calls` says which piece is of which call, and when a call's block starts.

*Choices.* `choice` is set where it is over 0; an event without it belongs to choice 0. Indices that only count up are
one choice (`choice_numbers`).

*Stops.* `message_stop` comes last, after usage and errors, which arrive after the finish reason: hence the wait. A
choice without a finish reason stops with `error` after an error, with `incomplete` otherwise. So it does when its
finish reason came in a chunk with text, as some servers give it to each chunk, and then an error came or the body was
cut off within an event, or text came and no `[DONE]`; and when a part of the answer was torn, it stops with `error`.
After `[DONE]` another message may begin, and after all choices have finished with a chunk that has another id and a
role. A message without an id is called `openai-BODY-NUMBER`, by what makes ids unique (if that is given) and its
number in the body.

*Extensions* hold the provider's JSON without what the events above say, one for each field and named after it:
`logprobs`, `audio`, `annotations`, `service_tier`, `x_groq`; those of a choice have its `index`. `usage` is the whole
usage object, where it says more than the counts; `finish_reason` one that doesn't stand. What is constant in a stream
but repeated (`created`, `system_fingerprint`, `service_tier`, `provider`; `event`, an event's name; `id` and `model`
beyond `message_start`; `role`, `channel` and `reasoning_details` of a delta; flags and numbers) is told when it
changes; an id that changes ever again, or with the index, is told no more.

Dropped, because they say nothing: null and empty fields and deltas; `object` where it names the format;
`obfuscation` (padding against traffic analysis); `role: assistant`; `type: function`; the id or name of a tool
call, a `reasoning` or a finish reason that repeats what was said; SSE comments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from deltawire.protocol.events import TextDelta, Thinking
from deltawire.protocol.providers.choice import Choice
from deltawire.protocol.providers.choice_numbers import ChoiceNumbers, Chunk
from deltawire.protocol.providers.choices import ChoiceTranslator
from deltawire.protocol.providers.counts import CountNames, read_usage
from deltawire.protocol.providers.fields import Fields
from deltawire.protocol.providers.not_a_stream import HTTP_RETRYABLE
from deltawire.protocol.providers.openai_delta import read_calls, read_plain, read_texts, without_repeats

_REPEATED_IN_DELTA = frozenset({"role", "channel", "reasoning_details"})
_OBJECTS = ("chat.completion.chunk", "chat.completion", "text_completion", "error")
_COUNTS = CountNames(
    prompt=("prompt_tokens",),
    completion=("completion_tokens",),
    total="total_tokens",
    cached=(("prompt_tokens_details", "cached_tokens"),),
    reasoning=(("completion_tokens_details", "reasoning_tokens"),),
)
_MAX_IDS = 4
"""Changes of the id that are told: some servers give each chunk its own."""

RETRYABLE: Final = {
    "server_error": True,
    "internal_server_error": True,
    "overloaded_error": True,
    "rate_limit_error": True,
    "rate_limit_exceeded": True,
    "service_unavailable": True,
    "timeout": True,
    "authentication_error": False,
    "insufficient_quota": False,
    "invalid_api_key": False,
    "invalid_request_error": False,
    **HTTP_RETRYABLE,
}
"""Whether another try is worth it, by the code or type of an error of OpenAI."""


class OpenAIChat(ChoiceTranslator):
    """Translates one streamed response of the Chat Completions API."""

    provider: ClassVar[str] = "openai"
    retryable: ClassVar[Mapping[str, bool]] = RETRYABLE
    REPEATED: ClassVar[frozenset[str]] = frozenset(
        {"id", "model", "created", "system_fingerprint", "service_tier", "provider", "event"}
    )

    _alike: tuple[Any, ...] | None
    """What the next chunk says but for its text, if it is like the one before; None if that was no mere text."""

    def __init__(self, *, body: str = "", inline_thinking: bool = False) -> None:
        super().__init__(body=body, inline_thinking=inline_thinking)
        self._waiting: list[tuple[str, Fields]] = []  # chunks whose indices are understood with the next one

    def _take(self, event: str, payload: Fields) -> None:
        """Take a chunk; most say what the one before says but for the text, and that takes half the time."""
        plain = None if self._is_stray or event else read_plain(payload.source)
        if plain is not None and plain.rest == self._alike:
            choice = self._choices[self._number]
            choice.say(plain.kind, plain.text)
            choice.go_on(has_said=True)
            return
        start = len(self._out)
        self._take_other(event, payload)
        said = self._out[start:]
        is_alone = len(said) == 1 and isinstance(said[0], TextDelta | Thinking)  # all else there was to say is said
        self._alike = plain.rest if plain is not None and is_alone else None

    def _take_other(self, event: str, payload: Fields) -> None:
        choices = payload.objects("choices")
        chunk_id = payload.peek("id")
        indices = [fields.amount("index") or 0 for fields in choices]
        if choices and self._begins_another(chunk_id, choices):
            self._close()
        if not choices:
            self._settle_numbers()
        elif not self._numbers.are_known(indices):
            has_role = any(fields.object("delta").peek("role") for fields in choices)
            has_finish = any(fields.peek("finish_reason") not in (None, "null") for fields in choices)
            if self._numbers.must_wait(Chunk(indices, chunk_id, has_role, has_finish)):
                self._waiting.append((event, payload))
                return
            self._take_waiting()
        self._take_numbered(event, payload, choices, indices)

    def _settle_numbers(self) -> None:
        """Take the chunks that wait, as nothing comes that would tell more of them."""
        if self._waiting:
            self._numbers.settle_alone(is_open=all(choice.finish_reason is None for choice in self._choices.values()))
            self._take_waiting()

    def _take_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for event, payload in waiting:
            choices = payload.objects("choices")
            self._take_numbered(event, payload, choices, [fields.amount("index") or 0 for fields in choices])

    def _take_numbered(self, event: str, payload: Fields, choices: list[Fields], indices: list[int]) -> None:
        """Take a chunk whose indices are understood."""
        chunk_id = payload.peek("id")
        if chunk_id or choices:
            self._open(payload)
        numbers = [self._numbers.number_of(index, chunk_id) for index in indices]
        self._number = numbers[-1] if numbers else 0
        self._take_chunk(event, payload, numbers, choices)

    def _take_rest(self, payload: Fields) -> None:
        payload.drop("object", *_OBJECTS)
        payload.drop("obfuscation")
        if payload.source.get("usage"):
            self._take_usage(payload.object("usage"))

    def _extend_field(self, name: str, value: Any) -> None:
        if name == "id":
            self._ids += 1
        if name != "id" or not (self._numbers.is_counting or self._ids > _MAX_IDS):
            super()._extend_field(name, value)

    def _begins_another(self, chunk_id: str | None, choices: list[Fields]) -> bool:
        """Whether a chunk is of another message: after the end of all choices, with another id and a role."""
        return (
            chunk_id not in (None, self._message_id, self._repeated.get("id"))
            and bool(self._choices)
            and all(choice.is_finished for choice in self._choices.values())
            and any(fields.object("delta").peek("role") for fields in choices)
        )

    def _take_usage(self, usage: Fields) -> None:
        self._emit_usage(read_usage(usage, _COUNTS), usage)

    # One choice of a chunk

    def _take_choice(self, choice: Choice, fields: Fields) -> None:
        fields = without_repeats(fields)
        delta, message = fields.object("delta"), fields.object("message")
        said = {"delta": delta}
        had_calls = bool(choice.calls)
        has_said = self._say(choice, read_texts(delta) or fields.parts("text", "text"))
        has_said |= self._take_calls(choice, "delta", delta)
        if message.source:
            said["message"] = message
            rest = choice.rest_of(read_texts(Fields(message.source)))
            if rest is not None:
                read_texts(message)
                has_said |= self._say(choice, rest)
            has_said |= self._take_calls(choice, "message", message, are_told=had_calls)
        self._take_finish(choice, fields, has_said=has_said)
        if isinstance(fields.source.get("usage"), dict):
            self._take_usage(fields.object("usage"))
        if fields.source.get("error"):
            self._take_error(fields)
        self._extend_choice(choice, fields, said)

    def _take_calls(self, choice: Choice, name: str, said: Fields, *, are_told: bool = False) -> bool:
        """Take the calls of a delta or message, but for those that are told."""
        calls, function = read_calls(said)
        if are_told:
            calls = choice.calls.news(calls)
        choice.calls.take_all(calls)
        if function is not None:
            choice.calls.take_function(function)
        for call in calls:
            if rest := call.left():
                self._extend("tool_calls", {"index": choice.number, name: {"tool_calls": [rest]}})
        return bool(calls or function)

    def _extend_choice(self, choice: Choice, fields: Fields, said: Mapping[str, Fields]) -> None:
        """Tell what is left of a choice, field by field."""
        for place, items in said.items():
            items.drop("role", "assistant")
            if items.left():
                self._extend_fields(choice, items, _REPEATED_IN_DELTA, place)
        fields.object("logprobs")  # so that one whose lists are all empty leaves nothing
        if fields.left():
            self._extend_fields(choice, fields, frozenset())

    def _settle(self) -> None:
        self._alike = None
        self._settle_numbers()
        super()._settle()

    def _close(self) -> None:
        self._settle_numbers()
        super()._close()

    def _forget_message(self) -> None:
        super()._forget_message()
        self._numbers = ChoiceNumbers()
        self._number = 0  # of the choice that was spoken of last
        self._alike = None
        self._ids = 0  # how often the id has changed
