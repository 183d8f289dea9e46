"""What tests of middleware share: the commands as programs."""

from __future__ import annotations

from tests.support.commands import run_process

__all__ = ["run_process"]  # a fixture
