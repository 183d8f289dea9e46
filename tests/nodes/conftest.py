"""A Redis server for each test that asks for one, and the event loops that gateways run on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop

from tests.support.redis_server import server

__all__ = ["server"]  # a fixture


BOTH_LOOPS = {"test_leaving"}


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    of_asyncio = {"asyncio": asyncio.new_event_loop} if item.path.stem in BOTH_LOOPS else {}
    return {"uvloop": uvloop.new_event_loop, **of_asyncio}
