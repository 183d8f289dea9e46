"""Responses: when a refused client may ask again."""

from __future__ import annotations

from http import HTTPStatus

from deltawire.gateway.server.responses import RETRY_AFTER, respond_later


def test_those_refused_together_are_told_to_come_back_at_different_times() -> None:
    told = [int(respond_later(HTTPStatus.SERVICE_UNAVAILABLE, "full").headers["Retry-After"]) for _ in range(1000)]
    assert set(told) == set(range(RETRY_AFTER[0], RETRY_AFTER[1] + 1))


def test_a_refusal_that_knows_when_there_is_room_says_so() -> None:
    assert respond_later(HTTPStatus.TOO_MANY_REQUESTS, "full", 60).headers["Retry-After"] == "60"
