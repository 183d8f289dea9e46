"""Every problem code and close code of SPEC §8 comes over a real socket in one of these tests."""

from __future__ import annotations

from tests.server.heard import UNHEARD, missing


def test_every_code_was_heard() -> None:
    """Runs last, and only after all of this folder: see `conftest`."""
    assert missing() == UNHEARD
