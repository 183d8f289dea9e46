"""What `deltawire top` knows of the streams: rates from two looks, and the figures of the gateway. Pure.

Time is an argument. The words are those of the gateway's console.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from msgspec import UNSET, Struct
from prometheus_client.parser import text_string_to_metric_families

from deltawire.gateway.streams.info import StreamInfo
from deltawire.protocol.events import DELTA_TYPES, Event, EventType

FIRST_EVENTS: Final = 50
"""Events at the beginning of a stream among which the first token is looked for."""

_MIB: Final = 1024 * 1024


class Row(Struct, frozen=True, kw_only=True):
    """One stream, as the table has it.

    Attributes:
        id: the stream id, as the gateway sent it.
        is_closed: whether it has ended.
        events_per_second: since the last look; None if this is the first.
        bytes_per_second: the same, by the mean size of the events that are held.
        events: appended so far.
        producers: now.
        consumers: now.
        folded: deliveries that travelled inside a folded frame: consumers were late, or came late.
        dropped: events that a policy skipped for a consumer.
        first_token: seconds from the start of its first message to the first delta; None if not known.
        last_active_at: RFC 3339.
    """

    id: str
    is_closed: bool
    events_per_second: float | None
    bytes_per_second: float | None
    events: int
    producers: int
    consumers: int
    folded: int
    dropped: int
    first_token: float | None
    last_active_at: str


class _Seen(Struct, frozen=True):
    """A stream at the last look.

    Attributes:
        info: what the gateway said.
        at: when, in seconds.
        row: what came of it.
    """

    info: StreamInfo
    at: float
    row: Row


class _FirstToken(Struct, frozen=True):
    """What the first events of a stream said.

    Attributes:
        epoch: of the log that they were in.
        events: how many there were, or more.
        seconds: until the first token; None if they did not say.
    """

    epoch: str
    events: int
    seconds: float | None


class Watch:
    """All streams, over all looks at them."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self._first_tokens: dict[str, _FirstToken] = {}
        self._round: set[str] = set()

    def __len__(self) -> int:
        return len(self._seen)

    def rows(self) -> list[Row]:
        """All streams, in no order."""
        return [seen.row for seen in self._seen.values()]

    def row(self, stream: str) -> Row | None:
        """One stream; None if it is not known."""
        seen = self._seen.get(stream)
        return None if seen is None else seen.row

    def take(self, infos: Iterable[StreamInfo], now: float) -> None:
        """Note a page of the list.

        Args:
            infos: the streams of the page.
            now: when it came, in seconds.
        """
        for info in infos:
            self._round.add(info.id)
            row = self._make_row(info, self._seen.get(info.id), now)
            self._seen[info.id] = _Seen(info, now, row)

    def end_round(self) -> None:
        """Forget the streams that no page had since the last round."""
        for gone in self._seen.keys() - self._round:
            del self._seen[gone]
            self._first_tokens.pop(gone, None)
        self._round.clear()

    def lacks_first_token(self, stream: str) -> bool:
        """Whether the first events of a stream should be read, perhaps again because there are more of them."""
        seen = self._seen.get(stream)
        if seen is None or seen.info.events < 2:
            return False
        noted = self._first_tokens.get(stream)
        if noted is None or noted.epoch != seen.info.epoch:
            return True
        return noted.seconds is None and noted.events < min(seen.info.head, FIRST_EVENTS)

    def note_first_token(self, stream: str, seconds: float | None) -> None:
        """Note what the first events of a stream say; None if that is nothing."""
        if seen := self._seen.get(stream):
            self._first_tokens[stream] = _FirstToken(seen.info.epoch, seen.info.head, seconds)

    def _make_row(self, info: StreamInfo, before: _Seen | None, now: float) -> Row:
        rate = None
        if before is not None and before.info.epoch == info.epoch and now > before.at:
            rate = max(0, info.head - before.info.head) / (now - before.at)
        size = (info.stored_bytes or info.bytes) / info.events if info.events else 0.0
        noted = self._first_tokens.get(info.id)
        return Row(
            id=info.id,
            is_closed=info.closed,
            events_per_second=rate,
            bytes_per_second=None if rate is None else rate * size,
            events=info.head,
            producers=info.producers,
            consumers=info.consumers,
            folded=info.counters.folded,
            dropped=info.counters.dropped,
            first_token=noted.seconds if noted is not None and noted.epoch == info.epoch else None,
            last_active_at=info.last_active_at,
        )


def find_first_token(events: Iterable[Event]) -> float | None:
    """Seconds from the first `message_start` to the first delta after it, by their timestamps; None if there is none.

    Args:
        events: of a stream, from its beginning, unfolded.
    """
    begun: datetime | None = None
    for event in events:
        if event.timestamp is UNSET:
            continue
        if event.data.type in DELTA_TYPES and begun is not None:
            return max(0.0, (event.timestamp - begun).total_seconds())
        if event.data.type == EventType.MESSAGE_START and begun is None:
            begun = event.timestamp
    return None


def sum_metrics(text: str) -> dict[str, float]:
    """The sums of the series of each metric, by name.

    Args:
        text: in Prometheus' format.

    Raises:
        ValueError: it is not in that format.
    """
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


def describe_metrics(now: Mapping[str, float], before: Mapping[str, float], seconds: float) -> str:
    """The gateway at a glance, in one line.

    Args:
        now: sums of its metrics.
        before: those of the last look; empty if this is the first.
        seconds: between the two.
    """

    def rate(name: str) -> float:
        return (now.get(name, 0.0) - before.get(name, 0.0)) / seconds if before and seconds > 0 else 0.0

    figures = {
        "readers": now.get("deltawire_consumers", 0.0),
        "events/s": rate("deltawire_events_total"),
        "deliveries/s": rate("deltawire_deliveries_total"),
        "largest lag": now.get("deltawire_consumer_lag_events_max", 0.0),
    }
    parts = [f"{name} {value:,.0f}" for name, value in figures.items()]
    tokens = now.get("deltawire_first_token_seconds_count", 0.0)
    if tokens:
        mean = now.get("deltawire_first_token_seconds_sum", 0.0) / tokens
        parts.append(f"first token {describe_seconds(mean)}")
    parts.append(f"memory {now.get('deltawire_memory_bytes', 0.0) / _MIB:,.0f} MiB")
    return " · ".join(parts)


def describe_seconds(seconds: float) -> str:
    """A duration, in a few characters."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds:.0f} s"
