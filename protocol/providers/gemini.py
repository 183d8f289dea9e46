"""Gemini, streamed: server-sent events (`alt=sse`), or one JSON array, into deltawire events.

| on the wire | events |
|---|---|
| first chunk with a `responseId` or candidates | `message_start` |
| `content.parts[].text` | `text_delta` in a block of kind `text` |
| the same, if the part is a `thought` | `thinking` in a block of kind `thinking` |
| `content.parts[].functionCall` | a block of kind `tool_use` with its arguments in one `tool_delta` |
| `functionCall` with `partialArgs` | the same, once the call is complete; arguments that aren't are an extension |
| `finishReason` | `content_end` of the candidate's open blocks, if the next chunk doesn't go on; the reason waits |
| `promptFeedback.blockReason` | the stop reason of a prompt that was blocked, and has no candidates |
| `usageMetadata`, on each chunk | `usage`, if it changed |
| `error`, or what else tells a failure (`not_a_stream`) | `error` |
| end of the body | for every candidate `content_end` of open blocks, `message_stop` |

Candidates are choices: `choice` is set where their index, or else their place in the chunk, is over 0. The prompt's
tokens are those of the prompt and of tools in it, the completion's those of the candidates and of thoughts.

Stop reasons are those of the provider (`STOP`, `MAX_TOKENS`, `SAFETY` …), with the exceptions of `choices`. A message
may follow the finish of all candidates, with another `responseId`. Without one it is called `gemini-BODY-NUMBER`.

*Extensions* hold the provider's JSON without what the events above say, one for each field and named after it:
`thoughtSignature`, `inlineData`, `executableCode`, `codeExecutionResult` and other parts; `safetyRatings`,
`groundingMetadata`, `citationMetadata`; those of a candidate have its `index`. `usage` has the details of the counts.
What is repeated on each chunk is told when it changes.

Dropped, because they say nothing: null and empty fields; `role: model`; `FINISH_REASON_UNSPECIFIED`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from msgspec import Struct, field

from deltawire.protocol.digest import MAX_CHOICES
from deltawire.protocol.providers.choice import Choice
from deltawire.protocol.providers.choices import ChoiceTranslator
from deltawire.protocol.providers.counts import CountNames, read_usage
from deltawire.protocol.providers.fields import Fields
from deltawire.protocol.providers.halves import encode_json, mend
from deltawire.protocol.providers.not_a_stream import HTTP_RETRYABLE
from deltawire.protocol.providers.partial_arguments import PartialArguments
from deltawire.protocol.providers.tool_calls import read_arguments

_CHUNK = frozenset({"candidates", "responseId", "promptFeedback"})
_REPEATED_IN_CANDIDATE = frozenset({"safetyRatings", "citationMetadata", "groundingMetadata", "urlContextMetadata"})
_COUNTS = CountNames(
    prompt=("promptTokenCount", "toolUsePromptTokenCount"),
    completion=("candidatesTokenCount", "thoughtsTokenCount"),
    total="totalTokenCount",
    cached=(("cachedContentTokenCount",),),
    reasoning=(("thoughtsTokenCount",),),
)


class _Call(Struct, eq=False):
    """A call that is open: its block, and its arguments so far."""

    block: int
    name: str | None
    arguments: PartialArguments = field(default_factory=PartialArguments)


class Gemini(ChoiceTranslator):
    """Translates one streamed response of `streamGenerateContent`."""

    provider: ClassVar[str] = "gemini"
    retryable: ClassVar[Mapping[str, bool]] = HTTP_RETRYABLE
    ID: ClassVar[str] = "responseId"
    MODEL: ClassVar[str] = "modelVersion"
    FINISH: ClassVar[str] = "finishReason"
    REPEATED: ClassVar[frozenset[str]] = frozenset(
        {"responseId", "modelVersion", "createTime", "modelStatus", "promptFeedback", "event"}
    )

    def _take(self, event: str, payload: Fields) -> None:
        candidates = payload.objects("candidates")
        response_id = payload.peek("responseId")
        is_other = response_id not in (None, self._message_id, self._repeated.get("responseId"))
        if candidates and is_other and self._have_ended:
            self._close()
        if any(payload.source.get(name) for name in _CHUNK):
            self._open(payload)
        numbers = []
        for place, fields in enumerate(candidates):
            index = fields.amount("index")
            numbers.append(min(place if index is None else index, MAX_CHOICES - 1))
        self._take_chunk(event, payload, numbers, candidates)

    @property
    def _have_ended(self) -> bool:
        """Whether all candidates of the message have a finish reason, and said nothing since."""
        choices = self._choices.values()
        return bool(choices) and all(choice.finish_reason and not choice.has_said_more for choice in choices)

    def _take_rest(self, payload: Fields) -> None:
        usage = payload.object("usageMetadata")
        counts = read_usage(usage, _COUNTS)
        if usage.source.get("toolUsePromptTokenCount"):
            usage.keep("toolUsePromptTokenCount")  # the prompt count alone does not show it
        self._emit_usage(counts, Fields(usage.left()))
        usage.drop_all()
        reason = Fields(payload.source).object("promptFeedback").peek("blockReason")
        if reason is not None and not self._choices:
            self._add_choice(0).finish(reason, has_said=False)

    # One candidate of a chunk

    def _take_choice(self, choice: Choice, fields: Fields) -> None:
        content = fields.object("content")
        content.drop("role", "model")
        has_said = False
        for part in content.objects("parts"):
            has_said |= self._take_part(choice, part)
        self._take_finish(choice, fields, has_said=has_said)
        if choice.is_ending:
            self._give_up_call(choice)
        if content.left():
            self._extend_fields(choice, content, frozenset(), "content")
        if fields.left():
            self._extend_fields(choice, fields, _REPEATED_IN_CANDIDATE)

    def _take_part(self, choice: Choice, part: Fields) -> bool:
        """Take one part; whether it says anything."""
        is_thought = part.source.get("thought") is True
        part.drop("thought", True, False)
        text = part.text("text")
        choice.say("thinking" if is_thought else "text", text)
        call = part.object("functionCall")
        is_end = part.source.get("functionCall") == {} and choice.number in self._open_calls
        has_call = (bool(call.source) or is_end) and self._take_call(choice, call)
        if rest := part.left():
            name = next(iter(rest))
            marked = {"thought": True} if is_thought else {}
            self._extend(name, {"index": choice.number, "content": {"parts": [marked | rest]}})
        return bool(text) or has_call

    def _take_call(self, choice: Choice, call: Fields) -> bool:
        name = call.peek("name")
        open_call = self._open_calls.get(choice.number)
        if open_call is None or name not in (None, open_call.name) or "args" in call.source:
            self._give_up_call(choice)
            open_call = _Call(choice.open_call(call.label("id"), name), name)
            self._open_calls[choice.number] = open_call
        call.drop("name", open_call.name)
        pieces = call.source.get("partialArgs")
        if isinstance(pieces, list):
            rest = [piece for piece in pieces if not open_call.arguments.add(piece)]
            call.drop("partialArgs")
            if rest:
                self._extend("partialArgs", {"index": choice.number, "partialArgs": rest})
        if call.source.get("willContinue") is not True:
            arguments = read_arguments(call, ("args",)) or encode_json(open_call.arguments.value)
            choice.end_call(open_call.block, mend(arguments))
            del self._open_calls[choice.number]
        call.drop("willContinue", True, False)
        return True

    def _give_up_call(self, choice: Choice) -> None:
        """A call whose arguments aren't complete will have none: nobody may take them for all there are."""
        open_call = self._open_calls.pop(choice.number, None)
        if open_call is not None and (value := open_call.arguments.value):
            self._extend("functionCall", {"index": choice.number, "functionCall": {"partialArgs": value}})

    # The end

    def _close(self) -> None:
        for choice in self._choices.values():
            self._give_up_call(choice)
        super()._close()

    def _forget_message(self) -> None:
        super()._forget_message()
        self._open_calls: dict[int, _Call] = {}  # by choice
