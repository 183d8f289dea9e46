"""The TypeScript client (scripts/client): conformance, its own tests, what the gateway serves and what npm gets."""

from __future__ import annotations

import json
import subprocess
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

import deltawire
from tests.support.conformance import CASES, PlayedGateway, check
from tests.support.node import node, run_node
from tests.support.npm import locked, npm_install, require_npm
from tests.support.processes import ROOT

CLIENT = ROOT / "scripts" / "client"
SERVED = ROOT / "gateway" / "server" / "http" / "deltawire.js"

PROGRAM = """
import { DeltawireError, fold, subscribe, type Item, type Transcript } from "deltawire";
import { useStream } from "deltawire/react";
export async function read(): Promise<Transcript> {
  let transcript: Transcript = [];
  const events = subscribe("https://gateway.example", "demo", { token: async () => "t", types: ["text_delta"] });
  try {
    for await (const item of events) {
      const text: string = item.type === "text_delta" ? item.data.text : "";
      transcript = fold(transcript, item satisfies Item);
    }
  } catch (error) {
    if (error instanceof DeltawireError && error.code === "not_found") return [];
    throw error;
  }
  // @ts-expect-error there is no such policy
  subscribe("/", "demo", { policy: "fast" });
  return transcript;
}
export const textOf = (): string => useStream("/", "demo").text;
"""


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints; it has to end well."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def client() -> Path:
    """The folder of the client, with everything that its package.json names."""
    require_npm()
    modules = CLIENT / "node_modules"
    modules.mkdir(exist_ok=True)
    stamp = modules / ".installed"
    wanted = (CLIENT / "package.json").read_text(encoding="utf-8")
    with locked(modules / ".lock"):  # tests run in several processes
        if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
            npm_install(CLIENT)
            stamp.write_text(wanted, encoding="utf-8")
    return CLIENT


@pytest.mark.parametrize("about", CASES)
async def test_the_client_does_what_the_cases_want(about: str) -> None:
    async with AsyncExitStack() as stack:
        gateways = [await stack.enter_async_context(PlayedGateway(case)) for case in CASES[about]]
        given = [{"url": gateway.url, **case} for case, gateway in zip(CASES[about], gateways, strict=True)]
        outcomes = await run_node(CLIENT / "test" / "conformance.mjs", given=given)
        for case, gateway, outcome in zip(CASES[about], gateways, outcomes, strict=True):
            check(case, gateway, outcome)


def test_the_types_are_strict_and_its_own_tests_pass(client: Path) -> None:
    run("npm", "run", "check", cwd=client)
    assert "# fail 0" in run(*node(), "test/run.mjs", cwd=client)


def test_what_the_gateway_serves_is_made_of_the_sources(client: Path, tmp_path: Path) -> None:
    made = tmp_path / "deltawire.js"
    run("node", "build.mjs", "--served", made, cwd=client)
    assert made.read_bytes() == SERVED.read_bytes(), "run `npm run served` in scripts/client"


def test_the_package_for_npm_holds_the_client_its_types_and_nothing_else(client: Path, tmp_path: Path) -> None:
    [packed] = json.loads(run("npm", "pack", "--json", "--pack-destination", tmp_path, cwd=client))
    names = {file["path"] for file in packed["files"]}
    assert names >= {"dist/deltawire.js", "dist/react.js", "dist/index.d.ts", "dist/react.d.ts", "README.md"}
    assert {Path(name).suffix for name in names} == {".js", ".ts", ".md", ".json"}
    assert packed["version"] == deltawire.__version__

    package = tmp_path / "node_modules" / "deltawire"
    package.mkdir(parents=True)
    run("tar", "--extract", "--strip-components=1", "--file", tmp_path / packed["filename"], cwd=package)
    for peer in ("react", "@types"):
        (tmp_path / "node_modules" / peer).symlink_to(client / "node_modules" / peer)
    (tmp_path / "program.ts").write_text(PROGRAM, encoding="utf-8")
    options = ("--strict", "--noEmit", "--module", "nodenext", "--target", "es2022", "--types", "react")
    run("node", client / "node_modules" / "typescript" / "bin" / "tsc", *options, "program.ts", cwd=tmp_path)
    exported = run(
        "node", "--eval", 'import("deltawire").then((all) => console.log(...Object.keys(all)))', cwd=tmp_path
    )
    assert exported.split() == ["DeltawireError", "fold", "subscribe"]
