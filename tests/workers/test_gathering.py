"""Responses made of those of all workers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from websockets.http11 import Response

from deltawire.gateway.server.http.pages import merge_pages
from deltawire.gateway.server.http.target import parse_target
from deltawire.gateway.workers.gathering import (
    SILENT,
    Answer,
    gather,
    label,
    merge_metrics,
    speaks_for_all,
)

OK = Answer(200, b'{"status":"ok"}\n')
PROBLEM = Answer(503, b'{"title":"Service Unavailable","status":503,"detail":"memory_limit is reached"}\n')


def page(*ids: str) -> bytes:
    return json.dumps([{"id": name, "head": len(name)} for name in ids]).encode()


def body(response: Response) -> Any:
    return json.loads(response.body)


def ids(merged: bytes) -> list[str]:
    return [row["id"] for row in json.loads(merged)]


def test_pages_are_merged_by_id_by_code_point() -> None:
    assert ids(merge_pages([page("B", "a"), page("A", "_", "b")], 1000)) == ["A", "B", "_", "a", "b"]


def test_a_merged_page_has_no_more_than_its_limit() -> None:
    assert ids(merge_pages([page("b", "d"), page("a", "c")], 3)) == ["a", "b", "c"]


def test_a_row_of_a_page_stays_as_it_was() -> None:
    row = b'{"id":"a","later":[1,{"x":null}]}'
    assert merge_pages([b"[" + row + b"]", b"[]"], 10) == b"[" + row + b"]\n"


@pytest.mark.parametrize(
    ("line", "labelled"),
    [
        ("x 1.0", 'x{worker="3"} 1.0'),
        ('x_bucket{le="+Inf"} 2.0', 'x_bucket{worker="3",le="+Inf"} 2.0'),
        ('x{a="{ }"} 1e+06', 'x{worker="3",a="{ }"} 1e+06'),
    ],
)
def test_every_sample_gets_the_label(line: str, labelled: str) -> None:
    assert label(line, 3) == labelled


def test_metrics_of_workers_stand_together_under_one_head() -> None:
    head = "# HELP x_total Help\n# TYPE x_total counter\n"
    other = "# HELP y y\n# TYPE y gauge\n"
    merged = merge_metrics({0: f"{head}{other}y 1.0\n", 1: f"{head}x_total 2.0\n{other}y 3.0\n"})
    assert merged == f'{head}x_total{{worker="1"}} 2.0\n{other}y{{worker="0"}} 1.0\ny{{worker="1"}} 3.0\n'


@pytest.mark.parametrize(
    ("path", "speaks"),
    [
        ("/v1/streams", True),
        ("/v1/streams?limit=3", True),
        ("/metrics", True),
        ("/readyz", True),
        ("/healthz", True),
        ("/livez", False),
        ("/v1/schema.json", False),
        ("/v1/streams/metrics", False),
    ],
)
def test_what_speaks_for_all_is_what_is_not_about_one_stream(path: str, *, speaks: bool) -> None:
    assert speaks_for_all(parse_target(path)) is speaks


def test_all_are_ready_if_each_is() -> None:
    response = gather(parse_target("/readyz"), {0: OK, 1: OK})
    assert (response.status_code, body(response)) == (200, {"status": "ok"})


def test_one_that_is_not_ready_is_named_with_its_reason() -> None:
    response = gather(parse_target("/readyz"), {0: OK, 1: PROBLEM})
    assert (response.status_code, body(response)["detail"]) == (503, "worker 1: memory_limit is reached")


@pytest.mark.parametrize("path", ["/readyz", "/v1/streams"])
def test_one_that_does_not_answer_is_named(path: str) -> None:
    response = gather(parse_target(path), {0: Answer(200, b"[]"), 1: SILENT})
    assert response.status_code == 503
    assert body(response)["detail"] == "worker 1 does not answer: try again later"
    assert "Retry-After" in response.headers


def test_metrics_of_the_others_come_without_one_that_does_not_answer() -> None:
    response = gather(parse_target("/metrics"), {0: Answer(200, b"# HELP x x\nx 1.0\n"), 1: SILENT})
    assert bytes(response.body) == b'# HELP x x\nx{worker="0"} 1.0\n'
