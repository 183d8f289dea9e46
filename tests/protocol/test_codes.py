"""Close codes, problem codes and who should reconnect."""

from __future__ import annotations

import pytest

from deltawire.protocol.codes import (
    MAX_CLOSE_REASON,
    STAYS_OPEN,
    CloseCode,
    ProblemCode,
    close_code,
    is_problem_retryable,
    is_retryable,
)


@pytest.mark.parametrize("problem", [problem for problem in ProblemCode if problem not in STAYS_OPEN])
def test_a_problem_that_closes_has_the_close_code_of_its_name(problem: ProblemCode) -> None:
    assert close_code(problem).name == problem.name
    assert is_problem_retryable(problem) == is_retryable(close_code(problem))


@pytest.mark.parametrize("problem", sorted(STAYS_OPEN))
def test_a_problem_about_one_message_has_no_close_code(problem: ProblemCode) -> None:
    with pytest.raises(ValueError, match=f"stays open after {problem}"):
        close_code(problem)


def test_of_problems_about_one_message_only_a_full_stream_passes_by_itself() -> None:
    assert {problem for problem in STAYS_OPEN if is_problem_retryable(problem)} == {ProblemCode.STREAM_FULL}


@pytest.mark.parametrize("code", [1001, 1005, 1006, 1011, 1012, 1013, 1014, 4000, 4004, 4321, 4499])
def test_a_client_reconnects_after(code: int) -> None:
    assert is_retryable(code)


@pytest.mark.parametrize("code", [1000, 1002, 1003, 1007, 1009, 1010, 3000, 3999, 4500, 4504, 4999, 5000])
def test_a_client_does_not_reconnect_after(code: int) -> None:
    assert not is_retryable(code)


def test_every_code_of_the_gateway_fits_its_range() -> None:
    registered = {1000, 1001, 1002, 1007, 1009, 1011}
    assert all(code in registered or 4000 <= code <= 4999 for code in CloseCode)


def test_every_name_fits_a_close_reason() -> None:
    assert all(len(problem.encode()) <= MAX_CLOSE_REASON for problem in ProblemCode)
