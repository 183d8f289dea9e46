"""The naive model: a stream is a Python list, a consumer is what it got. Slow, obvious, and compared with the core."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from typing import Any

from msgspec import UNSET, UnsetType, structs

from deltawire.gateway.streams import coalesce
from deltawire.gateway.streams.coalesce import Kind, kind_of
from deltawire.gateway.streams.leases import MAX_OPEN
from deltawire.gateway.streams.producers import Writer
from deltawire.gateway.streams.stream import Stream
from deltawire.gateway.streams.subscription import Subscription
from deltawire.gateway.streams.view import CHUNK
from deltawire.protocol.addresses import SubscribeRequest
from deltawire.protocol.codec import Codec
from deltawire.protocol.events import (
    ContentEnd,
    ContentStart,
    Data,
    Digest,
    Event,
    EventType,
    Extension,
    MessageStart,
    MessageStop,
    TextDelta,
    Thinking,
    ToolDelta,
)
from deltawire.protocol.filters import Filter
from deltawire.protocol.messages import CaughtUp, Gap, Policy, StreamEnd, Subscribed, Urgent
from tests.support.reading import STAMP, Frame, delta_text, read_frames

BlockId = tuple[EventType, int | UnsetType, int | UnsetType]


@dataclass(eq=False)
class NaiveStream:
    """Every event ever appended, and the bytes each was first seen with."""

    stream: Stream
    events: list[Data] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    wire: dict[tuple[str, int], bytes] = field(default_factory=dict)
    marked: set[int] = field(default_factory=set)
    """Seqs that producers marked as urgent."""

    open: dict[str, tuple[Writer | None, bool]] = field(default_factory=dict)
    """Messages in progress: whose each is, and whether that connection has begun it or written to it."""

    alone: str | None = None
    """The message begun last, if no other was in progress then."""

    @property
    def head(self) -> int:
        return len(self.events)

    @property
    def floor(self) -> int:
        return self.stream.log.floor

    def event(self, seq: int) -> Data:
        return self.events[seq - 1]

    def is_delta(self, seq: int) -> bool:
        """Whether an event may be folded or dropped."""
        return kind_of(self.event(seq)).is_delta and seq not in self.marked

    def size(self, seq: int) -> int:
        """Bytes of an event; none when it was trimmed."""
        return self.sizes[seq - 1] if seq >= self.floor else 0

    def append(self, data: Data, now: float, writer: Writer | None = None, *, is_urgent: bool = False) -> None:
        seq = self.stream.append(data, STAMP, now, writer, is_urgent=is_urgent)
        if is_urgent:
            self.marked.add(seq)
        self.note(data, now, writer)
        assert seq == self.head

    def note(self, data: Data, now: float, writer: Writer | None = None) -> None:
        """An event was appended."""
        if isinstance(data, MessageStart):
            self.open.pop(data.message_id, None)
            self.alone = None if self.open else data.message_id
            self.open[data.message_id] = (writer, True)
            if len(self.open) > MAX_OPEN:
                del self.open[next(iter(self.open))]
        elif isinstance(data, MessageStop):
            self.open.pop(data.message_id, None)
            digest = self.digest(data.choice) if data.message_id == self.alone else UNSET
            data = structs.replace(data, digest=digest)
        elif writer is not None:
            self.open.update({message: (writer, True) for message, (of, _) in self.open.items() if of is writer})
        self.events.append(self.with_kind(data))
        self.times.append(now)
        held = self.stream.log.frames(self.head - 1, self.head) if self.head >= self.floor else [b""]
        self.sizes.append(len(held[0]))

    def with_kind(self, data: Data) -> Data:
        """What is sent of an event of a block: it says the kind with which the block began, looked up in all of it."""
        if not isinstance(data, TextDelta | Thinking | ToolDelta | ContentEnd) or data.kind is not UNSET:
            return data
        for earlier in reversed(self.events):
            place = (getattr(earlier, "index", None), getattr(earlier, "choice", None))
            is_of_block = place == (data.index, data.choice)
            if isinstance(earlier, MessageStart) or (isinstance(earlier, ContentEnd) and is_of_block):
                return data
            if isinstance(earlier, ContentStart) and is_of_block:
                is_plain = earlier.kind in (UNSET, "text", "thinking", "tool_use")
                may_stay = earlier.kind is UNSET or (is_plain and not isinstance(data, ContentEnd))
                return data if may_stay else structs.replace(data, kind=earlier.kind)
        return data

    def came(self, writer: Writer, lost: Collection[Writer] = ()) -> None:
        """A producer connected; those lost without an id are replaced by one without."""
        for message, (of, _) in self.open.items():
            if of is not None and (of in lost if writer.id is None else of.id == writer.id):
                self.open[message] = (writer, False)

    def left_behind(self, data: Data, writer: Writer | None) -> list[str]:
        """The messages that a connection must not leave open when it says this."""
        if not isinstance(data, MessageStart) or writer is None:
            return []
        return [
            message
            for message, (of, goes_on) in self.open.items()
            if of is writer and not goes_on and message != data.message_id
        ]

    def digest(self, choice: int | UnsetType) -> Digest:
        """Of the text since the latest message_start."""
        first = max(seq for seq, data in enumerate(self.events, 1) if isinstance(data, MessageStart))
        deltas = [data for data in self.events[first - 1 :] if isinstance(data, TextDelta) and data.choice == choice]
        text = "".join(delta.text for delta in deltas)
        return Digest(first=first, characters=len(text), sha256=sha256(text.encode()).hexdigest())


@dataclass(eq=False)
class NaiveReader:
    """A consumer that checks everything it gets, in the order it gets it."""

    model: NaiveStream
    subscription: Subscription
    codec: Codec
    request: SubscribeRequest
    position: int = -1  # the last seq accounted for; -1 before `subscribed`
    origin: int = -1
    outcome: dict[int, str] = field(default_factory=dict)
    texts: dict[BlockId, str] = field(default_factory=lambda: defaultdict(str))
    seqs: list[int] = field(default_factory=list)
    skipped: set[int] = field(default_factory=set)
    ahead: set[int] = field(default_factory=set)
    judged: int = 0
    fold_to: int = 0
    is_caught_up: bool = False
    is_over: bool = False
    has_ended: bool = False
    is_gone: bool = False

    def __post_init__(self) -> None:
        log = self.model.stream.log
        self.opened_at = (log.floor, log.head, self.model.stream.is_closed)
        self.judged = log.head
        self.had_replay = self.subscription.cursor < log.head
        after = 0 if self.request.position is None else self.request.position.seq
        is_folding = self.subscription.policy is Policy.COALESCE
        self.is_whole = log.readable_after(after, folded=is_folding) == after

    @property
    def is_replaying(self) -> bool:
        """Whether it reads what was there when it came, which no policy touches."""
        return self.had_replay and not self.is_caught_up

    def wants(self, data: Data) -> bool:
        return is_wanted(self.request, data)

    def take(self, size: int = CHUNK) -> bool:
        """Take once and check what comes; whether anything came."""
        before = self.subscription.cursor
        data = self.subscription.take(size)
        may_fold = self.subscription.policy is Policy.COALESCE and (
            not self.is_caught_up or self.request.interval > 0 or before < self.fold_to or before + 1 < self.model.floor
        )
        frames = read_frames(data or b"", self.codec)
        if may_fold:
            self._check_that_neighbours_folded(frames)
        for frame in frames:
            self._read(frame, may_fold=may_fold)
        assert self.subscription.cursor >= self.position
        if data is None:
            left_out = [self.model.event(seq) for seq in range(before + 1, self.subscription.cursor + 1)]
            assert left_out, "it goes on"
            assert not any(map(self.wants, left_out)), "only what was not asked for is left out"
        elif not data:
            assert self.subscription.lag == 0, "nothing comes only when nothing is left"
            self._pass_over(self.subscription.cursor)
            assert self.has_ended == self.model.stream.is_closed
        return data != b""

    def _check_that_neighbours_folded(self, frames: list[Frame]) -> None:
        got = [frame.message for frame in frames if isinstance(frame.message, Event)]
        for left, right in pairwise(got):
            first = right.first if isinstance(right.first, int) else right.seq
            kind = kind_of(left.data, left.urgent is True)
            if left.seq + 1 == first and kind.is_delta and kind == kind_of(right.data, right.urgent is True):  # type: ignore[operator]  # events of a gateway have a seq
                length = len(delta_text(left.data) or "") + len(delta_text(right.data) or "")
                assert length > coalesce.MAX_FOLDED_TEXT, "two frames where one would do"

    def _read(self, frame: Frame, *, may_fold: bool) -> None:
        assert not self.has_ended, "stream_end is the last word"
        message = frame.message
        assert (self.position < 0) == isinstance(message, Subscribed), "subscribed comes first, once"
        match message:
            case Event():
                self._read_event(message, frame.data, may_fold=may_fold)
            case Subscribed():
                self._read_subscribed(message)
            case Gap():
                self._read_gap(message)
            case Urgent():
                self._read_copy(message)
            case CaughtUp(seq=seq):
                assert not self.is_caught_up, "caught_up comes once"
                assert seq >= self.opened_at[1]
                self._pass_over(seq)
                if self.had_replay:
                    self.judged = self.model.head
                self.is_caught_up = True
            case StreamEnd(seq=seq, reason=reason):
                assert reason == self.model.stream.end_reason
                assert seq == self.model.head
                assert self.is_caught_up
                self._pass_over(seq)
                self.has_ended = True
            case _:
                raise AssertionError(message)

    def _read_subscribed(self, message: Subscribed) -> None:
        floor, head, closed = self.opened_at
        stream, asked = self.model.stream, self.request.position
        is_elsewhere = asked is not None and asked.epoch not in ("", stream.epoch)
        if asked is not None and not is_elsewhere:
            after = asked.seq
        else:
            after = head if self.request.start == "now" and asked is None else 0
        assert (message.stream, message.epoch, message.floor, message.head) == (stream.id, stream.epoch, floor, head)
        assert (message.after, message.closed) == (after, closed)
        assert message.recovered == (asked is not None and not is_elsewhere and self.is_whole)
        self.position = after
        if self.origin < 0:
            self.origin = after

    def _read_gap(self, gap: Gap) -> None:
        assert gap.reason != "dropped" or gap.first <= gap.seq
        self._pass_over(gap.first - 1)
        for seq in range(gap.first, gap.seq + 1):
            if gap.reason == "dropped":
                assert self.model.is_delta(seq), "only deltas are dropped"
                assert self.wants(self.model.event(seq)), "what was not asked for is not dropped"
                assert seq in self.skipped, f"{seq} had room in the buffer"
            else:
                assert seq < self.model.floor, f"{seq} is held"
            self.outcome[seq] = gap.reason
        self.position = gap.seq

    def _read_copy(self, copy: Urgent) -> None:
        event = self.codec.decode_to_consumer(bytes(copy.event))
        assert isinstance(event, Event)
        assert isinstance(event.seq, int)
        assert self.request.urgent is not None, "it asked for none"
        assert event.data.type in self.request.urgent or event.seq in self.model.marked
        assert event.data == self.model.event(event.seq)
        assert self.wants(event.data)
        assert event.seq > self.position + 1, "it is behind"
        assert event.seq not in self.ahead, "ahead once"
        self.ahead.add(event.seq)

    def take_ahead(self) -> None:
        """Take the copies that there are, and check them; nothing else moves."""
        before = self.subscription.cursor
        for frame in read_frames(self.subscription.take_ahead(), self.codec):
            self._read(frame, may_fold=False)
        assert self.subscription.cursor == before
        assert self.subscription.take_ahead() == b"", "once"

    def _read_event(self, event: Event, wire: bytes, *, may_fold: bool) -> None:
        assert isinstance(event.seq, int)
        is_folded = isinstance(event.first, int)
        first = event.first if isinstance(event.first, int) else event.seq
        self._pass_over(first - 1)
        members = [self.model.event(seq) for seq in range(first, event.seq + 1)]
        assert all(map(self.wants, members))
        if is_folded:
            assert may_fold, "this consumer gets events as they came"
            assert first < event.seq
            assert all(map(self.model.is_delta, range(first, event.seq + 1)))
            assert {kind_of(member) for member in members} == {kind_of(event.data)}
            text = delta_text(event.data)
            assert text == "".join(delta_text(member) or "" for member in members)
            assert text is not None
            assert len(text) <= coalesce.MAX_FOLDED_TEXT
        else:
            assert [event.data] == members
            assert (event.urgent is True) == (event.seq in self.model.marked)
            assert self.model.wire.setdefault((self.codec.subprotocol, event.seq), wire) == wire, "other bytes"
        for seq in range(first, event.seq + 1):
            is_dropped = seq in self.skipped and self.model.is_delta(seq)
            assert not is_dropped, f"{seq} came while the buffer was full"
            self.outcome[seq] = "folded" if is_folded else "delivered"
        self.texts[block_of(kind_of(event.data))] += delta_text(event.data) or ""
        self.seqs.append(event.seq)
        self.position = event.seq

    def _pass_over(self, seq: int) -> None:
        """Account for events this consumer did not ask for; there is no other way to come to a later seq."""
        assert seq >= self.position
        for passed in range(self.position + 1, seq + 1):
            assert not self.wants(self.model.event(passed)), f"{passed} is missing"
            self.outcome[passed] = "filtered"
        self.position = seq

    def judge(self) -> bool:
        """Judge the lag, here and there; whether this consumer may stay."""
        head, cursor = self.model.head, self.subscription.cursor
        may_stay = True
        if not self.is_replaying and head != self.judged:
            pending = [seq for seq in range(cursor + 1, head + 1) if seq not in self.skipped]
            total = sum(map(self.model.size, pending))
            is_over = head - cursor > self.subscription.buffer or total > self.subscription.buffer_bytes
            match self.subscription.policy:
                case Policy.DISCONNECT:
                    may_stay = not is_over
                case Policy.COALESCE if is_over:
                    self.fold_to = head
                case Policy.DROP_NEWEST:
                    self._skip_newest(max(self.judged, cursor), pending)
                case Policy.DROP_OLDEST:
                    self._skip_oldest(cursor, head)
                case _:
                    pass
            self.judged = head
        assert self.subscription.judge() == may_stay
        return may_stay

    def _skip_newest(self, judged: int, pending: list[int]) -> None:
        """A queue that takes what fits, then nothing more."""
        queue = [seq for seq in pending if seq <= judged]
        new = [seq for seq in pending if seq > judged]
        while new and self._fits([*queue, new[0]]):
            queue.append(new.pop(0))
        self.skipped.update(new)

    def _skip_oldest(self, cursor: int, head: int) -> None:
        """A queue that takes everything and lets its oldest go."""
        kept: list[int] = []
        for seq in range(head, cursor, -1):
            if not self._fits([seq, *kept]):
                self.skipped.update(range(cursor + 1, seq + 1))
                break
            kept.append(seq)

    def _fits(self, queue: list[int]) -> bool:
        size = sum(map(self.model.size, queue))
        return len(queue) <= self.subscription.buffer and size <= self.subscription.buffer_bytes

    def expected_texts(self) -> dict[BlockId, str]:
        """The model's text of each block, without what this reader was told it would not get."""
        expected: dict[BlockId, str] = defaultdict(str)
        for seq, outcome in sorted(self.outcome.items()):
            if outcome in ("delivered", "folded"):
                data = self.model.event(seq)
                expected[block_of(kind_of(data))] += delta_text(data) or ""
        return expected


def is_wanted(wanted: Filter, data: Data) -> bool:
    """Whether a filter lets an event through, as SPEC §5.6 says it."""

    def has(values: frozenset[Any] | None, value: Any) -> bool:
        return values is None or value in values

    if not has(wanted.types, data.type):
        return False
    if isinstance(data, Extension):
        return has(wanted.extension, data.provider) or has(wanted.extension, f"{data.provider}/{data.name}")
    if isinstance(data, MessageStop):
        return data.choice is UNSET or has(wanted.choice, data.choice)
    if not isinstance(data, TextDelta | Thinking | ToolDelta | ContentStart | ContentEnd):
        return True
    implied = {EventType.TEXT_DELTA: "text", EventType.THINKING: "thinking", EventType.TOOL_DELTA: "tool_use"}
    kind = implied.get(data.type) if data.kind is UNSET else data.kind
    is_of_kind = kind is None or has(wanted.kind, kind)
    return has(wanted.index, data.index or 0) and has(wanted.choice, data.choice or 0) and is_of_kind


def block_of(kind: Kind) -> BlockId:
    """What concatenated text belongs to."""
    return kind.type, kind.block, kind.choice


UNSET_OR = (UNSET, 0, 1, 99)
"""Values of `index` and `choice` that tests try."""
