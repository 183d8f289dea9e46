"""A subscription: one consumer's cursor on a log, and what to send it next (SPEC §5).

    opening ──► replay ──► caught up ──► live ──► ended

The owner of the socket calls `take` for bytes as long as the socket accepts them, and `judge` first if it had to wait.
Nothing is queued here: the state is a cursor, and the ranges that the drop policies decided to skip.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltawire.gateway.streams.cursor import Plan
from deltawire.gateway.streams.policy import Decision, Lag, PolicyAction, decide
from deltawire.gateway.streams.view import CHUNK, READ_EVENTS, Batch, View
from deltawire.protocol.events import EventType
from deltawire.protocol.messages import CaughtUp, Gap, Policy, StreamEnd, Subscribed

if TYPE_CHECKING:
    from deltawire.gateway.streams.stream import Stream


class Subscription:
    """One consumer of a stream.

    Args:
        stream: what it reads.
        view: its encoding and its filter.
        plan: where it starts.
        policy: what happens when it falls behind.
        buffer: its lag limit in events.
        buffer_bytes: its lag limit in bytes.
        interval: seconds between writes; deltas in between are folded.
        urgent: event types that it gets ahead while it is behind, beside marked events; None if it asks for none.
    """

    __slots__ = (
        "_ahead",
        "_fold_to",
        "_is_caught_up",
        "_is_replaying",
        "_judged",
        "_opening",
        "_replay_to",
        "_skips",
        "buffer",
        "buffer_bytes",
        "cursor",
        "delivered",
        "delivered_bytes",
        "ended",
        "interval",
        "policy",
        "stream",
        "urgent",
        "view",
    )

    def __init__(  # noqa: PLR0913 - a consumer's settings, all named
        self,
        stream: Stream,
        view: View,
        plan: Plan,
        *,
        policy: Policy,
        buffer: int,
        buffer_bytes: int,
        interval: float = 0.0,
        urgent: frozenset[EventType] | None = None,
    ) -> None:
        self.stream = stream
        self.view = view
        self.policy = policy
        self.buffer = buffer
        self.buffer_bytes = buffer_bytes
        self.interval = interval
        self.urgent = urgent
        self.cursor = plan.cursor
        self.ended = False
        self.delivered = 0  # events, ever
        self.delivered_bytes = 0
        self._replay_to = stream.log.head
        self._is_replaying = plan.cursor < self._replay_to
        self._is_caught_up = False  # and has been told so
        self._judged = self._replay_to
        self._fold_to = 0
        self._ahead = 0  # seq of the last event that it was sent ahead
        self._skips: list[tuple[int, int]] = []  # few, and an empty deque takes 600 bytes
        self._opening = self._open(plan)

    def _open(self, plan: Plan) -> bytes:
        stream = self.stream
        subscribed = Subscribed(
            stream=stream.id,
            epoch=stream.epoch,
            floor=stream.floor,
            head=stream.log.head,
            after=plan.after,
            policy=self.policy,
            buffer=self.buffer,
            recovered=plan.recovered,
            closed=stream.end_reason is not None,
        )
        opening = self.view.frame(subscribed)
        return opening + self._frame_gap(plan.gap) if plan.gap else opening

    @property
    def is_replaying(self) -> bool:
        """Whether it still reads events that were there when it subscribed; policies leave these alone."""
        return self._is_replaying

    @property
    def lag(self) -> int:
        """Events this consumer is behind."""
        return self.stream.log.head - self.cursor

    @property
    def is_full(self) -> bool:
        """Whether its buffer is full, by events or by bytes: producers wait for it if its policy is `block`."""
        log = self.stream.log
        return not self._is_replaying and (
            self.lag >= self.buffer or log.size(self.cursor, log.head) >= self.buffer_bytes
        )

    @property
    def is_live(self) -> bool:
        """Whether it is at the head and only waits for the next event."""
        return self._is_caught_up and not self.lag and not self.ended

    def take(self, size: int = CHUNK) -> bytes | None:  # noqa: PLR0911 - one for each thing to send
        """Return the next bytes for this consumer, in whole frames.

        Args:
            size: the most bytes, about; at least one frame is returned.

        Returns:
            Empty if it has to wait for an event, or for a page of stored ones. None if its filter let none of many
            events through: call again, after others had their turn.
        """
        if self._opening:
            opening, self._opening = self._opening, b""
            return opening
        left_out = 0
        while True:
            log = self.stream.log
            head = log.head
            start = self.cursor
            if start < log.floor - 1:
                start = self.stream.readable_after(start, folded=self.policy is Policy.COALESCE)
                if start > self.cursor:
                    return self._evicted(start)
            upto = head if self._is_caught_up else self._replay_to
            if self.cursor < upto:
                batch = self._read(upto, size)
                if batch is None:
                    return b""
                self._move_to(batch.last)
                self._count(batch)
                if batch.data:
                    return batch.data if self.urgent is None else self.take_ahead() + batch.data
                left_out += batch.last - start
                if left_out >= READ_EVENTS:
                    return None
            elif not self._is_caught_up:
                self._is_caught_up = True
                self._end_replay(head)
                return self.view.frame(CaughtUp(seq=self.cursor))
            else:
                return self._end()

    def take_ahead(self) -> bytes:
        """Return copies of urgent events that have to wait behind others; empty if there are none.

        A consumer is sent each of them ahead once, and not the one that is its next event anyway.
        """
        cursor = self.cursor
        if self.urgent is None or self._opening or self.stream.log.head <= cursor + 1:
            return b""
        copies, seqs = self.view.ahead(self.stream.log.find_urgent(self.urgent, max(cursor + 1, self._ahead)))
        if seqs:
            self._ahead = seqs[-1]
            self.stream.log.ledger.urgent += len(seqs)
        return copies

    def judge(self) -> bool:
        """Apply the policy to the backlog of a consumer that could not take events.

        Returns:
            False when the policy is to disconnect it.
        """
        head = self.stream.log.head
        if self.is_replaying or head == self._judged:
            return True
        decision = decide(self.policy, self._measure_lag(head))
        self._judged = head
        match decision.action:
            case PolicyAction.FOLD:
                self._fold_to = head
            case PolicyAction.SKIP:
                self._skip(decision)
            case PolicyAction.DISCONNECT:
                return False
            case PolicyAction.SEND:
                pass
        return True

    def _measure_lag(self, head: int) -> Lag:
        log = self.stream.log
        skips = [(max(first - 1, self.cursor), last) for first, last in self._skips if last > self.cursor]
        skipped_bytes = sum(log.size(after, last) for after, last in skips)
        judged = max(self._judged, self.cursor)
        held = max(self.cursor, log.floor - 1)
        return Lag(
            cursor=self.cursor,
            head=head,
            judged=judged,
            waiting=judged - self.cursor - sum(last - after for after, last in skips),
            buffer=self.buffer,
            fits_newest=log.newest_within(self.buffer_bytes),
            fits_oldest=log.furthest_within(held, self.buffer_bytes + skipped_bytes) if held < head else head,
        )

    def _skip(self, decision: Decision) -> None:
        first = decision.first
        if self.policy is Policy.DROP_OLDEST:
            self._skips.clear()  # the new range begins where the old one did
        elif self._skips and self._skips[-1][1] == first - 1:  # joined: no more ranges than kept stretches
            first = self._skips.pop()[0]
        self._skips.append((first, decision.last))

    def _end_replay(self, head: int) -> None:
        if self._is_replaying:
            self._is_replaying = False
            self._judged = head  # the backlog of the replay does not count against it
            self.stream.blocking.progressed()

    def _evicted(self, upto: int) -> bytes:
        gap = Gap(first=self.cursor + 1, seq=upto, reason="evicted")
        self.stream.counters.evicted += upto - self.cursor
        self._move_to(upto)
        return self._frame_gap(gap)

    def _frame_gap(self, gap: Gap) -> bytes:
        self.stream.log.ledger.gaps[gap.reason] += 1
        return self.view.frame(gap)

    def _move_to(self, cursor: int) -> None:
        self.cursor = cursor
        if self.policy is Policy.BLOCK:
            self.stream.blocking.progressed()

    def _read(self, upto: int, size: int) -> Batch | None:
        """Read up to a seq; None if a page of stored events has to be fetched before."""
        view = self.view
        if self.cursor + 1 < view.log.floor:
            if not self.stream.is_stored(self.cursor + 1):
                return view.saved(self.cursor, size)
            page = self.stream.page_with(self.cursor + 1)
            if page is None:
                return None
            view = View(page, view.codec, view.wanted)
            upto = min(upto, page.head)
        while self._skips and self._skips[0][1] <= self.cursor:
            del self._skips[0]
        if self._skips:
            first, last = self._skips[0]
            if first <= self.cursor + 1:
                return view.skipping(self.cursor, min(last, upto), size)
            upto = min(upto, first - 1)
        if self._wants_folding:
            return view.folded(self.cursor, upto, size)
        return view.raw(self.cursor, upto, size)

    def count_delivered(self, events: int, size: int) -> None:
        """Count events handed to this consumer, and their bytes."""
        self.delivered += events
        self.delivered_bytes += size

    def _count(self, batch: Batch) -> None:
        self.count_delivered(batch.events, len(batch.data))
        ledger = self.stream.log.ledger
        ledger.delivered += batch.events
        ledger.delivered_bytes += len(batch.data)
        if batch.folded:
            self.stream.counters.folded += batch.folded
            ledger.folded += batch.folded
        if batch.gaps:
            self.stream.counters.dropped += batch.dropped
            ledger.dropped += batch.dropped
            ledger.gaps["dropped"] += batch.gaps

    @property
    def _wants_folding(self) -> bool:
        if self.policy is not Policy.COALESCE:
            return False
        return not self._is_caught_up or self.interval > 0 or self.cursor < self._fold_to

    def _end(self) -> bytes:
        if self.ended or self.stream.end_reason is None:
            return b""
        self.ended = True
        return self.view.frame(StreamEnd(seq=self.cursor, reason=self.stream.end_reason))
