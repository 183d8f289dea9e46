"""What `scripts/deploy` has: units that systemd accepts, a container that follows the rules, a probe that tells."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deltawire.gateway.cli.environment import known_variables
from deltawire.gateway.config import Settings
from deltawire.gateway.configuring import make_settings
from deltawire.gateway.server import Gateway
from tests.support.certificates import make_certificates
from tests.support.processes import ROOT, clean_environment

DEPLOY = ROOT / "scripts" / "deploy"
UNIT = (DEPLOY / "deltawire.service").read_text()
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
PROBE = DEPLOY / "probe.py"
HADOLINT = shutil.which("hadolint", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, continued lines joined."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in joined.splitlines() if line]


OPTIONAL = re.compile(r"^#(?=[A-Z]\w+=)", re.MULTILINE)
"""What is before a line of the unit that an operator may switch on."""


@pytest.mark.parametrize("unit", [UNIT, OPTIONAL.sub("", UNIT)], ids=["as it is", "with all that can be switched on"])
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_accepts_the_units_without_a_word(tmp_path: Path, unit: str) -> None:
    here = str(Path(sys.executable).parent / "deltawire")
    (tmp_path / "deltawire.service").write_text(unit.replace("/opt/deltawire/bin/deltawire", here))
    shutil.copy(DEPLOY / "deltawire.socket", tmp_path)
    units = [str(tmp_path / name) for name in ("deltawire.service", "deltawire.socket")]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_unit_leaves_time_for_a_drain_and_room_for_connections() -> None:
    values = dict(re.findall(r"^(\w+)=(.*)$", UNIT, re.MULTILINE))
    assert values["Type"] == "notify"
    assert int(values["TimeoutStopSec"]) > Settings().drain_timeout
    assert int(values["LimitNOFILE"]) >= 100_000
    assert (values["DynamicUser"], values["NoNewPrivileges"], values["ProtectSystem"]) == ("yes", "yes", "strict")


def test_the_unit_hands_over_a_key_that_is_root_s_alone() -> None:
    values = dict(re.findall(r"^(\w+)=(.*)$", OPTIONAL.sub("", UNIT), re.MULTILINE))
    name, _, path = values["LoadCredential"].partition(":")
    assert path == "/etc/deltawire/key"
    assert values["Environment"] == f"DELTAWIRE_AUTH_KEY=%d/{name}"


def test_the_socket_is_on_loopback_where_the_settings_say() -> None:
    [listen] = re.findall(r"^ListenStream=(.*)$", (DEPLOY / "deltawire.socket").read_text(), re.MULTILINE)
    assert listen == f"{Settings().host}:{Settings().port}"


@pytest.mark.skipif(HADOLINT is None, reason="there is no hadolint for this machine")
def test_hadolint_accepts_the_dockerfile() -> None:
    assert HADOLINT is not None
    done = subprocess.run([HADOLINT, str(DEPLOY / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_container_is_built_in_stages_and_runs_as_nobody_in_particular() -> None:
    names = [name for name, _ in instructions()]
    values = dict(instructions())  # the last of each
    assert names.count("FROM") == 2
    assert all(
        re.fullmatch(r"python:3\.\d+-slim( AS build)?", value) for name, value in instructions() if name == "FROM"
    )
    last_stage = instructions()[len(names) - names[::-1].index("FROM") - 1 :]
    assert "RUN" not in [name for name, _ in last_stage], "nothing is installed in what is shipped"
    user, _, group = values["USER"].partition(":")
    assert int(user) >= 1000
    assert int(group) >= 1000
    for name in ("ENTRYPOINT", "CMD"):
        assert isinstance(json.loads(values[name]), list), "exec form, so that signals arrive"
    assert isinstance(json.loads(values["HEALTHCHECK"].partition("CMD ")[2]), list)
    assert values["EXPOSE"] == str(Settings().port)


def test_the_container_can_store_streams_in_a_volume_and_on_a_server() -> None:
    copied = [value for name, value in instructions() if name == "COPY"]
    user = dict(instructions())["USER"]
    assert any(f"--chown={user}" in value and value.endswith(" /var/lib/deltawire") for value in copied)
    assert any(name == "RUN" and "pip install" in value and "'.[redis]'" in value for name, value in instructions())


def test_everything_the_dockerfile_copies_is_let_through() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    for name, value in instructions():
        if name == "COPY" and not value.startswith("--from"):
            for source in value.split()[:-1]:
                assert f"!{source}" in ignored
                assert (ROOT / source).exists()


def test_every_variable_named_is_one_that_is_read() -> None:
    named = {
        name
        for path in DEPLOY.rglob("*")
        if path.is_file()
        for name in re.findall(r"DELTAWIRE_[A-Z_]+", path.read_text())
    }
    assert "DELTAWIRE_PORT" in named
    assert named <= known_variables()


def probe(port: int, **environment: str) -> tuple[int, str]:
    """Status and output of the container's probe."""
    done = subprocess.run(
        [sys.executable, str(PROBE)],
        env=clean_environment(DELTAWIRE_PORT=str(port), **environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.strip()


async def test_the_probe_tells_ready_from_draining_from_absent() -> None:
    async with Gateway(Settings(port=0, drain_timeout=0)) as gateway:
        port = gateway.port
        assert await asyncio.to_thread(probe, port) == (0, '200 {"status":"ok"}')
        gateway._admission.is_draining = True
        status, said = await asyncio.to_thread(probe, port)
        assert (status, "shutting down" in said) == (1, True)
        gateway._admission.is_draining = False
    status, said = await asyncio.to_thread(probe, port)
    assert (status, "refused" in said) == (1, True)


@pytest.mark.parametrize("wants_certificates", [False, True])
async def test_the_probe_asks_over_tls_where_the_gateway_has_it(tmp_path: Path, *, wants_certificates: bool) -> None:
    files = make_certificates(tmp_path)
    asking = {"tls_client_ca": files.ca} if wants_certificates else {}
    async with Gateway(make_settings({"port": 0, "drain_timeout": 0, **files.settings, **asking})) as gateway:
        said = await asyncio.to_thread(probe, gateway.port, DELTAWIRE_TLS_CERT=files.cert)
        assert said == (0, '200 {"status":"ok"}')
