"""What a producer says: a function of who it is and how many events it has sent."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from deltawire.protocol.events import (
    ContentStart,
    Data,
    Error,
    Extension,
    MessageStart,
    MessageStop,
    TextDelta,
    Thinking,
    ToolDelta,
)

_WORDS = ("a", "log", "and", "cursor", "né", "weiß", "東京", "🙂", "\\", '"', "\n", "the", "is", "token")
_KINDS = ("text",) * 14 + ("thinking",) * 2 + ("tool",) * 2 + ("extension", "error")


class Tag(NamedTuple):
    """Where an event comes from: the `number`-th of a producer in a generation, counted from 1."""

    producer: str
    generation: int
    number: int

    def __str__(self) -> str:
        return f"{self.producer}/{self.generation}/{self.number}"


def data_of(tag: Tag, length: int) -> Data:
    """The event with this tag.

    Args:
        tag: where it comes from.
        length: events of a message, start and stop included; an answer of any kind of events. With 0 there is one
            message of text that never ends.
    """
    name = str(tag)
    place = (tag.number - 1) % length if length else tag.number - 1
    if place == 0:
        return MessageStart(message_id=name)
    if place == length - 1:
        return MessageStop(message_id=str(tag._replace(number=tag.number - place)), stop_reason=name)
    if place == 1:
        return ContentStart(index=0, id=name)
    return _delta(name, _KINDS if length else ("text",))


def _delta(name: str, kinds: tuple[str, ...]) -> Data:
    dice = Random(name)  # noqa: S311 - has to be the same in every process, not secret
    said = f"{name} {' '.join(dice.choices(_WORDS, k=_count_words(dice)))}|"
    match dice.choice(kinds):
        case "thinking":
            return Thinking(said)
        case "tool":
            return ToolDelta(index=1, partial_json=said)
        case "extension":
            return Extension(provider="proof", name="said", data=said)
        case "error":
            return Error(said)
        case _:
            return TextDelta(said, index=0)


def tag_of(data: Data) -> Tag | None:
    """Where an event comes from; None for one of the gateway's own."""
    producer, _, rest = _said(data).partition(" ")[0].partition("/")
    generation, _, number = rest.partition("/")
    return Tag(producer, int(generation), int(number)) if number else None


def _count_words(dice: Random) -> int:
    """Mostly tokens, now and then a page: limits in bytes are to be reached as well as limits in events."""
    return dice.randint(200, 1200) if dice.random() < 0.1 else dice.randint(1, 30)


def _said(data: Data) -> str:
    match data:
        case TextDelta(text=said) | Thinking(thinking=said) | ToolDelta(partial_json=said) | Error(error=said):
            return said
        case MessageStart(message_id=said) | MessageStop(stop_reason=said):
            return said
        case ContentStart(id=str(said)) | Extension(data=str(said)):
            return said
        case _:
            raise ValueError(f"no producer says {data}")
