"""What tests of middleware share: the commands as programs."""

from __future__ import annotations

from tests.support.commands import run_process, serve, start

__all__ = ["run_process", "serve", "start"]  # fixtures
