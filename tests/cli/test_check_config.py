"""`deltawire check-config`: effective settings with their origins, and what is wrong with them."""

from __future__ import annotations

import sqlite3
import tomllib
from pathlib import Path

import msgspec
import pytest

from deltawire.gateway.cli.check_config import redact
from deltawire.gateway.config import GROUPS, Settings, grouped_settings
from tests.support.certificates import make_certificates
from tests.support.processes import Run


async def test_every_setting_is_printed_with_where_it_comes_from(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "deltawire.toml"
    path.write_text("port = 9000\nbuffer = 7\nsend_timeout = 3\n")
    done = await run("check-config", f"--config={path}", "--port=9001", env={"DELTAWIRE_BUFFER": "8"})
    assert (done.status, done.errors) == (0, "deltawire: these settings are good\n")
    lines = done.output.splitlines()
    for line in (
        'host = "127.0.0.1"  # default',
        "port = 9001  # flag",
        "buffer = 8  # environment",
        "send_timeout = 3.0  # file",
    ):
        assert line in lines
    printed = tomllib.loads(done.output)
    assert printed == msgspec.to_builtins(Settings(port=9001, buffer=8, send_timeout=3.0))


async def test_what_it_prints_is_a_file_that_says_the_same(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "printed.toml"
    path.write_text((await run("check-config", "--buffer=7", "--no-allow-block")).output)
    again = await run("check-config", f"--config={path}")
    assert tomllib.loads(again.output) == tomllib.loads(path.read_text())
    assert "buffer = 7  # file" in again.output


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--tls-cert=absent.pem", "--tls-key={key}"], "tls_cert absent.pem: No such file or directory"),
        (["--tls-cert={cert}", "--tls-key={client_key}"], "is not the key of the certificate"),
        (["--auth-key=absent.key"], "absent.key: No such file or directory"),
        (["--host=0.0.0.0"], "--insecure-no-auth"),
        (["--tls-client-ca={ca}"], "TLS needs both tls_cert and tls_key"),
        (["--host=no-such-host.invalid"], "host no-such-host.invalid: "),
        (["--host=a..b"], "host a..b: not a host name"),
        (["--workers=4", "--max-streams=3"], "max_streams: expected at least 4 with 4 workers"),
        (["--drain-delay=30"], "drain_delay is a part of drain_timeout"),
        (["--engine-replicas=1"], "engine_replicas: it needs engine_url"),
        (["--advertise-url=ws://a"], "advertise_url: it needs engine_url"),
        *(
            (["--engine-url=redis://127.0.0.1:1", f"--advertise-url={url}"], "advertise_url: expected ws://HOST[:PORT]")
            for url in ("a:1", "http://a", "ws://", "ws://:1", "ws://a:99999", "ws://[a", "ws://u:p@a", "ws://a?b")
        ),
        (["--engine-url=redis://a", "--advertise-url=notaurl"], "advertise_url: expected ws://"),
        (["--port=many"], "--port"),
        (["--config=absent.toml"], "absent.toml: No such file or directory"),
    ],
)
async def test_what_serve_could_not_start_with_is_one_line_and_status_2(
    run: Run, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    files = make_certificates(tmp_path / "tls")
    done = await run("check-config", *(it.format(**files._asdict()) for it in arguments))
    assert (done.status, done.output, len(done.errors.splitlines())) == (2, "", 1)
    assert done.errors.startswith("deltawire: error: ")
    assert reason in done.errors


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("https://keys.example/jwks.json", "https://keys.example/jwks.json"),
        ("https://me:secret@keys.example:8443/a?token=secret", "https://[redacted]@keys.example:8443/a?redacted"),
        ("/etc/deltawire/key.pem", "/etc/deltawire/key.pem"),
        (8765, 8765),
    ],
)
def test_nothing_secret_is_printed(value: object, shown: object) -> None:
    assert redact(value) == shown


def test_every_setting_is_in_one_group() -> None:
    groups = grouped_settings()
    assert [name for names in groups.values() for name in names] == list(Settings.__struct_fields__)
    assert list(groups) == list(GROUPS.values())


async def test_help_shows_settings_in_their_groups(run: Run) -> None:
    lines = (await run("serve", "--help")).output.splitlines()
    headings = [line[:-1] for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert headings == ["Options", *GROUPS.values()]
    assert lines.index("TLS:") < next(at for at, line in enumerate(lines) if "--tls-cert " in line)


async def test_a_store_that_could_not_be_used_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    old = tmp_path / "old"
    old.mkdir()
    (old / "deltawire.sqlite").write_bytes(b"no database" * 100)
    newer = tmp_path / "newer"
    newer.mkdir()
    with sqlite3.connect(newer / "deltawire.sqlite") as database:
        database.executescript("PRAGMA application_id = 0x64776972; PRAGMA user_version = 99; CREATE TABLE t (x)")
    for folder, why in (("file/deeper", "is no folder"), ("old", "can't be used"), ("newer", "version 99, newer")):
        done = await run("check-config", "--data-dir", str(tmp_path / folder))
        assert done.status == 2
        assert why in done.errors
    done = await run("check-config", "--data-dir", str(tmp_path / "new" / "er"))
    assert done.status == 0
    assert not (tmp_path / "new").exists()
