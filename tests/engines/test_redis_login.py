"""How gateways log in to a Redis server, and what they refuse there: permissions, TLS, what kind of server it is."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from deltawire.gateway.config import ConfigError
from deltawire.gateway.engines.redis import keeping
from deltawire.gateway.engines.redis.library import LIBRARY
from deltawire.gateway.server import Gateway
from tests.support.asking import http_client
from tests.support.certificates import Certificates, make_certificates
from tests.support.on_redis import expect_all, gateway_on, set_engine_timeout, write
from tests.support.ports import free_port
from tests.support.redis_server import EACH, RIGHTS, SHIPPED, RedisServer, needs_redis, redis_server
from tests.support.serving import connected, listening, pass_on
from tests.support.waiting import eventually

pytestmark = needs_redis


async def refusal(server: RedisServer, url: str, **settings: Any) -> str:
    """Why a gateway does not start."""
    with pytest.raises(ConfigError) as refused:
        async with gateway_on(server, **{"engine_url": url, "engine_timeout": 2.0} | settings):
            pass
    assert "s3cret" not in str(refused.value)
    return str(refused.value)


def described(gateway: Gateway) -> dict[str, Any]:
    engine = gateway.hub._engine
    assert engine is not None
    return engine.describe()


@pytest.fixture(params=EACH)
def shipped(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    """A server with the configuration of `scripts/deploy`."""
    (tmp_path / "redis.conf").write_text(SHIPPED)
    with redis_server(tmp_path / "redis", request.param, (str(tmp_path / "redis.conf"),)) as server:
        yield server


async def test_the_user_that_is_shipped_may_do_all_that_gateways_do(shipped: RedisServer) -> None:
    url = f"redis://deltawire:s3cret@127.0.0.1:{shipped.port}"
    common = {"engine_url": url, "retention_events": 8, "drain_timeout": 0}
    async with gateway_on(shipped, **common) as one, gateway_on(shipped, **common) as other:
        assert described(one)["persistence"] == "append-only file"
        await write(one, 1, 5)
        await write(one, 6, 20)
        async with http_client(base_url=other.url.replace("ws:", "http:")) as client:
            await client.get("/v1/streams/demo")  # which looks for it
        await write(one, 1, 5, stream="other")
    async with gateway_on(shipped, **common) as gateway, http_client() as client:
        await expect_all(gateway, 5, stream="other")
        await client.delete(f"{gateway.url.replace('ws:', 'http:')}/v1/streams/other")
        assert gateway.hub.storage_failure is None
    async with gateway_on(shipped, **common) as gateway:
        assert gateway.hub.storage_failure is None


async def test_what_is_stored_outlives_a_restart_of_the_server_that_is_shipped(shipped: RedisServer) -> None:
    url = f"redis://deltawire:s3cret@127.0.0.1:{shipped.port}"
    async with gateway_on(shipped, engine_url=url) as gateway:
        await write(gateway, 1, 5)
        await write(gateway, 6, 8)
        epoch = await expect_all(gateway, 8)
    shipped.restart()
    login = {"user": "deltawire", "password": "s3cret"}
    await eventually(lambda: b"loading:0" in shipped.command("INFO", "persistence", **login))
    async with gateway_on(shipped, engine_url=url) as gateway:
        await expect_all(gateway, 8, epoch)


async def test_nobody_is_let_in_as_the_default_user_that_is_shipped(shipped: RedisServer) -> None:
    assert shipped.command("PING").startswith(b"-NOAUTH")
    assert shipped.command("AUTH", "default", "").startswith(b"-WRONGPASS")


async def test_each_permission_that_is_missing_is_told_and_leaves_nothing_behind(server: RedisServer) -> None:
    url = f"redis://gate:s3cret@127.0.0.1:{server.port}/1"
    told = {}
    for right in re.findall(r"\+\S+", RIGHTS):
        server.command("ACL", "DELUSER", "gate")
        server.command("ACL", "SETUSER", "gate", *(it for it in RIGHTS.split() if it != right))
        told[right] = await refusal(server, url, engine_replicas=1)
    names = {right: right[1:].replace("|", " ").upper() for right in told}
    assert [right for right, why in told.items() if f"does not permit this user {names[right]}" not in why] == []
    server.command("ACL", "SETUSER", "gate", *RIGHTS.split())
    async with gateway_on(server, engine_url=url) as gateway:
        await write(gateway, 1, 10)


async def test_why_a_session_is_refused_is_told_and_not_what_it_holds(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "RENEWAL", 0.01)
    async with gateway_on(server, advertise_url="ws://advertised") as gateway:
        set_engine_timeout(gateway, 0.05)
        server.command("ACL", "SETUSER", "default", "-pexpire")
        await eventually(lambda: gateway.hub.storage_failure)
        assert f"{LIBRARY}_renew" in str(gateway.hub.storage_failure)
        assert "advertised" not in str(gateway.hub.storage_failure)
        server.command("ACL", "SETUSER", "default", "+pexpire")
        await eventually(lambda: not gateway.hub.storage_failure)


async def test_keys_have_a_prefix_and_a_user_may_be_bound_to_it(server: RedisServer) -> None:
    server.command("ACL", "SETUSER", "gate", *RIGHTS.split())
    url = f"redis://gate:s3cret@127.0.0.1:{server.port}"
    assert "does not permit this user keys that begin with engine_prefix" in await refusal(
        server, url, engine_prefix="other"
    )
    server.command("ACL", "SETUSER", "gate", "resetkeys", "~other:*")
    async with gateway_on(server, engine_url=url, engine_prefix="other") as gateway:
        await write(gateway, 1, 10)
        async with gateway_on(server) as unrelated:
            assert unrelated.hub.count() == 0


class Encrypted:
    """A server that speaks TLS alone.

    Args:
        server: on its other port.
        port: of TLS.
        files: certificates.
    """

    def __init__(self, server: RedisServer, port: int, files: Certificates) -> None:
        self.server = server
        self.files = files
        self.url = f"rediss://127.0.0.1:{port}"


@asynccontextmanager
async def encrypted(folder: Path, *, wants_certificates: bool) -> AsyncIterator[Encrypted]:
    files = make_certificates(folder / "tls")
    with redis_server(folder / "redis") as probe:
        is_built = b"tls" in probe.command("CONFIG", "GET", "tls-port")
        port = probe.port
    if not is_built:
        pytest.skip("needs a server that is built with TLS")
    options = {
        "tls-port": str(port),
        "tls-cert-file": files.cert,
        "tls-key-file": files.key,
        "tls-ca-cert-file": files.ca,
        "tls-auth-clients": "yes" if wants_certificates else "no",
    }
    with redis_server(folder / "redis", options=options) as server:
        yield Encrypted(server, port, files)


async def test_a_connection_is_encrypted_and_the_server_s_certificate_judged(tmp_path: Path) -> None:
    async with encrypted(tmp_path, wants_certificates=False) as it:
        async with gateway_on(it.server, engine_url=f"{it.url}?ssl_ca_certs={it.files.ca}") as gateway:
            await write(gateway, 1, 10)
            await expect_all(gateway, 10)
        assert "CERTIFICATE_VERIFY_FAILED" in await refusal(it.server, it.url)
        assert "can't be reached" in await refusal(it.server, it.url.replace("rediss:", "redis:"))


@pytest.mark.parametrize(("kind", "path"), [("", ""), ("+cluster", ""), ("+sentinel", "/primary")])
async def test_a_server_without_tls_is_named_as_one(server: RedisServer, kind: str, path: str) -> None:
    url = f"rediss{kind}://127.0.0.1:{server.port}{path}"
    told = await refusal(server, url, engine_timeout=0.3)
    assert told.endswith("it does not answer in TLS: if it has none at that port, use redis instead of rediss")


async def test_a_certificate_is_shown_to_a_server_that_asks_for_one(tmp_path: Path) -> None:
    async with encrypted(tmp_path, wants_certificates=True) as it:
        url = f"{it.url}?ssl_ca_certs={it.files.ca}"
        shown = f"{url}&ssl_certfile={it.files.client_cert}&ssl_keyfile={it.files.client_key}"
        async with gateway_on(it.server, engine_url=shown) as gateway:
            await write(gateway, 1, 10)
        assert "can't be reached" in await refusal(it.server, url)


@pytest.mark.parametrize(("program", "name"), [("redis-server", "Redis"), ("valkey-server", "Valkey")])
async def test_product_and_version_are_told(program: str, name: str, tmp_path: Path) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}, on which all tests of the engine would run too")
    with redis_server(tmp_path / "redis", program) as server:
        async with gateway_on(server) as gateway:
            assert re.fullmatch(rf"{name} \d+(\.\d+)+ at 127.0.0.1:{server.port}", described(gateway)["server"])


async def test_persistence_is_told(server: RedisServer) -> None:
    found = []
    for save, append in (("", "no"), ("60 1", "no"), ("", "yes")):
        server.command("CONFIG", "SET", "save", save)
        server.command("CONFIG", "SET", "appendonly", append)
        async with gateway_on(server) as gateway:
            found.append(described(gateway)["persistence"])
    assert found == ["none", "snapshots", "append-only file"]


async def test_connected_replicas_are_counted(server: RedisServer, tmp_path: Path) -> None:
    options = {"replicaof": f"127.0.0.1 {server.port}"}
    with redis_server(tmp_path / "replica", options=options):
        await eventually(lambda: b"connected_slaves:1" in server.command("INFO", "replication"))
        async with gateway_on(server) as gateway:
            assert described(gateway)["replicas"] == 1


async def test_a_server_of_a_cluster_is_no_single_server_and_the_other_way_round(tmp_path: Path) -> None:
    options = {"cluster-enabled": "yes", "cluster-port": str(free_port())}
    with redis_server(tmp_path / "redis", options=options) as server:
        assert "is one server of a cluster: use redis+cluster://" in await refusal(server, server.url)
        url = f"redis+cluster://127.0.0.1:{server.port}"
        assert "refuses INFO: no server has some of the slots" in await refusal(server, url)
    with redis_server(tmp_path / "single") as server:
        url = f"redis+cluster://127.0.0.1:{server.port}"
        assert "is not a cluster: use redis:// for a single server" in await refusal(server, url)


async def test_an_old_version_is_refused(server: RedisServer) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with connected(server.port) as (far_reader, far_writer), asyncio.TaskGroup() as tasks:
            tasks.create_task(pass_on(reader, far_writer))
            while data := await far_reader.read(65536):
                writer.write(re.sub(rb"(redis|valkey)_version:\d", rb"\1_version:6", data))  # which has no functions
            writer.close()

    async with listening(answer) as port:
        why = await refusal(server, f"redis://127.0.0.1:{port}")
    assert re.search(r"(Redis|Valkey) 6\.\d+\.\d+ at .* is too old: version 7 or newer is needed", why)
