"""Several nodes as Compose and Kubernetes start them: real schemas judge the files, and so do the settings of nodes."""

from __future__ import annotations

import ipaddress
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deltawire.gateway.config import Settings
from deltawire.gateway.configuring import make_settings
from tests.support.pip import installed
from tests.support.processes import clean_environment
from tests.support.proxies import DEPLOY, RECIPES

pytestmark = pytest.mark.installs

KUBERNETES = DEPLOY / "kubernetes"
READ = """
import json, sys, yaml
from compose_spec import PyCompose

compose, *manifests = [list(yaml.safe_load_all(open(path, encoding="utf-8"))) for path in sys.argv[1:]]
PyCompose.from_json(json.dumps(compose[0]))
print(json.dumps([*compose, *(document for manifest in manifests for document in manifest)]))
"""

Document = dict[str, Any]


@pytest.fixture(scope="session")
def tools() -> dict[str, str]:
    """The environment of programs that read these files."""
    return clean_environment(PYTHONPATH=str(installed("deploy")), REDIS_PASSWORD="s3cret")


@pytest.fixture(scope="session")
def documents(tools: dict[str, str]) -> list[Document]:
    """What is in the file of Compose, which has been checked by its specification, and in each manifest."""
    paths = (DEPLOY / "compose.yaml", KUBERNETES / "deltawire.yaml", KUBERNETES / "servicemonitor.yaml")
    command = (sys.executable, "-c", READ, *map(str, paths))
    done = subprocess.run(command, env=tools, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: list[Document] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="session")
def compose(documents: list[Document]) -> Document:
    return documents[0]


@pytest.fixture(scope="session")
def manifests(documents: list[Document]) -> dict[str, Document]:
    """By kind."""
    return {document["kind"]: document for document in documents[1:]}


@pytest.fixture(scope="session")
def pod(manifests: dict[str, Document]) -> Document:
    it: Document = manifests["Deployment"]["spec"]["template"]["spec"]
    return it


def settings(variables: dict[str, str]) -> Settings:
    """Settings as a node of these variables has them."""
    named = {name.removeprefix("DELTAWIRE_").lower(): value for name, value in variables.items()}
    assert len(named) == len(variables)
    return make_settings(named)


