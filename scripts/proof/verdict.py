"""What was lost, doubled, misordered or altered: notes of producers and consumers against what a stream held."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import UNSET, Struct, structs

from deltawire.gateway.client import TextMismatch
from deltawire.gateway.client.proof import Proof
from deltawire.protocol.events import DELTA_TYPES, Data, Event, MessageStop, TextDelta, Thinking, ToolDelta
from deltawire.protocol.messages import Gap, Message, StreamEnd
from scripts.proof.answers import data_of, tag_of


class Tally(Struct):
    """A count of what became of events.

    Attributes:
        acked: noted by producers as acked.
        delivered: got by consumers as they are.
        folded: got by consumers as part of a frame that stands for several.
        in_gaps: named to consumers as not to be had.
        lost: acked and not in the stream; or not got by a consumer, and in no gap.
        doubled: there twice.
        misordered: there after a later one.
        altered: not what the producer said or the stream holds, or in a gap that must not name them.
        proven: messages whose text is what their digest says.
        mismatched: consumers that got a message whose text is not.
    """

    acked: int = 0
    delivered: int = 0
    folded: int = 0
    in_gaps: int = 0
    lost: int = 0
    doubled: int = 0
    misordered: int = 0
    altered: int = 0
    proven: int = 0
    mismatched: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.doubled or self.misordered or self.altered or self.mismatched)

    def add(self, other: Tally) -> None:
        """Count another one in."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def place(self, first: int, last: int, so_far: int) -> int:
        """Count a range that should begin right after `so_far`; how far it gets."""
        if first > so_far + 1:
            self.lost += first - so_far - 1
        elif first <= so_far:
            self.doubled += min(last, so_far) - first + 1
            if last < so_far:
                self.misordered += 1
        return max(last, so_far)


def judge_stream(events: Iterable[Event], acked: Mapping[tuple[str, int], int], length: int) -> Tally:
    """A stream against its producers.

    Args:
        events: all it ever held.
        acked: by producer id and generation, the last number it was acked.
        length: events of a message.
    """
    tally = Tally(acked=sum(acked.values()))
    reached: dict[tuple[str, int], int] = {}
    generations: dict[str, int] = {}
    for event in events:
        said = event.data
        tag = tag_of(said)
        if tag is None:
            continue
        tally.misordered += tag.generation < generations.get(tag.producer, 0)
        generations[tag.producer] = tag.generation
        key = (tag.producer, tag.generation)
        reached[key] = tally.place(tag.number, tag.number, reached.get(key, 0))
        tally.altered += _as_sent(said) != data_of(tag, length)
    tally.lost += sum(max(0, number - reached.get(key, 0)) for key, number in acked.items())
    return tally


def judge_consumer(messages: Sequence[Event | Message], events: Sequence[Event]) -> Tally:
    """What a consumer noted against all its stream ever held, from the first event to the end."""
    tally = Tally()
    reached = 0
    end: StreamEnd | None = None
    for message in messages:
        match message:
            case Event(seq=int(last)):
                first = last if message.first is UNSET else message.first
                reached = tally.place(first, last, reached)
                tally.altered += message != _expected(events[first - 1 : last])
                if message.first is UNSET:
                    tally.delivered += 1
                else:
                    tally.folded += last - first + 1
            case Gap(first=first, seq=last, reason=reason):
                reached = tally.place(first, last, reached)
                tally.in_gaps += last - first + 1
                named = events[first - 1 : last]
                tally.altered += reason == "epoch_changed"
                tally.altered += reason == "dropped" and any(event.data.type not in DELTA_TYPES for event in named)
            case StreamEnd():
                end = message
    tally.lost += len(events) - reached
    tally.altered += end is None or end.seq != len(events)
    try:
        tally.proven = count_proven(messages)
    except TextMismatch:
        tally.mismatched = 1
    return tally


def count_proven(messages: Iterable[Event | Message]) -> int:
    """How many messages have a text that is what their digest says.

    Raises:
        TextMismatch: one has not.
    """
    proof = Proof(None)
    for message in messages:
        proof.check(message)
    return proof.whole


def text_of(said: Iterable[Data]) -> str:
    """The answer's text in what was said."""
    return "".join(data.text for data in said if isinstance(data, TextDelta))


def _as_sent(data: Data) -> Data:
    return structs.replace(data, digest=UNSET) if isinstance(data, MessageStop) else data


def _expected(events: Sequence[Event]) -> Event | None:
    """One event as it is, or several as the frame they fold into; None where they must not."""
    if len(events) == 1:
        return events[0]
    if not events or any(event.data.type not in DELTA_TYPES for event in events):
        return None
    if len({(type(event), event.data.index, event.data.choice) for event in events}) > 1:
        return None
    last = events[-1]
    whole = "".join(_text(event.data) for event in events)
    return structs.replace(last, first=events[0].seq, data=_with_text(last.data, whole))


def _text(data: Data) -> str:
    match data:
        case TextDelta(text=text) | Thinking(thinking=text) | ToolDelta(partial_json=text):
            return text
        case _:
            raise TypeError(f"{data.type} has no text")


def _with_text(data: Data, text: str) -> Data:
    match data:
        case TextDelta():
            return structs.replace(data, text=text)
        case Thinking():
            return structs.replace(data, thinking=text)
        case _:
            return structs.replace(data, partial_json=text)
