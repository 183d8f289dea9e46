"""A Redis server for each test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.redis_server import PROGRAMS, RedisServer, redis_server


@pytest.fixture(params=PROGRAMS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis", request.param) as server:
        yield server
