"""What every server test stands on: both event loops, gateways on free ports, logs kept quiet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any, Protocol

import pytest
import structlog
import uvloop

from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from tests.support.heard import HEARD
from tests.support.waiting import DEADLINE

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
BOTH_LOOPS = (
    "test_consuming",
    "test_policies",
    "test_lifecycle",
    "test_closing",
    "test_tls",
    "test_tls_handshakes",
    "test_event_streams",
)
"""Modules about what a transport does, which the two loops do differently; the others run on what `serve` uses."""


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return LOOPS if item.path.stem in BOTH_LOOPS else {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def _codes_it_promises(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test marked with `hears` fails unless its clients got these codes: see `test_every_code`."""
    HEARD.clear()
    yield
    for mark in request.node.iter_markers("hears"):
        assert set(mark.args) - HEARD == set(), "these codes did not come"


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
