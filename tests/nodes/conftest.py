"""A Redis server for each test that asks for one, and the event loop that gateways run on."""

from __future__ import annotations

from typing import Any

import uvloop

from tests.support.redis_server import server

__all__ = ["server"]  # a fixture


def pytest_asyncio_loop_factories() -> dict[str, Any]:
    return {"uvloop": uvloop.new_event_loop}
