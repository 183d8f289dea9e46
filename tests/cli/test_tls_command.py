"""The command over wss: publish, tail, streams and export; certificates exchanged by SIGHUP."""

from __future__ import annotations

import asyncio
import shutil
import signal
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from deltawire.gateway.client import Subscriber
from deltawire.gateway.configuring import make_settings
from deltawire.gateway.server import Gateway
from deltawire.protocol.events import TextDelta
from tests.support.certificates import Certificates, make_certificates
from tests.support.processes import Run, Serve, Start, wait_logged
from tests.support.waiting import DEADLINE


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize("by", ["option", "variable", "SSL_CERT_FILE"])
async def test_a_stream_is_published_followed_and_listed_over_wss(
    run: Run, certificates: Certificates, by: str
) -> None:
    trust = {"option": [f"--tls-ca={certificates.ca}"]}.get(by, [])
    env = {"variable": {"DELTAWIRE_TLS_CA": certificates.ca}, "SSL_CERT_FILE": {by: certificates.ca}}.get(by, {})
    async with Gateway(make_settings({"port": 0, "drain_timeout": 0, **certificates.settings})) as gateway:
        arguments = ("demo", f"--url={gateway.url}", *trust)
        published = await run("publish", *arguments, "--format=text", "--close", stdin=b"over TLS", env=env)
        assert published == (0, "", "")
        assert await run("tail", *arguments, env=env) == (0, "over TLS", "")
        assert "yes" in (await run("streams", "list", *arguments[1:], env=env)).output
        assert (await run("streams", "info", *arguments, env=env)).status == 0


async def test_a_gateway_that_asks_for_a_certificate_gets_ours(run: Run, certificates: Certificates) -> None:
    settings = {"port": 0, "drain_timeout": 0, **certificates.settings, "tls_client_ca": certificates.ca}
    shown = (f"--tls-client-cert={certificates.client_cert}", f"--tls-client-key={certificates.client_key}")
    async with Gateway(make_settings(settings)) as gateway:
        arguments = ("streams", "list", f"--url={gateway.url}", f"--tls-ca={certificates.ca}")
        assert (await run(*arguments, *shown)).status == 0
        done = await run(*arguments)
        assert (done.status, len(done.errors.splitlines())) == (1, 1)


COMMANDS = [("tail", "demo"), ("publish", "demo"), ("streams", "list"), ("export", "demo")]


@pytest.mark.parametrize("command", COMMANDS)
async def test_an_address_of_the_wrong_kind_is_one_line_that_says_what_to_use(
    run: Run, gateway: str, certificates: Certificates, command: tuple[str, ...]
) -> None:
    async with Gateway(make_settings({"port": 0, "drain_timeout": 0, **certificates.settings})) as with_tls:
        url = f"ws://127.0.0.1:{with_tls.port}"
        done = await run(*command, f"--url={url}")
        why = "the connection was closed during the handshake; if the gateway has TLS, its address begins with wss://"
        assert done == (1, "", f"deltawire: error: no gateway at {url}: {why}\n")
    done = await run(*command, f"--url={gateway.replace('ws:', 'wss:')}")
    assert (done.status, len(done.errors.splitlines())) == (1, 1)
    assert done.errors.startswith("deltawire: error: the TLS handshake failed: ")
    assert done.errors.endswith("; an address without TLS begins with ws://\n")


@pytest.mark.parametrize("command", COMMANDS)
async def test_a_missing_client_certificate_is_one_line_that_says_how_to_show_one(
    run: Run, certificates: Certificates, command: tuple[str, ...]
) -> None:
    settings = {"port": 0, "drain_timeout": 0, **certificates.settings, "tls_client_ca": certificates.ca}
    async with Gateway(make_settings(settings)) as gateway:
        done = await run(*command, f"--url={gateway.url}", f"--tls-ca={certificates.ca}")
    assert (done.status, len(done.errors.splitlines())) == (1, 1)
    assert "a client certificate is needed (tls_client_ca)" in done.errors
    assert "--tls-client-cert" in done.errors


