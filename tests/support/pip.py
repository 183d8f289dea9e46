"""Packages of Python, beside those that the project needs: the SDKs of providers, once for this checkout."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.npm import locked
from tests.support.processes import ROOT


def installed_sdks() -> Path:
    """A folder for `PYTHONPATH` that has the project's group `sdks`; without it, the test is skipped."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]["sdks"]
    folder = ROOT / ".venv" / "sdks"  # `make clean` removes it
    folder.parent.mkdir(exist_ok=True)
    stamp = folder / ".installed"
    with locked(folder.with_name(".sdks.lock")):  # tests run in several processes
        if not stamp.exists() or json.loads(stamp.read_text(encoding="utf-8")) != wanted:
            shutil.rmtree(folder, ignore_errors=True)
            pip_install("--target", folder, *wanted)
            stamp.write_text(json.dumps(wanted), encoding="utf-8")
    return folder


def pip_install(*arguments: str | Path, python: str | Path = sys.executable) -> None:
    """Install packages into an environment, which compiles what it needs of them; skips the test if pip can't."""
    pip = (sys.executable, "-m", "pip", "--python", python, "--quiet", "--disable-pip-version-check", "--no-input")
    done = subprocess.run((*pip, "install", "--no-compile", *arguments), check=False, capture_output=True, text=True)
    assert "ResolutionImpossible" not in done.stderr, done.stderr
    if done.returncode != 0:
        pytest.skip(f"nothing can be installed here: {done.stderr.strip().splitlines()[-1]}")
