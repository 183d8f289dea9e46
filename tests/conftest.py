"""Settings of all tests."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, is_hypothesis_test, settings

# A busy machine is slow, which says nothing about the code; that a test ends at all is what `timeout` sees to.
settings.register_profile("deltawire", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# A soak: HYPOTHESIS_PROFILE=long pytest --timeout=0 tests/streams tests/contract
settings.register_profile("long", settings.get_profile("deltawire"), max_examples=500, stateful_step_count=100)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "deltawire"))

HERE = Path(__file__).parent
PACKAGE = HERE.parent / "scripts" / "package"
CORE = (HERE / "protocol", HERE / "streams")

# What tests start is of the same checkout as what they import (`pythonpath` in pyproject.toml).
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(PACKAGE), os.environ.get("PYTHONPATH"))))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the examples of the core: they reach nearly all of it, at a tenth of the time that all tests take.

    What Hypothesis draws is left out: it takes twice as long where coverage is measured, and reaches other lines each
    time.
    """
    for item in items:
        if item.path.parent in CORE and not is_hypothesis_test(getattr(item, "obj", None)):
            item.add_marker("core")


def pytest_collection_finish() -> None:
    """Look no more for garbage among the tests themselves, which are most of what is in memory and stay to the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _no_ignored_signals() -> None:
    """Ignore signals by a handler, where a shell (`pytest &` in a script) or nohup made this process ignore them.

    What tests start would inherit that they are ignored, and not end when a test interrupts it; it inherits no handler.
    """
    for signum in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, lambda *_: None)


@pytest.fixture(autouse=True)
def _log_settings_of_its_own() -> Iterator[None]:
    """A test that sets up logs does so for itself: their descriptor may be another file's by the next test."""
    yield
    structlog.reset_defaults()
