"""The dashboard and the alerts ask for metrics and labels that the gateway has, and the dashboard for all of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, ProcessCollector

from deltawire.gateway.metrics.catalogue import METRICS

DEPLOY = Path(__file__).parent.parent / "scripts" / "deploy"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana-dashboard.json").read_text(encoding="utf-8"))
ALERTS = (DEPLOY / "alerts.yml").read_text(encoding="utf-8")
TARGET_LABELS = {"instance", "job"}
"""Given by Prometheus to whatever it scrapes."""

FUNCTIONS = {"histogram_quantile"}
"""Names with an underscore that are no series."""


def _labels_by_series() -> dict[str, set[str]]:
    labels: dict[str, set[str]] = {}
    for metric in METRICS:
        suffixes = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        for suffix in suffixes:
            labels[metric.name + suffix] = {*metric.labels, *(("le",) if suffix == "_bucket" else ())}
    process = CollectorRegistry()
    ProcessCollector(registry=process)
    return labels | {sample.name: set() for family in process.collect() for sample in family.samples}


LABELS = _labels_by_series()


def panels() -> Iterator[dict[str, Any]]:
    return (panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


def dashboard_expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def alert_expressions() -> list[str]:
    return re.findall(r"^        expr: (.+)$", ALERTS, re.MULTILINE)


def check(expression: str) -> set[str]:
    """The series an expression asks for, each of which exists with the labels that are asked for beside it."""
    bare = re.sub(r'"[^"]*"|\[[^\]]*\]', " ", expression)
    names = set(re.findall(r"\b[a-z]+_[a-z_]+\b", bare)) - FUNCTIONS
    labels = {
        label for group in re.findall(r"(?:by|ignoring|on) \(([^)]*)\)", bare) for label in re.split(r"\W+", group)
    }
    labels |= set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", " ".join(re.findall(r"\{([^}]*)\}", bare))))
    assert names, f"no metric in {expression}"
    assert names <= set(LABELS), f"{names - set(LABELS)} in {expression}"
    known = set().union(*(LABELS[name] for name in names)) | TARGET_LABELS
    assert labels <= known, f"labels {labels - known} in {expression}"
    assert bare.count("(") == bare.count(")"), expression
    for name in names:
        is_counter = name.endswith(("_total", "_bucket"))
        assert not is_counter or re.search(rf"(rate|increase)\({name}\b", bare), f"{name} without rate in {expression}"
    return names


@pytest.mark.parametrize("expression", dashboard_expressions())
def test_an_expression_of_the_dashboard_asks_for_what_there_is(expression: str) -> None:
    check(expression)
    assert 'instance=~"$instance"' in expression


@pytest.mark.parametrize("expression", alert_expressions())
def test_an_expression_of_an_alert_asks_for_what_there_is(expression: str) -> None:
    check(expression)


def test_every_metric_is_on_the_dashboard() -> None:
    shown = set().union(*map(check, dashboard_expressions()))
    assert {metric.name for metric in METRICS} == {
        name.removesuffix("_bucket") for name in shown if name.startswith("deltawire_")
    }


def test_legends_name_labels_their_expression_keeps() -> None:
    for target in (target for panel in panels() for target in panel["targets"]):
        kept = {label for group in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in group.split(", ")}
        kept |= set() if "sum" in target["expr"] or "max" in target["expr"] else TARGET_LABELS
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= kept, target


def test_the_dashboard_has_what_grafana_asks_of_one() -> None:
    assert {"title", "uid", "schemaVersion", "panels", "templating", "time"} <= set(DASHBOARD)
    identifiers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(identifiers)) == len(identifiers)
    for panel in panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert [target["refId"] for target in panel["targets"]] == list("ABCDEF"[: len(panel["targets"])])


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_alert_says_what_it_means_and_how_urgent_it_is() -> None:
    names = re.findall(r"^      - alert: (Deltawire[A-Za-z]+)$", ALERTS, re.MULTILINE)
    assert len(names) == len(set(names)) == len(alert_expressions())
    assert len(re.findall(r"^        labels: {severity: (?:page|ticket)}$", ALERTS, re.MULTILINE)) == len(names)
    assert len(re.findall(r"^          summary: .+\.$", ALERTS, re.MULTILINE)) == len(names)


@pytest.mark.parametrize(
    "expression",
    [
        "rate(deltawire_event_total[5m])",
        'deltawire_consumers{stat="live"}',
        "sum by (stream) (deltawire_consumers)",
        "deltawire_events_total",
        "1 + 1",
    ],
)
def test_an_expression_that_asks_for_what_is_not_there_is_found(expression: str) -> None:
    with pytest.raises(AssertionError):
        check(expression)
