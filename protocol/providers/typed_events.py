"""What translators have in common whose provider names the type of each event, and tells of one message at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from msgspec import Struct

from deltawire.protocol.events import MessageStop
from deltawire.protocol.providers.fields import Fields
from deltawire.protocol.providers.named_blocks import NamedBlocks
from deltawire.protocol.providers.not_a_stream import is_failure
from deltawire.protocol.providers.translator import BodyTranslator


class Message(Struct, eq=False):
    """The message that is open.

    Attributes:
        id: its id.
        model: the model that was told with it.
        blocks: its blocks.
        has_started: whether its start has come, and was not made.
        given_id: the id that its start had; another one than its own if that was made before.
        stop_reason: the provider's, once it is known.
    """

    id: str
    model: str | None
    blocks: NamedBlocks
    has_started: bool = False
    given_id: str | None = None
    stop_reason: str | None = None


class TypedTranslator(BodyTranslator):
    """Gives each event to the handler of its type; what that leaves of it becomes an extension."""

    HANDLERS: ClassVar[Mapping[str, Callable[[Any, Fields], str | None]]]
    """By type: takes an event, and returns the name for what is left of it, if that is not the type."""

    PLACE: ClassVar[tuple[str, ...]] = ()
    """Fields that say where in the message an event belongs: told again with what is left of it."""

    def __init__(self, *, body: str = "", inline_thinking: bool = False) -> None:
        super().__init__(body=body, inline_thinking=inline_thinking)
        self._message: Message | None = None
        self._kind = ""  # type of the event at hand
        self._stopped = ""  # id of the message that has stopped last

    def _take(self, event: str, payload: Fields) -> None:
        kind = "error" if event == "error" else payload.peek("type") or event
        if kind not in self.HANDLERS and _tells_failure(kind, payload):
            kind = "error"
        self._kind = kind
        self._prepare(payload)
        name = kind
        if handler := self.HANDLERS.get(kind):
            payload.drop("type", kind)
            name = handler(self, payload) or kind
        else:
            self._take_other(payload)
        if payload.left():
            self._extend_left(name, payload)

    def _extend_left(self, name: str, payload: Fields) -> None:
        """Tell what is left of an event, if anything is, and where in the message that belongs."""
        if payload.left():
            for place in self.PLACE:
                payload.keep(place)
            self._extend(name, payload.left())
            payload.drop_all()

    def _prepare(self, payload: Fields) -> None:
        """Do what has to be done before an event is taken."""

    def _take_other(self, payload: Fields) -> None:
        """Take an event of a type that has no handler."""
        self._fail_stray(payload)

    def _open(self, message_id: str | None = None, model: str | None = None) -> Message:
        """The open message; start one if none is open."""
        if self._message is None:
            self._messages += 1
            blocks = NamedBlocks(self._emit, inline_thinking=self._splits_thinking)
            self._message = Message(message_id or self._make_id(), model, blocks)
            self._emit_start(self._message.id, model)
        return self._message

    def _begin_message(self, message_id: str | None, model: str | None = None) -> Message:
        """The message whose start has come: a new one, but for the start of the one that is open, late or once more."""
        message = self._message
        if message is not None and message.has_started and message_id not in (None, message.id, message.given_id):
            self._close()
        message = self._open(message_id, model)
        message.has_started, message.given_id = True, message_id or message.given_id
        return message

    def _stop(self, message: Message, stop_reason: str) -> None:
        message.blocks.end_all()
        self._emit(MessageStop(message.id, stop_reason))
        self._message, self._stopped = None, message.id
        self._forget_message()

    def _end_message(self, message: Message, payload: Fields, reason: Callable[[], str]) -> None:
        """The provider says that a message ends.

        Args:
            message: the one that is open.
            payload: what is left of the event is told before.
            reason: takes the stop reason from the event; one does not vouch for an answer that is torn.
        """
        stop_reason = None if self._is_torn else reason()
        self._extend_left(self._kind, payload)
        if stop_reason is None:
            self._close()
        else:
            self._stop(message, stop_reason)

    def _close(self) -> None:
        if self._message is not None:
            self._stop(self._message, "error" if self._failed else "incomplete")


def _tells_failure(kind: str, payload: Fields) -> bool:
    is_untold = kind == "" or kind.endswith("error") or "error" in payload.source
    return is_untold and is_failure(payload.source)
