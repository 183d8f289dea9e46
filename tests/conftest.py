"""Settings of all tests."""

from __future__ import annotations

import gc
import os
import pkgutil
import signal
import socket
from collections.abc import Generator, Iterator
from importlib import import_module
from pathlib import Path

import coverage
import pytest
import structlog
from hypothesis import HealthCheck, is_hypothesis_test, settings

from tests.support.soaking import lasting

# A busy machine is slow, which says nothing about the code; that a test ends at all is what `timeout` sees to.
settings.register_profile("test", max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("soak", settings.get_profile("test"), max_examples=500, stateful_step_count=100)
settings.load_profile(lasting("test", "soak"))

HERE = Path(__file__).parent
PACKAGE = HERE.parent / "scripts" / "package"
DESCRIPTORS = "/dev/fd"
"""Lists the open descriptors of this process, on Linux and on macOS."""
CORE = (HERE / "protocol", HERE / "streams")
UNMEASURED = ("timed", "thorough")
"""Marks of tests that are not measured."""
COVERAGE = pytest.StashKey[coverage.Coverage]()
"""The measurement that `--cov` began. It runs in tests of the core alone, as it makes all Python four times as slow."""

# What tests start is of the same checkout as what they import (`pythonpath` in pyproject.toml).
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(PACKAGE), os.environ.get("PYTHONPATH"))))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the examples of the core, and what `make soak` runs; begin what is slow before all else.

    The examples reach nearly all of the core, at a tenth of the time that all tests take. What Hypothesis draws is left
    out: it reaches other lines each time.
    """
    for item in items:
        is_drawn = is_hypothesis_test(getattr(item, "obj", None))
        if is_drawn:
            item.add_marker("soak")
        elif item.path.parent in CORE and not any(map(item.get_closest_marker, UNMEASURED)):
            item.add_marker("core")
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)  # the order is random otherwise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Measure what a test of the core reaches."""
    measured = item.config.stash.get(COVERAGE, None) if item.get_closest_marker("core") else None
    if measured is None:
        return (yield)
    measured.start()
    try:
        return (yield)
    finally:
        measured.stop()


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None]:
    """Look for no garbage among the tests themselves, which are most of what is in memory and stay to the end."""
    measured = coverage.Coverage.current()
    if measured is not None and session.config.getoption("cov_source", []) in (None, [True]):  # `--cov` alone
        _pause(measured)
        session.config.stash[COVERAGE] = measured
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def _pause(measured: coverage.Coverage) -> None:
    """Stop measuring until a test of the core runs, once all modules of the core are loaded."""
    for name in measured.config.source or ():
        for module in pkgutil.walk_packages(import_module(name).__path__, f"{name}."):
            import_module(module.name)
    while (running := coverage.Coverage.current()) is not None:  # in a process of xdist there are two
        running.stop()


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


@pytest.fixture(autouse=True)
def _no_connection_left() -> Iterator[None]:
    """A test that leaves a TCP connection open fails itself; the garbage collector would blame a later one."""
    before = set(os.listdir(DESCRIPTORS))  # noqa: PTH208 - names alone, in half of the time
    yield
    for name in set(os.listdir(DESCRIPTORS)) - before:  # noqa: PTH208 - as above
        if (left := _connection(int(name))) is not None:
            pytest.fail(f"left open: a connection from {left[0]} to {left[1]}")


def _connection(descriptor: int) -> tuple[object, object] | None:
    """The addresses of a TCP connection; None for everything else."""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as it:
            return (it.getsockname(), it.getpeername()) if it.family in {socket.AF_INET, socket.AF_INET6} else None
    except OSError:  # no socket, not connected, or closed meanwhile
        return None
