"""How long what could go on for ever goes on: `make soak` has the time (`SOAK=1`), `make test` has not."""

from __future__ import annotations

import os
from typing import Final, TypeVar

import pytest

Value = TypeVar("Value")

IS_SOAK: Final = os.environ.get("SOAK") == "1"


def left_to_soak(why: str) -> pytest.MarkDecorator:
    """Skip a test that takes too much for `make test`; it has to be marked `soak`, too."""
    return pytest.mark.skipif(not IS_SOAK, reason=f"{why}: `make soak` runs it, or SOAK=1")


def lasting(short: Value, whole: Value) -> Value:
    """One of two numbers of rounds, or of whatever else a test's length is."""
    return whole if IS_SOAK else short
