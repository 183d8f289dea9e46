"""Responses that speak for all workers, made of one from each. Pure.

| request | response |
|---|---|
| `GET /v1/streams` | one page of the streams of all workers, by id |
| `GET /metrics` | the series of all workers, told apart by the label `worker` |
| `GET /readyz`, `/healthz` | 200 if every worker is ready |
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from websockets.http11 import Response

from deltawire.gateway.server.http.pages import merge_pages
from deltawire.gateway.server.http.target import Target
from deltawire.gateway.server.responses import JSON_TYPE, respond, respond_later, respond_problem
from deltawire.protocol.addresses import PREFIX, parse_list

METRICS: Final = "/metrics"
READINESS: Final = ("/readyz", "/healthz")


class Answer(NamedTuple):
    """What one worker responded.

    Attributes:
        status: of HTTP; 0 if it did not respond in time.
        body: of the response.
    """

    status: int
    body: bytes


SILENT: Final = Answer(0, b"")


class _Problem(Struct):
    detail: str = "it does not say why"


def speaks_for_all(target: Target) -> bool:
    """Whether the response to a request speaks for all workers."""
    return not target.stream_id and target.tail in (PREFIX, METRICS, *READINESS)


def gather(target: Target, answers: Mapping[int, Answer]) -> Response:
    """Make one response of those of all workers.

    Args:
        target: of the request, which this worker has answered with 200.
        answers: of each worker.
    """
    if target.tail == METRICS:
        texts = {worker: answer.body.decode() for worker, answer in answers.items() if answer.status == HTTPStatus.OK}
        return respond(HTTPStatus.OK, merge_metrics(texts).encode(), CONTENT_TYPE_PLAIN_0_0_4)
    for worker, answer in answers.items():
        if answer.status != HTTPStatus.OK:
            return _refuse(worker, answer)
    if target.tail == PREFIX:
        body = merge_pages([answer.body for answer in answers.values()], parse_list(target.query).limit)
        return respond(HTTPStatus.OK, body, JSON_TYPE)
    return respond(HTTPStatus.OK, next(iter(answers.values())).body, JSON_TYPE)


def _refuse(worker: int, answer: Answer) -> Response:
    if answer is SILENT:
        return respond_later(HTTPStatus.SERVICE_UNAVAILABLE, f"worker {worker} does not answer: try again later")
    detail = msgspec.json.decode(answer.body, type=_Problem).detail
    return respond_problem(HTTPStatus(answer.status), f"worker {worker}: {detail}")


def merge_metrics(texts: Mapping[int, str]) -> str:
    """Return the metrics of several workers as one text, in which each series has the label `worker`.

    Args:
        texts: of each worker, in Prometheus' text format; all have the same metrics in the same order.
    """
    heads: dict[str, list[str]] = {}
    series: dict[str, list[str]] = {}
    for worker, text in texts.items():
        name = ""
        for line in text.splitlines():
            if line.startswith("#"):
                name = line.split(" ", 3)[2]
                if line not in heads.setdefault(name, []):
                    heads[name].append(line)
            else:
                series.setdefault(name, []).append(label(line, worker))
    return "".join(f"{line}\n" for name, lines in heads.items() for line in (*lines, *series.get(name, ())))


def label(line: str, worker: int) -> str:
    """Add the label `worker` to a sample, a line of Prometheus' text format."""
    name, brace, rest = line.partition("{")
    if brace:
        return f'{name}{{worker="{worker}",{rest}'
    name, _, value = line.partition(" ")
    return f'{name}{{worker="{worker}"}} {value}'
