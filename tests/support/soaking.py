"""How long what could go on for ever goes on: `make soak` has the time (`SOAK=1`), `make test` has not."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final, TypeVar

import pytest

Value = TypeVar("Value")

IS_SOAK: Final = os.environ.get("SOAK") == "1"


def left_to_soak(test: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a test that installs so much that only `make soak` runs it."""
    skip = pytest.mark.skipif(not IS_SOAK, reason="installs hundreds of megabytes: `make soak` runs it, or SOAK=1")
    marked: Callable[..., Any] = pytest.mark.soak(skip(test))
    return marked


def lasting(short: Value, whole: Value) -> Value:
    """One of two numbers of rounds, or of whatever else a test's length is."""
    return whole if IS_SOAK else short
