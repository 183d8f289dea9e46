"""The exceptions: what they carry, what they say, how their kinds are told apart."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest

from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import (
    DeltawireError,
    ErrorKind,
    StreamError,
    WireError,
    is_closed,
    is_full,
    is_invalid,
    is_not_found,
)

CHECKS = {
    ErrorKind.CLOSED: is_closed,
    ErrorKind.NOT_FOUND: is_not_found,
    ErrorKind.FULL: is_full,
    ErrorKind.INVALID: is_invalid,
}


@pytest.mark.parametrize("kind", ErrorKind)
@pytest.mark.parametrize(("checked", "check"), CHECKS.items())
def test_a_check_tells_its_kind_and_no_other(
    kind: ErrorKind, checked: ErrorKind, check: Callable[[BaseException], bool]
) -> None:
    assert check(StreamError(kind, "send", "demo")) is (kind is checked)


@pytest.mark.parametrize("check", CHECKS.values())
def test_a_check_says_no_to_other_errors(check: Callable[[BaseException], bool]) -> None:
    assert not check(ValueError("closed"))
    assert not check(WireError(ProblemCode.STREAM_CLOSED, "closed"))


def test_a_stream_error_names_operation_stream_kind_and_detail() -> None:
    error = StreamError(ErrorKind.FULL, "send", "demo", "waited 5 s")
    assert str(error) == "send 'demo': stream full: waited 5 s"
    assert (error.kind, error.operation, error.stream_id, error.detail) == (
        ErrorKind.FULL,
        "send",
        "demo",
        "waited 5 s",
    )


def test_an_invalid_argument_is_told_without_calling_the_stream_so() -> None:
    error = StreamError(ErrorKind.INVALID, "create", "demo", "the stream exists already")
    assert str(error) == "create 'demo': the stream exists already"


def test_a_stream_error_without_detail_ends_with_its_kind() -> None:
    assert str(StreamError(ErrorKind.NOT_FOUND, "get", "demo")) == "get 'demo': stream not found"


def test_a_wire_error_carries_the_code_of_its_problem() -> None:
    error = WireError(ProblemCode.INVALID_EVENT, "empty message")
    assert (error.code, error.message) == (ProblemCode.INVALID_EVENT, "empty message")
    assert str(error) == "invalid_event: empty message"


@pytest.mark.parametrize(
    "error", [StreamError(ErrorKind.CLOSED, "send", "demo", "why"), WireError(ProblemCode.IDLE, "why")]
)
def test_errors_survive_copying_and_pickling(error: DeltawireError) -> None:
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
