"""Settings of all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

# A busy machine is slow, which says nothing about the code; that a test ends at all is what `timeout` sees to.
settings.register_profile("deltawire", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# A soak: HYPOTHESIS_PROFILE=long pytest --timeout=0 tests/streams tests/contract
settings.register_profile("long", settings.get_profile("deltawire"), max_examples=500, stateful_step_count=100)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "deltawire"))


@pytest.fixture(autouse=True)
def _log_settings_of_its_own() -> Iterator[None]:
    """A test that sets up logs does so for itself: their descriptor may be another file's by the next test."""
    yield
    structlog.reset_defaults()
