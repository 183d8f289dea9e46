"""Where a subscription starts, as a table."""

from __future__ import annotations

import pytest

from deltawire.gateway.streams.cursor import Fork, LogState, Plan, is_unknown, plan_subscription
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import WireError
from deltawire.protocol.messages import Gap, GapReason
from deltawire.protocol.position import Position
from tests.support.reading import ask


def held(floor: int, head: int) -> LogState:
    """A log that holds `floor … head`."""
    return LogState("e2", head, lambda cursor: max(cursor, floor - 1))


WHOLE = held(1, 10)
TRIMMED = held(6, 10)
EMPTY = held(1, 0)
ALL_TRIMMED = held(11, 10)


def gap(first: int, seq: int, reason: GapReason = "evicted") -> Gap:
    return Gap(first=first, seq=seq, reason=reason)


@pytest.mark.parametrize(
    ("query", "log", "plan"),
    [
        ("", WHOLE, Plan(0, 0, None, recovered=False)),
        ("from=start", TRIMMED, Plan(0, 5, gap(1, 5), recovered=False)),
        ("from=start", EMPTY, Plan(0, 0, None, recovered=False)),
        ("from=start", ALL_TRIMMED, Plan(0, 10, gap(1, 10), recovered=False)),
        ("from=now", WHOLE, Plan(10, 10, None, recovered=False)),
        ("from=now", TRIMMED, Plan(10, 10, None, recovered=False)),
        ("from=now", ALL_TRIMMED, Plan(10, 10, None, recovered=False)),
        ("from=now", EMPTY, Plan(0, 0, None, recovered=False)),
        ("after=0", WHOLE, Plan(0, 0, None, recovered=True)),
        ("after=7&epoch=e2", WHOLE, Plan(7, 7, None, recovered=True)),
        ("after=7", WHOLE, Plan(7, 7, None, recovered=True)),
        ("after=10", WHOLE, Plan(10, 10, None, recovered=True)),
        ("after=5", TRIMMED, Plan(5, 5, None, recovered=True)),
        ("after=4", TRIMMED, Plan(4, 5, gap(5, 5), recovered=False)),
        ("after=0", TRIMMED, Plan(0, 5, gap(1, 5), recovered=False)),
        ("after=10", ALL_TRIMMED, Plan(10, 10, None, recovered=True)),
        ("after=9", ALL_TRIMMED, Plan(9, 10, gap(10, 10), recovered=False)),
        ("after=7&epoch=e1", WHOLE, Plan(0, 0, gap(1, 0, "epoch_changed"), recovered=False)),
        ("after=99&epoch=e1", WHOLE, Plan(0, 0, gap(1, 0, "epoch_changed"), recovered=False)),
        ("after=7&epoch=e1", TRIMMED, Plan(0, 5, gap(1, 5, "epoch_changed"), recovered=False)),
        ("from=now&after=3", WHOLE, Plan(3, 3, None, recovered=True)),
    ],
)
def test_a_request_and_the_state_of_the_log_give_a_plan(query: str, log: LogState, plan: Plan) -> None:
    assert plan_subscription(ask(query), log) == plan


CONTINUED = WHOLE._replace(lineage=(Fork("e1", 7), Fork("e0", 9), Fork("lost", 0)))
"""Of `e1` it has 7 events; of these, `e0` had those up to 9, which are 7 by now."""


@pytest.mark.parametrize(
    ("query", "plan"),
    [
        ("after=5&epoch=e1", Plan(5, 5, None, recovered=True)),
        ("after=7&epoch=e1", Plan(7, 7, None, recovered=True)),
        ("after=9&epoch=e1", Plan(7, 7, gap(8, 9, "epoch_changed"), recovered=False)),
        ("after=7&epoch=e0", Plan(7, 7, None, recovered=True)),
        ("after=8&epoch=e0", Plan(7, 7, gap(8, 8, "epoch_changed"), recovered=False)),
        ("after=1&epoch=lost", Plan(0, 0, gap(1, 0, "epoch_changed"), recovered=False)),
        ("after=1&epoch=other", Plan(0, 0, gap(1, 0, "epoch_changed"), recovered=False)),
    ],
)
def test_a_position_in_an_epoch_that_this_one_continues_is_one_in_this_one_as_far_as_it_goes(
    query: str, plan: Plan
) -> None:
    assert plan_subscription(ask(query), CONTINUED) == plan


@pytest.mark.parametrize(
    ("position", "unknown"),
    [
        (Position("e2", 10), False),
        (Position("", 10), False),
        (Position("e2", 11), True),
        (Position("e1", 99), False),
        (Position("e3", 1), True),
    ],
)
def test_only_a_later_state_of_the_log_may_have_given_an_unknown_position(position: Position, *, unknown: bool) -> None:
    assert is_unknown(position, CONTINUED.epoch, CONTINUED.head, CONTINUED.lineage) is unknown


@pytest.mark.parametrize("query", ["after=11", "after=11&epoch=e2", "after=9007199254740991"])
def test_a_position_beyond_the_head_is_refused_with_the_head_and_the_epoch(query: str) -> None:
    with pytest.raises(WireError) as refusal:
        plan_subscription(ask(query), WHOLE)
    assert refusal.value.code is ProblemCode.POSITION_AHEAD
    assert "'after'" in refusal.value.message
    assert "10, of epoch 'e2'" in refusal.value.message


def test_invariant_5_a_plan_reads_from_what_is_held_and_names_the_rest() -> None:
    for floor in range(1, 12):
        log = held(floor, 10)
        for query in ["from=start", "from=now", "after=3&epoch=e1", *(f"after={seq}" for seq in range(11))]:
            plan = plan_subscription(ask(query), log)
            assert floor - 1 <= plan.cursor <= 10
            missing = list(range(plan.after + 1, plan.cursor + 1))
            assert missing == (list(range(plan.gap.first, plan.gap.seq + 1)) if plan.gap else [])
