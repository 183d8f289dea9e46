"""A Redis server for each test that asks for one."""

from tests.support.redis_server import server

__all__ = ["server"]  # a fixture
