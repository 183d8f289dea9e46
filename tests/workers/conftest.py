"""Gateways of several processes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import uvloop

from tests.support.asking import http_client
from tests.support.commands import run, run_process, serve, start
from tests.support.processes import Serve
from tests.support.rawpeer import RawPeer
from tests.support.redis_server import server
from tests.workers.gateways import Many, StartWorkers, children_of

__all__ = ["run", "run_process", "serve", "server", "start"]  # fixtures


def pytest_asyncio_loop_factories() -> dict[str, Any]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with http_client() as client:
        yield client


@pytest.fixture
def start_workers(serve: Serve) -> Iterator[StartWorkers]:
    """Start a gateway of two workers on a free port; the test's end closes connections and kills what is left of it."""
    peers: list[RawPeer] = []

    async def start_workers(*arguments: str, **options: Any) -> Many:
        served = await serve("--port=0", "--workers=2", *arguments, **options)
        return Many(served, children_of(served.process.pid), peers)

    yield start_workers
    for peer in peers:
        peer.close()
