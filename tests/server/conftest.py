"""What every server test stands on: both event loops, gateways on free ports, logs kept quiet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest
import structlog
import uvloop

from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from tests.server.waiting import DEADLINE

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
BOTH_LOOPS = ("test_consuming", "test_policies", "test_lifecycle", "test_closing", "test_tls", "test_tls_handshakes")
"""Modules about what a transport does, which the two loops do differently; the others run on what `serve` uses."""


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return LOOPS if item.path.stem in BOTH_LOOPS else {"uvloop": uvloop.new_event_loop}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """`test_every_code` looks back at all tests of this folder: it is the last one, and left out if any of them is."""
    here = Path(__file__).parent
    looking_back = [item for item in items if item.path.stem == "test_every_code"]
    is_whole = {item.path for item in items} >= set(here.glob("test_*.py"))
    is_picked = any("::" in argument for argument in config.args) or bool(config.option.keyword)
    rest = [item for item in items if item not in looking_back]
    items[:] = rest + looking_back if is_whole and not is_picked else rest


@pytest.fixture(autouse=True)
def logs() -> Any:
    """What the gateway logs, captured."""
    with structlog.testing.capture_logs() as entries:
        yield entries


class StartGateway(Protocol):
    """Starts a gateway on a free port, with settings; the test's end drains it."""

    async def __call__(self, **settings: Any) -> Gateway: ...


PATIENT: dict[str, Any] = {
    "ping_interval": 3600.0,
    "send_timeout": 2 * DEADLINE,
    "block_timeout": 2 * DEADLINE,
    "handshake_timeout": 2 * DEADLINE,
}
"""Of a gateway that never thinks a busy machine is a dead peer: what a test waits for, it waits for at most half as
long. A test about one of these sets it, and had better lead time on by leaps than wait for it."""


@pytest.fixture
async def start_gateway() -> AsyncIterator[StartGateway]:
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> Gateway:
            chosen = {"port": 0, "drain_timeout": 0.05, **PATIENT, **settings}
            return await stack.enter_async_context(Gateway(Settings(**chosen)))

        yield start


@pytest.fixture
async def gateway(start_gateway: StartGateway) -> Gateway:
    return await start_gateway()