def mebibytes(size: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(m|g|Mi|Gi)", size).groups()  # type: ignore[union-attr]
    return int(number) * (1024 if unit in "gGi" else 1)


ENOUGH = 1.5 * Settings().memory_limit / 1024**2 + 100
"""Mebibytes that a process takes at most, by the README, and when it is idle."""


# Compose


def nodes(compose: Document) -> Iterator[tuple[str, Document]]:
    return ((name, it) for name, it in compose["services"].items() if name.startswith("gateway-"))


def test_compose_s_own_command_accepts_the_file(tools: dict[str, str]) -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], check=False, capture_output=True).returncode:
        pytest.skip("needs docker compose")
    command = [docker, "compose", "--file", str(DEPLOY / "compose.yaml"), "config", "--quiet"]
    done = subprocess.run(command, env=tools, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_service_runs_without_rights_and_on_files_that_are_there(compose: Document) -> None:
    for name, service in compose["services"].items():
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"]), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "user" in service or service["build"]["dockerfile"] == "scripts/deploy/Dockerfile", name
        mounted = [volume.split(":")[0] for volume in service.get("volumes", ())]
        assert all((DEPLOY / path).is_file() for path in mounted if path.startswith("./")), name


def test_nodes_have_settings_that_hold_and_time_to_drain(compose: Document) -> None:
    found = dict(nodes(compose))
    front = ipaddress.ip_network(compose["networks"]["front"]["ipam"]["config"][0]["subnet"])
    assert len(found) == 2
    for name, node in found.items():
        one = settings(node["environment"] | {"DELTAWIRE_AUTH_KEY": ""})
        assert one.advertise_url == f"ws://{name}:{one.port}"
        assert ipaddress.ip_address(node["networks"]["front"]["ipv4_address"]) in front
        assert one.trusted_proxies == compose["services"]["nginx"]["networks"]["front"]["ipv4_address"]
        assert int(node["stop_grace_period"].removesuffix("s")) > one.drain_timeout
        assert mebibytes(node["mem_limit"]) > ENOUGH


def test_nginx_is_in_front_of_all_nodes_and_nobody_else_can_be_reached(compose: Document) -> None:
    upstream = re.findall(r"^\s+server (\S+):8765", RECIPES["nginx"].text, re.MULTILINE)
    assert upstream == [name for name, _ in nodes(compose)]
    assert [name for name, it in compose["services"].items() if "ports" in it] == ["nginx"]
    assert compose["services"]["redis"]["networks"] == ["storage"]
    assert compose["networks"]["storage"] == {"internal": True}
    redis = [
        name for name, it in compose["services"].items() if "./redis.conf:/etc/redis.conf:ro" in it.get("volumes", ())
    ]
    assert redis == ["redis"]


def test_redis_gets_the_password_of_the_environment(compose: Document, tmp_path: Path) -> None:
    shell, option, line = compose["services"]["redis"]["entrypoint"]
    line = line.replace("$$", "$").replace("/tmp/", f"{tmp_path}/").replace("/etc/", f"{DEPLOY}/")
    line, _, _ = line.partition(" && exec redis-server ")
    subprocess.run((shell, option, line), env=clean_environment(REDIS_PASSWORD="s3cret"), check=True)
    assert "user deltawire on >s3cret ~deltawire:* " in (tmp_path / "redis.conf").read_text()


# Kubernetes


def test_manifests_have_fields_that_kubernetes_knows(tools: dict[str, str]) -> None:
    command = (sys.executable, "-m", "kubernetes_validate", "--strict", "--quiet", str(KUBERNETES / "deltawire.yaml"))
    done = subprocess.run(command, env=tools, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_an_unknown_field_is_found(tools: dict[str, str], tmp_path: Path) -> None:
    manifest = tmp_path / "deltawire.yaml"
    manifest.write_text((KUBERNETES / "deltawire.yaml").read_text().replace("readinessProbe:", "readyProbe:"))
    command = (sys.executable, "-m", "kubernetes_validate", "--strict", "--quiet", str(manifest))
    done = subprocess.run(command, env=tools, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "readyProbe" in done.stdout + done.stderr


def test_what_selects_pods_selects_these(manifests: dict[str, Document]) -> None:
    labels = manifests["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        manifests["Service"]["spec"]["selector"],
        manifests["Deployment"]["spec"]["selector"]["matchLabels"],
        manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector == labels
    assert manifests["ServiceMonitor"]["spec"]["selector"]["matchLabels"] == manifests["Service"]["metadata"]["labels"]


def test_ports_are_called_the_same_everywhere(manifests: dict[str, Document], pod: Document) -> None:
    [container] = pod["containers"]
    [[name, port]] = [(it["name"], it["containerPort"]) for it in container["ports"]]
    assert port == Settings().port
    assert [it["name"] for it in manifests["Service"]["spec"]["ports"]] == [name]
    assert [it["port"] for it in manifests["ServiceMonitor"]["spec"]["endpoints"]] == [name]
    assert {it["httpGet"]["port"] for key, it in container.items() if key.endswith("Probe")} == {name}


def test_a_pod_has_settings_that_hold_and_time_to_drain(manifests: dict[str, Document], pod: Document) -> None:
    [container] = pod["containers"]
    given = {it["name"]: it["value"] for it in container["env"] if "value" in it}
    address = given["DELTAWIRE_ADVERTISE_URL"].replace("$(POD_IP)", "10.0.0.1")
    engine = {"DELTAWIRE_ENGINE_URL": "redis://redis", "DELTAWIRE_ADVERTISE_URL": address}
    one = settings(given | engine | {"DELTAWIRE_AUTH_KEY": ""})
    assert pod["terminationGracePeriodSeconds"] > one.drain_timeout > one.drain_delay
    assert one.drain_delay > container["readinessProbe"]["periodSeconds"]
    assert pod["enableServiceLinks"] is False, "the service's own variables would be settings"
    assert mebibytes(container["resources"]["limits"]["memory"]) > ENOUGH
    spec = manifests["Deployment"]["spec"]
    assert manifests["PodDisruptionBudget"]["spec"]["maxUnavailable"] < spec["replicas"]


def test_a_pod_runs_without_rights(pod: Document) -> None:
    [container] = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["securityContext"]["runAsNonRoot"]
    assert f"USER {pod['securityContext']['runAsUser']}:" in (DEPLOY / "Dockerfile").read_text()
    assert pod["automountServiceAccountToken"] is False


def test_probes_ask_for_life_and_readiness(pod: Document) -> None:
    [container] = pod["containers"]
    paths = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths == {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
