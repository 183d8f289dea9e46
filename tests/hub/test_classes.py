"""Classes of streams: who is served first in a turn, and that nobody starves (SPEC §10.2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltawire.gateway.config import ConfigError, Settings
from deltawire.gateway.configuring import make_settings
from deltawire.gateway.hub import Hub, flushing
from deltawire.gateway.hub.channel import Channel
from deltawire.gateway.hub.fair_queue import STEP_SLICE, FairQueue
from deltawire.gateway.hub.presence import NORMAL, YIELDED, Presence
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.events import TextDelta
from deltawire.protocol.priority import RANKS, StreamClass, parse_classes
from tests.hub.test_fair_queue import Clock
from tests.hub.test_fanout import Reader
from tests.support.waiting import turn

HIGH, LOW = RANKS[StreamClass.HIGH], RANKS[StreamClass.LOW]


class Turnstile:
    """A fair queue whose steps take as long as is said, and what was done in each turn."""

    def __init__(self, presence: Presence) -> None:
        self.turns: list[Callable[[], None]] = []
        self.clock = Clock()
        self.queue = FairQueue(self.turns.append, self.clock, presence)
        self.done: list[list[str]] = []

    def add(self, name: str, rank: int, share: float) -> None:
        self.queue.enter(partial(self._step, name, share * STEP_SLICE), rank)

    def _step(self, name: str, seconds: float) -> None:
        self.clock.now += seconds
        self.done[-1].append(name)

    def run(self) -> None:
        while self.turns:
            self.done.append([])
            self.turns.pop()()


def crowded(*ranks: int) -> Presence:
    presence = Presence()
    for rank in ranks:
        presence.add(rank)
    return presence


def test_in_a_turn_the_urgent_go_first_and_each_class_gets_on() -> None:
    it = Turnstile(crowded(HIGH, NORMAL, LOW))
    for number in range(3):
        it.add(f"low {number}", LOW, 0.3)
        it.add(f"normal {number}", NORMAL, 0.1)
        it.add(f"high {number}", HIGH, 0.3)
    it.run()
    assert it.done == [
        ["high 0", "high 1", "high 2", "normal 0", "normal 1", "low 0"],
        ["normal 2", "low 1"],
        ["low 2"],
    ]


def test_more_urgent_work_than_a_turn_takes_does_not_keep_others_from_their_share() -> None:
    it = Turnstile(crowded(HIGH, LOW))
    for number in range(9):
        it.add(f"high {number}", HIGH, 0.6)
        it.add(f"low {number}", LOW, 0.6)
    it.run()
    assert it.done[:2] == [["high 0", "high 1", "low 0"], ["high 2", "high 3", "low 1"]]
    assert sum(map(len, it.done)) == 18


def test_where_all_are_of_one_class_it_has_the_whole_slice() -> None:
    for rank in RANKS.values():
        it = Turnstile(crowded(rank))
        for number in range(8):
            it.add(str(number), rank, 0.3)
        it.run()
        assert [len(done) for done in it.done] == [4, 4]


@pytest.mark.parametrize(
    ("present", "shares"),
    [
        ((), (1.0, 1.0, 1 / YIELDED)),
        ((NORMAL,), (1.0, 1.0, 1 / YIELDED)),
        ((LOW,), (1.0, 1.0, 1.0)),
        ((NORMAL, LOW), (1.0, 1.0, 1 / YIELDED)),
        ((HIGH,), (1.0, 1 / YIELDED, 1 / YIELDED)),
        ((HIGH, NORMAL, LOW), (1.0, 1 / YIELDED, 1 / YIELDED)),
    ],
)
def test_a_class_yields_only_while_a_more_urgent_one_is_in_use(
    present: tuple[int, ...], shares: tuple[float, ...]
) -> None:
    presence = crowded(*present)
    assert tuple(presence.share(rank, 1.0) for rank in RANKS.values()) == shares
    for rank in present:
        presence.add(rank, -1)
    assert presence.top == NORMAL


@given(st.lists(st.tuples(st.sampled_from([HIGH, NORMAL, LOW]), st.floats(0.01, 2.0)), max_size=60))
def test_every_step_is_done_once_in_the_order_of_its_class_and_every_turn_serves_each_that_waits(
    steps: list[tuple[int, float]],
) -> None:
    it = Turnstile(crowded(HIGH, NORMAL, LOW))
    for number, (rank, share) in enumerate(steps):
        it.add(f"{rank} {number}", rank, share)
    left = Counter(str(rank) for rank, _ in steps)
    it.run()
    for done in it.done:
        served = [name.split()[0] for name in done]
        assert served == sorted(served), "the most urgent first"
        assert set(served) == set(left), "each class that waits"
        left = left - Counter(served)
    assert not left
    for rank in (HIGH, NORMAL, LOW):
        numbers = [int(name.split()[1]) for done in it.done for name in done if name.startswith(f"{rank} ")]
        assert numbers == sorted(numbers)


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    async with Hub(Settings(stream_classes="high-*=high,low-*=low")) as it:
        yield it


async def test_a_flush_serves_the_urgent_first_and_one_of_each_class_if_there_is_no_time_for_more(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flushing, "FLUSH_SLICE", 0.0)
    order: list[str] = []

    class Noting(Reader):
        def __init__(self, channel: Channel) -> None:
            super().__init__(channel)
            self.name = channel.stream.id

        def write(self, data: bytes) -> None:
            if b"text_delta" in data:
                order.append(self.name)

    names = ["low-1", "normal-1", "low-2", "high-1", "normal-2", "high-2"]
    channels = []
    for name in names:
        channel = hub.dispatcher.attach(hub.manager.create(name, hub.now()), Holding())
        Noting(channel).pump()
        channels.append(channel)
    for channel in channels:
        hub.dispatcher.publish(channel, TextDelta("x"))
    await turn(1)
    await turn(5)
    assert order == ["high-1", "normal-1", "low-1", "high-2", "normal-2", "low-2"]


class Holding:
    """Somebody who uses a stream."""

    def end(self, code: ProblemCode, message: str) -> None:
        del code
        raise AssertionError(message)


async def test_a_class_that_a_token_gives_lasts_until_nobody_uses_the_stream(hub: Hub) -> None:
    stream, holder = hub.manager.create("low-1", hub.now()), Holding()
    channel = hub.dispatcher.attach(stream, holder)
    assert hub.dispatcher.presence.top == LOW
    hub.dispatcher.classify(channel, StreamClass.HIGH)
    assert hub.dispatcher.presence.top == HIGH
    hub.dispatcher.detach(channel, holder)
    hub.dispatcher.detach(channel, holder)
    assert hub.dispatcher.presence.top == NORMAL
    await turn(3)
    assert hub.dispatcher.attach(stream, holder).rank == LOW


def test_the_first_entry_that_matches_counts() -> None:
    classes = parse_classes(" a=low , a*=high,*=low,b=high")
    assert [classes.of(name) for name in ("a", "ab", "b")] == ["low", "high", "low"]
    assert parse_classes("").of("a") == "normal"
    assert parse_classes("chat-*=high").of("chat") == "normal"


@pytest.mark.parametrize("text", ["a", "=high", "a=fast", "a*b=low", "a=HIGH", "a=high;b=low"])
def test_a_setting_that_says_no_class_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(ConfigError, match="stream_classes: expected STREAM=CLASS or PREFIX"):
        make_settings({"stream_classes": text})
