"""What tests of middleware share: the commands as programs."""

from __future__ import annotations

from tests.support.commands import run_process, start

__all__ = ["run_process", "start"]  # fixtures