@pytest.mark.parametrize("command", COMMANDS)
async def test_a_certificate_the_gateway_does_not_trust_is_one_line(
    run: Run, certificates: Certificates, tmp_path: Path, command: tuple[str, ...]
) -> None:
    stranger = make_certificates(tmp_path / "others")
    settings = {"port": 0, "drain_timeout": 0, **certificates.settings, "tls_client_ca": certificates.ca}
    shown = (f"--tls-client-cert={stranger.client_cert}", f"--tls-client-key={stranger.client_key}")
    async with Gateway(make_settings(settings)) as gateway:
        done = await run(*command, f"--url={gateway.url}", f"--tls-ca={certificates.ca}", *shown)
    assert (done.status, len(done.errors.splitlines())) == (1, 1)
    assert "it may not trust the client certificate" in done.errors


@pytest.mark.parametrize("command", COMMANDS)
async def test_an_unknown_authority_is_one_line(run: Run, certificates: Certificates, command: tuple[str, ...]) -> None:
    async with Gateway(make_settings({"port": 0, "drain_timeout": 0, **certificates.settings})) as gateway:
        done = await run(*command, f"--url={gateway.url}")
    assert (done.status, len(done.errors.splitlines())) == (1, 1)
    assert "certificate" in done.errors


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--tls-ca=absent.pem"], "absent.pem: No such file or directory"),
        (["--tls-ca={key}"], "no certificate or crl found: "),
        (["--tls-client-cert={cert}"], "belong together"),
        (["--tls-client-cert={cert}", "--tls-client-key={client_key}"], "key values mismatch"),
    ],
)
async def test_a_file_that_cannot_be_used_is_one_line_and_status_2(
    run: Run, certificates: Certificates, flags: list[str], reason: str
) -> None:
    done = await run("tail", "demo", "--url=wss://127.0.0.1:1", *(it.format(**certificates._asdict()) for it in flags))
    assert (done.status, len(done.errors.splitlines())) == (2, 1)
    assert reason in done.errors


async def test_tls_options_for_an_address_without_tls_are_wrong(run: Run, certificates: Certificates) -> None:
    done = await run("tail", "demo", "--url=ws://127.0.0.1:1", f"--tls-ca={certificates.ca}")
    assert (done.status, len(done.errors.splitlines())) == (2, 1)
    assert "wss://" in done.errors


async def test_serve_names_a_file_it_cannot_use(run_process: Run, certificates: Certificates) -> None:
    done = await run_process("serve", "--port=0", "--tls-cert=absent.pem", f"--tls-key={certificates.key}")
    assert done == (2, "", "deltawire: error: tls_cert absent.pem: No such file or directory\n")


async def test_sighup_exchanges_certificates_and_drops_nobody(serve: Serve, start: Start, tmp_path: Path) -> None:
    old = make_certificates(tmp_path / "live")
    trusts_old = old.context()
    served = await serve("--port=0", *old.flags)
    writer = await start("publish", "demo", "--format=text", f"--url={served.url}", f"--tls-ca={old.ca}", stdin=PIPE)
    assert writer.stdin is not None
    writer.stdin.write(b"before ")
    async with Subscriber(served.url, "demo", tls=trusts_old, retry_for=0) as reading:
        items = aiter(reading)
        while not isinstance((await anext(items)).data, TextDelta):  # type: ignore[union-attr]
            pass
        new = make_certificates(tmp_path / "live")
        served.process.send_signal(signal.SIGHUP)
        await wait_logged(served.process, "gateway.reloaded")
        async with Subscriber(served.url, "demo", tls=new.context(), retry_for=0) as fresh:
            assert fresh.subscribed is not None
        shutil.copy(new.client_key, new.key)
        served.process.send_signal(signal.SIGHUP)
        failed = await wait_logged(served.process, "gateway.reload_failed")
        assert failed["level"] == "error"
        assert "is not the key" in failed["reason"]
        async with Subscriber(served.url, "demo", tls=new.context(), retry_for=0) as fresh:
            assert fresh.subscribed is not None
        writer.stdin.write(b"after")
        writer.stdin.close()
        async with asyncio.timeout(DEADLINE):
            assert (await anext(items)).data == TextDelta("after")  # type: ignore[union-attr]
        assert await writer.wait() == 0
