"""The middleware of one stream: what becomes of each event before it is numbered (SPEC §7.8). Pure.

    event ──► stage ──► stage ──► all that became of it known? ──► yes ──► appended ──► acked
                                            │ no
                                            ▼
                                          waits: at most `max_delay`, or until its text ends

Invariants:
1. Events are appended in the order in which they came, and all that became of one together: after a crash, a producer
   that sends an event again has none of it doubled.
2. An event counts as accepted when all that became of it is appended; one that was dropped, in its turn.
3. What goes through costs nothing per consumer: it happens once, before an event has a number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final, Protocol

from msgspec import Struct

from deltawire.gateway.middleware.stage import FunctionStage, Item, Plan, Stage
from deltawire.gateway.streams.producers import Writer
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import WireError
from deltawire.protocol.events import Data, EventType

SCREEN_COST: Final = 1024
"""Bytes that the middleware of a stream costs (CPython 3.11)."""

STAGE_COST: Final = 512
"""Bytes that each of its stages costs, beside what that holds."""


class Watcher(Protocol):
    """Hears what happens in the middleware of a stream."""

    def released(self, stream: Stream, writer: Writer, seq: int, why: str) -> None:
        """The oldest event of a writer that was held back counts as accepted, and is `seq` or before.

        If a stage has failed on it since, nothing of it is appended, and `why` is not empty.
        """

    def failed(self, stream: Stream, plan: Plan, error: Exception) -> None:
        """A stage has failed on an event."""

    def dropped(self) -> None:
        """Nothing has become of an event."""


class _Origin(Struct, frozen=True):
    """An event that a producer sent, and that is not appended yet."""

    number: int
    timestamp: str
    came_at: float
    writer: Writer | None
    is_urgent: bool


class Screen:
    """The middleware of one stream.

    Args:
        stream: where events are appended.
        plans: its stages, in order.
        max_delay: seconds that an event may be held back.
        watcher: hears what happens.
    """

    __slots__ = (
        "_counted",
        "_failed",
        "_fixed",
        "_number",
        "_origins",
        "_places",
        "_plans",
        "_ready",
        "_stages",
        "_stream",
        "_watcher",
        "max_delay",
    )

    def __init__(self, stream: Stream, plans: Sequence[Plan], max_delay: float, watcher: Watcher) -> None:
        self.max_delay = max_delay
        self._stream = stream
        self._plans = tuple(plans)
        self._stages = [plan.open(stream.id) for plan in plans]
        self._places = _places_of(self._plans)
        self._watcher = watcher
        self._number = 0  # of the last event that came
        self._origins: deque[_Origin] = deque()  # of what waits
        self._ready: deque[Item] = deque()  # has left the last stage, but not all that became of its event has
        self._fixed = SCREEN_COST + len(self._stages) * STAGE_COST
        self._counted = 0  # beside that
        self._failed: dict[int, Plan] = {}  # stages that did, by the event, of which stages may hold more

    @property
    def bytes(self) -> int:
        """What it holds costs."""
        return self._fixed + self._counted

    @property
    def due_at(self) -> float | None:
        """Monotonic seconds at which `let_out` has to be called; None if nothing waits."""
        return self._origins[0].came_at + self.max_delay if self._origins else None

    def take(
        self, data: Data, timestamp: str, now: float, writer: Writer | None, *, is_urgent: bool = False
    ) -> int | None:
        """Take an event, and append what becomes of it, and of those before it, as far as that is known.

        Args:
            data: of the event.
            timestamp: RFC 3339 with a zone, of all that becomes of it.
            now: monotonic seconds.
            writer: of the connection it came from, if it came from one.
            is_urgent: whether its producer marked it as urgent, and thereby all that becomes of it.

        Returns:
            The seq of the last event that it became, or of the stream's last one if nothing became of it; None while
            it waits. The watcher then hears of it.

        Raises:
            WireError: `invalid_event`, a stage has failed on it.
            StreamError: closed.
        """
        self._number = number = self._number + 1
        item = (number, data)
        items: Sequence[Item] | None = None
        place = 0
        try:
            for place in self._places[data.type]:
                items = self._stages[place].take(item)
                if items is not None:
                    break
        except Exception as error:  # noqa: BLE001 - a stage may raise anything
            items = self._fail(place, item, error)
        if items is None:  # nearly always: no stage has changed it, and none holds anything
            return self._stream.append(data, timestamp, now, writer, is_urgent)
        self._keep(self._run(items, place + 1, len(self._stages)))
        refused_by = self._failed.get(number)
        if refused_by is None:
            self._origins.append(_Origin(number, timestamp, now, writer, is_urgent))
        seq = self._settle(now, number)
        self._count()
        if refused_by is not None:
            raise _refusal(refused_by)
        return seq

    @property
    def is_working(self) -> bool:
        """Whether a stage has more to do with what came than one turn of the loop allows: `work` has to be called."""
        return any(stage.is_working for stage in self._stages)

    def work(self, now: float) -> None:
        """Do some of that, and append what is decided then."""
        self._ask(now, lambda stage: stage.work())

    def let_out(self, now: float) -> None:
        """Append what waits, as it may not wait any longer; the texts go on."""
        self._ask(now, lambda stage: stage.let_out())

    def finish(self, now: float) -> None:
        """Append what waits, as all texts end here."""
        self._ask(now, lambda stage: stage.finish())

    def _ask(self, now: float, act: Callable[[Stage], Sequence[Item]]) -> None:
        if not self._origins and not self.is_working:
            return
        items: list[Item] = []
        for place, stage in enumerate(self._stages):
            try:
                items += act(stage)
            except Exception as error:  # noqa: BLE001 - a stage may raise anything
                self._watcher.failed(self._stream, self._plans[place], error)
                self._lose(place)
            if place + 1 < len(self._stages):
                items = [*self._run(items, place + 1, place + 2)]
        self._keep(items)
        self._settle(now, 0)
        self._count()

    def _run(self, items: Iterable[Item], first: int, last: int) -> Iterable[Item]:
        """Pass events through stages.

        Args:
            items: the events.
            first: index of the first stage.
            last: index of the stage before which to stop.

        Returns:
            What becomes of them.
        """
        for place in range(first, last):
            items = [it for item in items for it in self._pass(place, item)]
        return items

    def _pass(self, place: int, item: Item) -> Sequence[Item]:
        """Pass an event through a stage, but nothing of one on which a stage has failed."""
        if item[0] in self._failed:
            return ()
        stage, plan = self._stages[place], self._plans[place]
        try:
            items = stage.take(item) if item[1].type in plan.types else None
        except Exception as error:  # noqa: BLE001 - a stage may raise anything
            items = self._fail(place, item, error)
        return (item,) if items is None else items

    def _fail(self, place: int, item: Item, error: Exception) -> Sequence[Item]:
        """Let a stage that has failed on an event begin anew; return what goes on: what it held, if that can be had."""
        stage, plan = self._stages[place], self._plans[place]
        self._watcher.failed(self._stream, plan, error)
        try:
            held = stage.let_out()
        except Exception:  # noqa: BLE001 - that it fails is known
            held = ()
        self._replace(place)
        if plan.on_error == "pass":
            return [*held, item]
        if plan.on_error == "refuse":
            self._failed[item[0]] = plan
        return held

    def _lose(self, place: int) -> None:
        """Begin a stage anew that has lost what it held; who sent that is told."""
        stage, plan = self._stages[place], self._plans[place]
        if (oldest := stage.oldest) is not None:
            self._failed |= {origin.number: plan for origin in self._origins if origin.number >= oldest}
        self._replace(place)

    def _replace(self, place: int) -> None:
        """Begin a stage anew, unless it is a function: that has done nothing with the event, and keeps its state."""
        stage, plan = self._stages[place], self._plans[place]
        if not isinstance(stage, FunctionStage):
            self._stages[place] = plan.open(self._stream.id)

    def _keep(self, items: Iterable[Item]) -> None:
        """Keep what has left the last stage, but nothing of an event on which a stage has failed."""
        if self._failed:
            items = [it for it in items if it[0] not in self._failed]
        self._ready.extend(items)

    def _settle(self, now: float, current: int) -> int | None:
        """Append what becomes of the events that no stage holds anything of any more; return the seq of the current."""
        before = self._number + 1
        for stage in self._stages:
            oldest = stage.oldest
            if oldest is not None and oldest < before:
                before = oldest
        origins, ready = self._origins, self._ready
        result: int | None = None
        while origins and origins[0].number < before:
            origin = origins.popleft()
            number, writer = origin.number, origin.writer
            items: list[Item] = []
            while ready and ready[0][0] <= number:
                item = ready.popleft()
                if item[0] not in self._failed:
                    items.append(item)
            seq = self._append(items, origin, now)
            if number == current:
                result = seq
            elif writer is not None:
                plan = self._failed.get(number)
                self._watcher.released(self._stream, writer, seq, "" if plan is None else _explain_drop(plan))
        if self._failed:
            self._failed = {number: plan for number, plan in self._failed.items() if number >= before}
        return result

    def _append(self, items: Sequence[Item], origin: _Origin, now: float) -> int:
        stream = self._stream
        if not items:
            self._watcher.dropped()
            stream.pass_over(origin.writer)
            return stream.head
        seq = 0
        for _, data in items:
            seq = stream.append(data, origin.timestamp, now, origin.writer, origin.is_urgent)
        return seq

    def _count(self) -> None:
        counted = 0
        for stage in self._stages:  # a generator takes twice as long
            counted += stage.bytes
        if counted != self._counted:
            self._counted = counted
            self._stream.recount()


@lru_cache
def _places_of(plans: tuple[Plan, ...]) -> dict[EventType, list[int]]:
    """The stages that take events of each type."""
    return {it: [place for place, plan in enumerate(plans) if it in plan.types] for it in EventType}


def _explain_drop(plan: Plan) -> str:
    return (
        f"the middleware's stage `{plan.name}` failed on this event after it had been held back, so it is dropped: do "
        "not send it again"
    )


def _refusal(plan: Plan) -> WireError:
    return WireError(
        ProblemCode.INVALID_EVENT, f"the middleware's stage `{plan.name}` failed on this event, so it is refused"
    )
