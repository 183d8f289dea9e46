"""Settings of all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A busy machine is slow, which says nothing about the code; that a test ends at all is what `timeout` sees to.
settings.register_profile("deltawire", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("deltawire")
