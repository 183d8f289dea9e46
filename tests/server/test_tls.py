"""TLS: what files are refused, certificates exchanged under connections, and that flow control holds as without it."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from deltawire.gateway.client import ClientError, ProtocolFault, Publisher, Subscriber
from deltawire.gateway.config import ConfigError, Settings
from deltawire.gateway.configuring import make_settings
from deltawire.gateway.hub import LocalStream
from deltawire.gateway.server import Gateway
from deltawire.gateway.server.accepting.tls import ServerTls, make_context
from deltawire.protocol.events import Event, TextDelta
from tests.server.conftest import StartGateway
from tests.server.stalling import consumers_of, say
from tests.support.certificates import Certificates, make_certificates
from tests.support.tlspeer import TlsPeer
from tests.support.waiting import DEADLINE, eventually, turn


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


# Files


def test_good_files_make_a_context_that_refuses_old_versions(certificates: Certificates) -> None:
    context = make_context(make_settings(certificates.settings))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_NONE
    asking = make_context(make_settings({**certificates.settings, "tls_client_ca": certificates.ca}))
    assert asking.verify_mode == ssl.CERT_OPTIONAL


def test_without_files_there_is_no_tls() -> None:
    assert ServerTls.wanted(Settings()) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tls_key": ""}, "needs both tls_cert and tls_key"),
        ({"tls_cert": ""}, "needs both tls_cert and tls_key"),
        ({"tls_cert": "", "tls_key": "", "tls_client_ca": "{ca}"}, "needs both tls_cert and tls_key"),
        ({"tls_cert": "{folder}/absent.pem"}, r"tls_cert .*absent\.pem: No such file"),
        ({"tls_key": "{folder}"}, "tls_key .*: Is a directory"),
        ({"tls_cert": "{key}"}, "tls_cert .*: there is no PEM certificate"),
        ({"tls_key": "{cert}"}, "tls_key .*: there is no PEM private key"),
        ({"tls_key": "{client_key}"}, "is not the key of the certificate"),
        ({"tls_key": "{folder}/encrypted.pem"}, "tls_key is encrypted"),
        ({"tls_key": "{folder}/torn.pem"}, "tls_cert .* with tls_key .*: "),
        ({"tls_client_ca": "{key}"}, "tls_client_ca .*: there is no PEM certificate"),
        ({"tls_client_ca": "{folder}/torn.pem"}, "tls_client_ca .*: "),
    ],
)
def test_a_file_that_cannot_be_used_is_named(certificates: Certificates, changes: dict[str, str], reason: str) -> None:
    folder = Path(certificates.cert).parent
    key = load_pem_private_key(Path(certificates.key).read_bytes(), None)
    secret = BestAvailableEncryption(b"secret")
    (folder / "encrypted.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))
    torn = "".join(
        f"-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n" for label in ("CERTIFICATE", "PRIVATE KEY")
    )
    (folder / "torn.pem").write_text(torn)
    named = {
        name: path.format(folder=folder, **certificates._asdict())
        for name, path in (certificates.settings | changes).items()
    }
    with pytest.raises(ConfigError, match=reason) as caught:
        Gateway(make_settings({"port": 0, **named}))
    assert "\n" not in str(caught.value)


# Connections


async def test_the_client_library_publishes_and_subscribes_over_wss(
    start_gateway: StartGateway, certificates: Certificates
) -> None:
    gateway = await start_gateway(**certificates.settings)
    async with Publisher(gateway.url, "demo", tls=certificates.context()) as publisher:
        for number in range(2000):
            await publisher.send(TextDelta(text=f"{number} "))
        await publisher.close_stream()
    async with Subscriber(gateway.url, "demo", tls=certificates.context()) as subscriber:
        text = "".join([it.data.text async for it in subscriber if isinstance(it, Event)])
    assert text == "".join(f"{number} " for number in range(2000))


async def test_a_gateway_whose_authority_is_unknown_is_refused_at_once(
    start_gateway: StartGateway, certificates: Certificates
) -> None:
    gateway = await start_gateway(**certificates.settings)
    with pytest.raises(ProtocolFault, match="certificate is not trusted"):
        await Subscriber(gateway.url, "demo").__aenter__()


async def test_tls_for_an_address_without_it_is_a_wrong_argument(certificates: Certificates) -> None:
    with pytest.raises(ValueError, match="wss://"):
        Subscriber("ws://127.0.0.1:1", "demo", tls=certificates.context())


async def test_where_clients_must_have_a_certificate_only_those_who_have_get_in(
    start_gateway: StartGateway, certificates: Certificates
) -> None:
    gateway = await start_gateway(**certificates.settings, tls_client_ca=certificates.ca)
    async with Subscriber(gateway.url, "demo", tls=certificates.context(with_certificate=True)) as known:
        assert known.subscribed is not None
    with pytest.raises(ClientError):
        await Subscriber(gateway.url, "demo", tls=certificates.context(), retry_for=0).__aenter__()
    await eventually(lambda: not gateway._connections)


async def shown_by(gateway: Gateway, files: Certificates) -> bytes:
    """The certificate a gateway shows, to a client that trusts its authority."""
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port, ssl=files.context())
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    assert isinstance(shown, bytes)
    return shown


async def test_a_reload_gives_new_connections_the_new_certificate_and_drops_nobody(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    old = make_certificates(tmp_path / "live")
    gateway = await start_gateway(**old.settings)
    async with Subscriber(gateway.url, "demo", tls=old.context()) as subscriber:
        before = await shown_by(gateway, old)
        new = make_certificates(tmp_path / "live")
        gateway.reload()
        after = await shown_by(gateway, new)
        assert before != after
        gateway.hub.get("demo").send_nowait(TextDelta("still here"))
        item = await anext(aiter(subscriber))
        assert isinstance(item, Event)
        assert item.data == TextDelta("still here")


async def test_a_reload_of_a_bad_file_leaves_the_certificate_as_it_is(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    files = make_certificates(tmp_path / "live")
    gateway = await start_gateway(**files.settings)
    before = await shown_by(gateway, files)
    shutil.copy(files.client_key, files.key)
    with pytest.raises(ConfigError, match="is not the key of the certificate"):
        gateway.reload()
    assert await shown_by(gateway, files) == before


async def test_a_reload_of_other_authorities_shuts_out_who_has_only_the_old_ones_certificate(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    files, others = make_certificates(tmp_path / "live"), make_certificates(tmp_path / "others")
    trusted = shutil.copy(files.ca, str(tmp_path / "trusted.pem"))
    gateway = await start_gateway(**files.settings, tls_client_ca=trusted)
    context = files.context(with_certificate=True)
    async with Subscriber(gateway.url, "demo", tls=context, retry_for=0):
        shutil.copy(others.ca, trusted)
        gateway.reload()
        with pytest.raises(ClientError):
            await Subscriber(gateway.url, "demo", tls=context, retry_for=0).__aenter__()


# Flow control


@asynccontextmanager
async def stalled_over_tls(
    gateway: Gateway, certificates: Certificates, query: str
) -> AsyncIterator[tuple[TlsPeer, LocalStream]]:
    """A consumer over TLS that caught up and then stopped reading until the gateway felt it."""
    local = gateway.hub.get_or_create("demo")
    reader = await TlsPeer.connect(gateway.port, certificates.context(), receive_buffer=4096)
    try:
        await reader.upgrade(f"/v1/streams/demo/subscribe?{query}")
        await reader.read_until(b"caught_up")
        [seen] = consumers_of(gateway)
        while not seen._is_stalled:
            local.send_nowait(TextDelta("#" * 10_000))
            gateway.hub.flush()  # on a busy machine its stream would rest first
            await turn(3)
        assert seen.subscription.cursor * 10_000 < 600_000, "what hides in buffers is bounded"
        yield reader, local
    finally:
        reader.close()


async def test_a_slow_consumer_over_tls_is_felt_and_told(
    start_gateway: StartGateway, certificates: Certificates
) -> None:
    gateway = await start_gateway(**certificates.settings)
    async with stalled_over_tls(gateway, certificates, "policy=disconnect&buffer=5") as (reader, local):
        say(local, 20)
        await turn()
        await reader.read_until(b"slow_consumer")
        assert b"slow_consumer" in reader.data


async def test_a_stalled_peer_over_tls_is_aborted_by_send_timeout(
    start_gateway: StartGateway, certificates: Certificates
) -> None:
    gateway = await start_gateway(**certificates.settings, send_timeout=0.2)
    async with stalled_over_tls(gateway, certificates, "policy=coalesce"):
        await eventually(lambda: not gateway._connections)


async def test_a_drain_over_tls_lets_a_slow_reader_take_what_is_left(
    start_gateway: StartGateway, certificates: Certificates
) -> None:
    gateway = await start_gateway(**certificates.settings, drain_timeout=DEADLINE)
    async with stalled_over_tls(gateway, certificates, "policy=block&buffer=10000") as (reader, local):
        head = say(local, 2000)
        draining = asyncio.ensure_future(gateway.drain())
        await turn()
        assert not draining.done()
        await reader.read_until(b'"resume_after":%d' % head)
        await reader.read_until(b"\x88")
        assert b"shutting_down" in reader.data
        reader.close()
        await draining


async def test_a_drain_over_tls_aborts_stalled_peers_by_drain_timeout(
    start_gateway: StartGateway, certificates: Certificates
) -> None:
    gateway = await start_gateway(**certificates.settings, drain_timeout=0.1)
    async with stalled_over_tls(gateway, certificates, "policy=coalesce"), asyncio.timeout(DEADLINE):
        await gateway.drain()
        assert not gateway._connections


async def test_a_peer_stuck_in_its_tls_handshake_holds_no_drain_up(
    start_gateway: StartGateway, certificates: Certificates
) -> None:
    gateway = await start_gateway(**certificates.settings, drain_timeout=60.0)
    with socket.create_connection(("127.0.0.1", gateway.port)):
        await turn(5)
        async with asyncio.timeout(DEADLINE):
            await gateway.drain()
