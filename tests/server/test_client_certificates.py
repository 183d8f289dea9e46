"""Where clients must have a certificate, who shows none is told so, and gets nothing but health (SPEC §11.5)."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import pytest

from deltawire.gateway.client import Refused, Subscriber
from deltawire.gateway.server import Gateway
from tests.server.conftest import StartGateway
from tests.support.certificates import Certificates, make_certificates
from tests.support.minting import everything, write_secret
from tests.support.rawpeer import HANDSHAKE
from tests.support.tlspeer import TlsPeer

OPEN = ("/livez", "/readyz", "/healthz", "/v1/schema.json", "/v1/asyncapi.json", "/client/deltawire.js", "/")
SHUT = (
    "/metrics",
    "/v1/streams",
    "/v1/streams/demo",
    "/v1/streams/unknown",
    "/v1/streams/demo/events",
    "/v1/streams/demo/subscribe",
    "/v1/streams/demo/publish",
    "/nothing",
)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


async def ask(
    gateway: Gateway, context: ssl.SSLContext, path: str, method: str = "GET", headers: str = ""
) -> tuple[int, bytes]:
    """Status and body of the answer to a request that would like to upgrade."""
    it = await TlsPeer.connect(gateway.port, context)
    try:
        await it.shake_hands(then=HANDSHAKE.format(path=path, headers=headers).replace("GET", method).encode())
        await it.read_until(b"caught_up")
        head, _, body = it.data.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), body
    finally:
        it.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("has_tokens", [False, True])
async def test_who_shows_no_certificate_gets_a_403_that_says_so_and_nothing_else(
    start_gateway: StartGateway,
    certificates: Certificates,
    version: ssl.TLSVersion,
    *,
    has_tokens: bool,
    tmp_path: Path,
) -> None:
    keys = {"auth_key": write_secret(tmp_path)} if has_tokens else {}
    gateway = await start_gateway(**certificates.settings, tls_client_ca=certificates.ca, **keys)
    gateway.hub.create("demo")
    context = certificates.context()
    context.minimum_version = context.maximum_version = version
    headers = f"Authorization: Bearer {everything()}\r\n"
    answers = set()
    for path in SHUT:
        for method in ("GET", "PUT", "DELETE"):
            status, body = await ask(gateway, context, path, method, headers)
            assert (status, "tls_client_ca" in json.loads(body)["detail"]) == (403, True)
            answers.add(body)
    assert len(answers) == 1
    for path in OPEN:
        assert (await ask(gateway, context, path))[0] == 200
    assert [info.id for info in gateway.hub.list_info()] == ["demo"]
    assert not gateway._connections


async def test_who_shows_one_gets_everything(start_gateway: StartGateway, certificates: Certificates) -> None:
    gateway = await start_gateway(**certificates.settings, tls_client_ca=certificates.ca)
    gateway.hub.create("demo")
    context = certificates.context(with_certificate=True)
    for path in (*OPEN, "/metrics", "/v1/streams", "/v1/streams/demo", "/v1/streams/demo/events"):
        assert (await ask(gateway, context, path))[0] == 200
    status, body = await ask(gateway, context, "/v1/streams/demo/subscribe")
    assert (status, b"caught_up" in body) == (101, True)


async def test_a_certificate_does_not_stand_in_for_a_token(
    start_gateway: StartGateway, certificates: Certificates, tmp_path: Path
) -> None:
    gateway = await start_gateway(
        **certificates.settings, tls_client_ca=certificates.ca, auth_key=write_secret(tmp_path)
    )
    assert (await ask(gateway, certificates.context(with_certificate=True), "/v1/streams"))[0] == 401


async def test_the_client_library_is_told_what_is_missing(
    start_gateway: StartGateway, certificates: Certificates
) -> None:
    gateway = await start_gateway(**certificates.settings, tls_client_ca=certificates.ca)
    with pytest.raises(Refused, match=r"a client certificate is needed .*tls_client_ca"):
        await Subscriber(gateway.url, "demo", tls=certificates.context()).__aenter__()
