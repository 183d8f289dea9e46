"""Gateways for proxies, and what is logged."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import structlog

from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from tests.support.asking import http_client
from tests.support.commands import run, start

__all__ = ["run", "start"]  # fixtures


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with Gateway(Settings(port=0, drain_timeout=0)) as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with http_client() as client:
        yield client


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture(autouse=True)
def extra() -> None:
    """Every test here needs what `deltawire[proxy]` installs."""
    for module in ("aiohappyeyeballs", "httptools", "uvicorn"):
        pytest.importorskip(module, reason="the extra deltawire[proxy]")
