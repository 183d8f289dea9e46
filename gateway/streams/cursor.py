"""Where a subscription starts: the request + the state of the log → a plan (SPEC §5.5).

| request | plan |
|---|---|
| `from=start` | after 0; trimmed events are a gap |
| `from=now` | after the head |
| `after` is still readable | after it; recovered |
| `after` is before the oldest readable event | after it; trimmed events are a gap |
| `after` beyond the head | refused: position_ahead |
| an epoch that this one continues, at or before its last event here | as a position in this epoch |
| the same, later | after its last event here; the rest is a gap that says `epoch_changed` |
| another epoch | after 0, a gap says `epoch_changed` |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from deltawire.protocol.addresses import Start, SubscribeRequest
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import WireError
from deltawire.protocol.messages import Gap
from deltawire.protocol.position import Position


class Fork(NamedTuple):
    """An epoch that a later one continues.

    Attributes:
        epoch: the earlier one.
        last: seq of its last event that the later one has too.
    """

    epoch: str
    last: int


class LogState(NamedTuple):
    """The state of a log that a plan depends on.

    Attributes:
        epoch: of the log.
        head: newest seq.
        readable_after: maps a position to the nearest one, at or after it, from which reading can continue.
        lineage: the epochs that it continues, the newest first.
    """

    epoch: str
    head: int
    readable_after: Callable[[int], int]
    lineage: Sequence[Fork] = ()


class Plan(NamedTuple):
    """How a subscription begins.

    Attributes:
        after: the position it reads from; everything after it is delivered, folded, filtered or in a gap.
        cursor: where reading actually begins, after the gap.
        gap: sent first if anything is missing.
        recovered: whether the consumer resumes and nothing is missing.
    """

    after: int
    cursor: int
    gap: Gap | None
    recovered: bool


def plan_subscription(request: SubscribeRequest, log: LogState) -> Plan:
    """Decide where a subscription starts.

    Raises:
        WireError: `position_ahead`, the requested position does not exist yet in this epoch.
    """
    if request.position is None:
        return _plan_start(request.start, log)
    return _plan_resume(request.position, log)


def _plan_start(start: Start, log: LogState) -> Plan:
    after = log.head if start == "now" else 0
    return _plan_after(after, log, recovered=False)


def _plan_resume(position: Position, log: LogState) -> Plan:
    if position.epoch not in ("", log.epoch):
        shared = shared_position(position, log.lineage)
        if shared is not None:
            return _plan_continued(position.seq, shared, log)
        cursor = log.readable_after(0)
        gap = Gap(first=1, seq=cursor, reason="epoch_changed")
        return Plan(after=0, cursor=cursor, gap=gap, recovered=False)
    if position.seq > log.head:
        raise WireError(
            ProblemCode.POSITION_AHEAD,
            f"parameter 'after': {position.seq} is beyond the head, {log.head}, of epoch {log.epoch!r}; "
            "resume from a position this gateway sent, or with from=start",
        )
    return _plan_after(position.seq, log, recovered=True)


def is_unknown(position: Position, epoch: str, head: int, lineage: Sequence[Fork]) -> bool:
    """Whether a position is none that a log has given, or one that it continues: a later state of it may have."""
    if position.epoch in ("", epoch):
        return position.seq > head
    return all(fork.epoch != position.epoch for fork in lineage)


def shared_position(position: Position, lineage: Sequence[Fork]) -> int | None:
    """Return how much of a position in another epoch is the same in this one; None if nothing is."""
    shared = position.seq
    for fork in lineage:
        shared = min(shared, fork.last)
        if fork.epoch == position.epoch:
            return shared if fork.last else None
    return None


def _plan_continued(seq: int, shared: int, log: LogState) -> Plan:
    if seq == shared:
        return _plan_after(shared, log, recovered=True)
    gap = Gap(first=shared + 1, seq=seq, reason="epoch_changed")  # of the earlier epoch: these are not in this one
    return Plan(shared, shared, gap, recovered=False)


def _plan_after(after: int, log: LogState, *, recovered: bool) -> Plan:
    cursor = log.readable_after(after)
    if cursor == after:
        return Plan(after, cursor, None, recovered)
    gap = Gap(first=after + 1, seq=cursor, reason="evicted")
    return Plan(after, cursor, gap, recovered=False)
