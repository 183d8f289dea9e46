"""What translators have in common whose provider has no blocks: an answer is choices, of texts and calls in turn."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from deltawire.protocol.events import Data, MessageStop
from deltawire.protocol.providers.choice import Choice
from deltawire.protocol.providers.fields import Fields
from deltawire.protocol.providers.not_a_stream import is_failure
from deltawire.protocol.providers.parts import Pieces
from deltawire.protocol.providers.translator import BodyTranslator

_NAMES = frozenset({"", "message", "error"})  # what chunks are called, on their `event:` line if they have one
_NO_REASON = ("null", "FINISH_REASON_UNSPECIFIED")


class ChoiceTranslator(BodyTranslator):
    """Holds the choices of the open message, and ends them.

    A finish reason stands unless something says that text is missing. It ends the blocks of its choice when the next
    chunk comes, if that doesn't go on with it: some servers give a reason with each chunk. `message_stop` comes last,
    after what arrives behind a finish reason, such as usage and errors.
    """

    ID: ClassVar[str] = "id"
    MODEL: ClassVar[str] = "model"
    FINISH: ClassVar[str] = "finish_reason"
    """Fields of a chunk, and of a choice."""
    REPEATED: ClassVar[frozenset[str]]
    """Fields of a chunk that are told when they change."""

    def __init__(self, *, body: str = "", inline_thinking: bool = False) -> None:
        super().__init__(body=body, inline_thinking=inline_thinking)
        self._message_id: str | None = None
        self._choices: dict[int, Choice] = {}
        self._tail: list[Data] = []  # what came with a finish reason, told after the ends of the blocks
        self._repeated: dict[str, Any] = {}

    @abstractmethod
    def _take_choice(self, choice: Choice, fields: Fields) -> None:
        """Translate what a chunk says of one choice."""

    @abstractmethod
    def _take_rest(self, payload: Fields) -> None:
        """Translate what a chunk says beside its choices, usage above all; what is left of it becomes extensions."""

    def _take_chunk(self, event: str, payload: Fields, numbers: Sequence[int], choices: Sequence[Fields]) -> None:
        """Translate one chunk.

        Args:
            event: the name on its `event:` line, or an empty one.
            payload: the chunk.
            numbers: those of its choices.
            choices: what it says of each.
        """
        self._end_finished(but=numbers)
        for number, fields in zip(numbers, choices, strict=True):
            self._take_choice(self._choices.get(number) or self._add_choice(number), fields)
        has_failed = event == "error" or is_failure(payload.source)
        if has_failed:
            self._end_finished()
        start = len(self._out)
        self._take_rest(payload)
        if has_failed:
            self._take_error(payload)
        self._extend_chunk(event, payload)
        if any(choice.is_ending for choice in self._choices.values()):
            self._tail = self._out[start:]
            del self._out[start:]

    def _open(self, payload: Fields) -> None:
        """Start the message, with what a chunk says of it, if none is open."""
        if self._message_id is not None:
            return
        self._messages += 1
        self._message_id = payload.label(self.ID) or self._make_id()
        model = payload.label(self.MODEL)
        self._repeated = {self.ID: self._message_id, self.MODEL: model}
        self._emit_start(self._message_id, model)

    def _add_choice(self, number: int) -> Choice:
        """A choice that is spoken of for the first time."""
        self._choices[number] = Choice(number, self._emit, inline_thinking=self._splits_thinking)
        return self._choices[number]

    def _say(self, choice: Choice, texts: Pieces) -> bool:
        for kind, text in texts:
            choice.say(kind, text)
        return bool(texts)

    def _take_finish(self, choice: Choice, fields: Fields, *, has_said: bool) -> None:
        """Take the finish reason of a choice, if there is one."""
        reason = fields.peek(self.FINISH)
        if reason is None or reason in _NO_REASON:
            if reason is not None:
                fields.drop(self.FINISH)
            choice.go_on(has_said=has_said)
            return
        if other := choice.finish(reason, has_said=has_said):
            self._extend(self.FINISH, {"index": choice.number, self.FINISH: other})
        fields.drop(self.FINISH, choice.finish_reason)

    def _extend_chunk(self, event: str, payload: Fields) -> None:
        """Tell what is left of a chunk, field by field."""
        self._fail_stray(payload)
        named = {} if event in _NAMES else {"event": event}
        for name, value in (named | payload.left()).items():
            if _is_new(name, value, self.REPEATED, self._repeated):
                self._extend_field(name, value)

    def _extend_field(self, name: str, value: Any) -> None:
        """Tell a field of a chunk."""
        self._extend(name, {name: value})

    def _extend_fields(self, choice: Choice, fields: Fields, repeated: frozenset[str], *places: str) -> None:
        """Tell what is left of a choice, or of an object in it, field by field.

        Args:
            choice: the choice.
            fields: what was said of it.
            repeated: fields that are told when they change.
            places: names of the objects around these, from the outermost on.
        """
        for name, value in fields.left().items():
            if name == "index" and not places and fields.amount(name) is not None:
                continue
            if _is_new(name, value, repeated, choice.repeated):
                data = {name: value}
                for place in reversed(places):
                    data = {place: data}
                self._extend(name, {"index": choice.number, **data})
        fields.drop_all()

    # The end

    def _end_finished(self, but: Sequence[int] = ()) -> None:
        """End the choices that have their finish reason, as a chunk came that doesn't go on with them."""
        for choice in self._choices.values():
            if choice.is_ending and choice.number not in but:
                choice.end()
        self._emit(*self._tail)
        self._tail = []

    def _settle(self) -> None:
        self._end_finished()

    def _close(self) -> None:
        if self._message_id is None:
            return
        choices = list(self._choices.values()) or [self._add_choice(0)]
        for choice in choices:
            choice.end()
        self._end_finished()
        for choice in choices:
            reason = self._stop_reason(choice)
            if choice.finish_reason not in (None, reason):
                self._extend(self.FINISH, {"index": choice.number, self.FINISH: choice.finish_reason})
        self._emit(*(MessageStop(self._message_id, self._stop_reason(choice), choice.choice) for choice in choices))
        self._message_id, self._choices = None, {}
        self._forget_message()

    def _stop_reason(self, choice: Choice) -> str:
        """The finish reason, unless something says that text is missing; one amid the text proves little."""
        reason = choice.finish_reason
        is_open = choice.has_said_more and not self._is_done
        is_void = is_open or (choice.is_amid and (self._failed or self._is_cut))
        if reason is not None and not (self._is_torn or is_void):
            return reason
        return "error" if self._failed else "incomplete"


def _is_new(name: str, value: Any, repeated: frozenset[str], told: dict[str, Any]) -> bool:
    """Whether a field is to be told: always, but for those repeated, flags and numbers: these when they change."""
    if name not in repeated and not isinstance(value, (bool, int, float)):
        return True
    has_changed: bool = told.get(name) != value
    told[name] = value
    return has_changed
