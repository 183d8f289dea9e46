"""A primary that sentinels name: gateways find it, and find the next one when it is gone."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from deltawire.gateway.config import ConfigError
from tests.support.on_redis import expect_all, gateway_on, write
from tests.support.redis_server import EACH, RedisServer, redis_server
from tests.support.waiting import eventually

WATCH = """
sentinel monitor main 127.0.0.1 {port} 1
sentinel down-after-milliseconds main 1000
sentinel failover-timeout main 1000
sentinel auth-pass main s3cret
requirepass sentinel-s3cret
"""

NO_SENTINEL_PASSWORD = "a sentinel of main {} asks for a password, and the URL has no sentinel_password"


class Watched(NamedTuple):
    """A primary, its replica, and the sentinel that watches them."""

    primary: RedisServer
    replica: RedisServer
    sentinel: RedisServer

    @property
    def url(self) -> str:
        return f"redis+sentinel://:s3cret@127.0.0.1:{self.sentinel.port}/main?sentinel_password=sentinel-s3cret"

    def is_settled(self) -> bool:
        found = self.sentinel.command("SENTINEL", "MASTER", "main", password="sentinel-s3cret")
        return b"num-slaves\r\n$1\r\n1" in found and b"flags\r\n$6\r\nmaster\r\n" in found


@pytest.fixture(params=EACH)
def watched(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Watched]:
    program = request.param
    options = {"requirepass": "s3cret", "masterauth": "s3cret", "repl-diskless-sync-delay": "0"}
    with (
        redis_server(tmp_path / "one", program, options=options) as one,
        redis_server(tmp_path / "two", program, options=options) as two,
    ):
        two.command("REPLICAOF", "127.0.0.1", str(one.port), password="s3cret")
        assert b":1\r\n" in one.command("WAIT", "1", "20000", password="s3cret")
        (tmp_path / "sentinel.conf").write_text(WATCH.format(port=one.port))
        arguments = (str(tmp_path / "sentinel.conf"), "--sentinel")
        with redis_server(tmp_path / "sentinel", program, arguments) as sentinel:
            yield Watched(one, two, sentinel)


async def test_nothing_acked_is_lost_when_a_replica_is_promoted(watched: Watched) -> None:
    primary = watched.primary
    await eventually(watched.is_settled, pause=0.02)
    async with gateway_on(primary, engine_url=watched.url, engine_timeout=20.0) as gateway:
        await write(gateway, 1, 10)
        epoch = await expect_all(gateway, 10)
        assert b":1\r\n" in primary.command("WAIT", "1", "20000", password="s3cret")
        primary.kill()
        await write(gateway, 11, 20)
        await expect_all(gateway, 20, epoch)
    replica = f"redis://:s3cret@127.0.0.1:{watched.replica.port}"
    async with gateway_on(watched.replica, engine_url=replica) as gateway:
        await expect_all(gateway, 20, epoch)
        assert b"role:master" in watched.replica.command("INFO", "replication", password="s3cret")


async def test_a_sentinel_that_does_not_answer_holds_nothing_up(watched: Watched) -> None:
    await eventually(watched.is_settled, pause=0.02)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = watched.url.replace("@", f"@127.0.0.1:{silent.getsockname()[1]},")
        async with gateway_on(watched.primary, engine_url=url) as gateway:
            await write(gateway, 1, 10)
            await expect_all(gateway, 10)


async def test_a_primary_that_no_sentinel_knows_is_told(watched: Watched) -> None:
    url = watched.url.replace("/main", "/other")
    with pytest.raises(ConfigError, match=r"other .* can't be reached: No master found for 'other'") as error:
        async with gateway_on(watched.primary, engine_url=url):
            pass
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    ("part", "wrong", "told"),
    [
        ("sentinel-s3cret", "other-s3cret", "a sentinel of main {} accepts neither that user nor that password"),
        (":s3cret@", ":other-s3cret@", "main {} accepts neither that user nor that password"),
        ("?sentinel_password=sentinel-s3cret", "", NO_SENTINEL_PASSWORD),
        (":s3cret@", "", "main {} asks for a password, and the URL has none"),
        ("127.0.0.1:{port}", "127.0.0.1:1", "main {} can't be reached: Connection refused"),
    ],
)
async def test_why_sentinels_do_not_help_is_told_in_a_few_words_without_a_password(
    watched: Watched, part: str, wrong: str, told: str
) -> None:
    await eventually(watched.is_settled, pause=0.02)
    url = watched.url.replace(part.format(port=watched.sentinel.port), wrong)
    with pytest.raises(ConfigError) as error:
        async with gateway_on(watched.primary, engine_url=url):
            pass
    told = told.format(f"(sentinels {url.partition('//')[2].rpartition('@')[2].partition('/')[0]})")
    assert str(error.value) == f"engine_url: {told}"
