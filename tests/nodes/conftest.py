"""A Redis server for each test that asks for one, and the event loops that gateways run on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from tests.support.redis_server import RedisServer, redis_server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """One kind is enough: gateways meet each other here, and the engine's own tests run on each."""
    with redis_server(tmp_path / "redis") as server:
        yield server


BOTH_LOOPS = {"test_leaving"}


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    of_asyncio = {"asyncio": asyncio.new_event_loop} if item.path.stem in BOTH_LOOPS else {}
    return {"uvloop": uvloop.new_event_loop, **of_asyncio}
