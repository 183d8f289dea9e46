"""Ratios between systems and between revisions: pure."""

from __future__ import annotations

import pytest

from scripts.bench.compare import checked_out, compare
from scripts.bench.figures import Spread, spread
from scripts.bench.report import rows, show, title_of
from scripts.bench.scenarios import SCENARIOS
from scripts.bench.targets import TARGETS, Target, judge


def figures(**values: float) -> dict[str, Spread]:
    return {name: spread([value]) for name, value in values.items()}


@pytest.mark.parametrize(("mine", "is_reached"), [(9.0, True), (9.1, False)])
def test_a_target_is_a_ratio_to_another_system(mine: float, *, is_reached: bool) -> None:
    systems = {"deltawire": figures(cpu_us=mine), "NATS": figures(cpu_us=10.0)}
    verdict = judge(Target("A", "cpu_us", 0.9, "NATS"), systems)
    assert verdict.is_reached is is_reached
    assert verdict.ratio == pytest.approx(mine / 9)


def test_a_target_may_be_a_number() -> None:
    systems = {"deltawire": figures(events_per_s=600_000)}
    assert judge(Target("I", "events_per_s", 500_000, sense="≥"), systems).is_reached
    assert judge(Target("I", "events_per_s", 700_000, sense="≥"), systems).is_reached is False


def test_a_target_may_be_what_another_system_takes_and_so_much_more() -> None:
    systems = {"deltawire always": figures(p50_ms=1.5), "deltawire": figures(p50_ms=1.0), "disk": figures(p50_ms=0.2)}
    target = Target("L", "p50_ms", 2, "disk", system="deltawire always", over="deltawire")
    verdict = judge(target, systems)
    assert verdict.limit == pytest.approx(1.4)
    assert verdict.is_reached is False
    del systems["deltawire"]
    assert judge(target, systems).is_reached is None


def test_the_best_peer_is_one_that_lost_nothing() -> None:
    systems = {
        "deltawire": figures(p99_ms=5.0),
        "floor (send)": figures(p99_ms=0.1),
        "Nchan": figures(p99_ms=1.0, lost=50, delivered=50),
        "NATS": figures(p99_ms=10.0, lost=0, delivered=100),
    }
    assert judge(Target("A", "p99_ms", 0.7, "best"), systems).limit == pytest.approx(7)


def test_nothing_is_said_of_what_was_not_measured() -> None:
    assert judge(Target("A", "cpu_us", 1, "NATS"), {"deltawire": figures(cpu_us=1.0)}).is_reached is None
    assert judge(Target("A", "cpu_us", 1), {}).is_reached is None


def test_every_target_is_about_a_figure_in_a_table() -> None:
    hidden = {"unacked"}
    for target in TARGETS:
        assert target.metric in {*SCENARIOS[target.scenario].metrics, *hidden}


def test_rounds_are_compared_one_by_one() -> None:
    runs = [{"cpu_us": value} for value in (2.2, 4.4, 6.6)]
    base = [{"cpu_us": value} for value in (2.0, 4.0, 6.0)]
    (ratio,) = compare(runs, base, ["cpu_us"])
    assert ratio.ratio == pytest.approx(1.1)
    assert ratio.noise == pytest.approx(0)


@pytest.mark.parametrize(
    ("values", "is_worse"),
    [((1.12, 1.11, 1.12), True), ((1.09, 1.09, 1.09), False), ((1.1, 1.2, 1.4), False), ((0.5, 0.5, 0.5), False)],
)
def test_worse_is_what_noise_and_a_tenth_do_not_explain(values: tuple[float, ...], *, is_worse: bool) -> None:
    (ratio,) = compare([{"p99_ms": value} for value in values], [{"p99_ms": 1.0}] * 3, ["p99_ms"])
    assert ratio.is_worse is is_worse


def test_fewer_a_second_is_worse() -> None:
    (ratio,) = compare([{"events_per_s": 50.0}] * 3, [{"events_per_s": 100.0}] * 3, ["events_per_s"])
    assert ratio.is_worse
    assert ratio.ratio == 2


def test_a_first_loss_is_worse_and_none_is_as_good_as_none() -> None:
    (ratio,) = compare([{"lost": 1.0}] * 3, [{"lost": 0.0}] * 3, ["lost"])
    assert ratio.is_worse
    (ratio,) = compare([{"lost": 0.0}] * 3, [{"lost": 0.0}] * 3, ["lost"])
    assert not ratio.is_worse


def test_how_busy_the_machine_was_is_not_judged() -> None:
    assert compare([{"disturbed": 1.0}], [{"disturbed": 0.1}], ["disturbed"]) == []


def test_an_unknown_revision_is_an_error() -> None:
    with pytest.raises(OSError, match="no-such-revision"), checked_out("no-such-revision"):
        pass


def test_a_figure_is_shown_with_its_range() -> None:
    assert show("cpu_us", Spread(2.0, 1.5, 2.5)) == "2.00 (1.50–2.50)"
    assert show("delivered_per_s", Spread(100_000, 100_000, 100_000)) == "100,000"
    assert show("server_busy", Spread(0.5, 0.4, 0.6)) == "50"
    assert title_of("block.p99_ratio") == "block p99 ratio"


def test_a_table_has_a_row_for_each_variant() -> None:
    systems = {"deltawire": {"block.p99_ratio": spread([1.5])}}
    table = rows(systems, SCENARIOS["H"])
    assert [row[0] for row in table[1:]] == [f"deltawire {policy}" for policy in SCENARIOS["H"].variants]
    assert table[2][3] == "1.50"
