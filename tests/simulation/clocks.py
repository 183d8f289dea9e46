"""Clocks and names: what a node asks the machine for comes from the simulation."""

from __future__ import annotations

import random
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any
from unittest import mock

import deltawire.gateway.engines.redis.engine
from deltawire.gateway.engines.redis import identity
from tests.simulation.world import World

_REAL: dict[str, Any] = {"monotonic": time.monotonic, "token_hex": secrets.token_hex}


@cache
def _places() -> list[tuple[ModuleType, str]]:
    """Modules of the package that have a function by its name."""
    assert deltawire.gateway.engines.redis.engine, "it would be imported later"
    return [
        (module, name)
        for path, module in tuple(sys.modules.items())
        if path.startswith("deltawire.")
        for name, real in _REAL.items()
        if getattr(module, name, None) is real
    ]


@contextmanager
def of(world: World) -> Iterator[None]:
    """Have everybody see the world's time, and draw from it."""

    def token_hex(size: int) -> str:
        return world.running.random.randbytes(size).hex()

    def wall() -> float:
        return world.running.wall()

    fakes: dict[str, Callable[..., Any]] = {"monotonic": lambda: world.now, "token_hex": token_hex}
    state = random.getstate()
    random.seed(world.seed)
    with (
        mock.patch.object(time, "time", wall),
        mock.patch.object(time, "monotonic", fakes["monotonic"]),
        mock.patch.object(identity, "_place", str),  # the pid of each node is that of this process
    ):
        patched = _places()
        for module, name in patched:
            setattr(module, name, fakes[name])
        try:
            yield
        finally:
            for module, name in patched:
                setattr(module, name, _REAL[name])
            random.setstate(state)
