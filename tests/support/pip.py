"""Packages of Python beside those that the project needs: what only tests use, installed once for this checkout."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.npm import locked
from tests.support.processes import ROOT


def installed(group: str, *options: str) -> Path:
    """A folder for `PYTHONPATH` that has a dependency group of the project; without it, the test is skipped.

    Args:
        group: its name in pyproject.toml.
        options: of pip.
    """
    wanted = _pyproject()["dependency-groups"][group]
    return _kept(group, wanted, lambda folder: _pip_install("--target", folder, *options, *wanted))


def environment(name: str, *others: str) -> Path:
    """A virtual environment with this checkout and what it depends on; without it, the test is skipped.

    Args:
        name: of its folder.
        others: packages to install beside them.
    """

    def make(folder: Path) -> None:
        venv.create(folder, symlinks=True)
        _pip_install("--editable", ROOT, *others, python=folder / "bin" / "python")

    return _kept(name, [_pyproject()["project"], *others], make)


def _pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _kept(name: str, wanted: object, make: Callable[[Path], None]) -> Path:
    """The folder of that name, made anew unless it was made of the same.

    Args:
        name: of the folder.
        wanted: what it is made of, as JSON has it.
        make: makes it.
    """
    wanted = [wanted, sys.version, sys.base_prefix]
    folder = ROOT / ".venv" / name  # `make clean` removes it
    folder.parent.mkdir(exist_ok=True)
    stamp = folder / ".installed"
    with locked(folder.with_name(f".{name}.lock")):  # tests run in several processes
        if not stamp.exists() or json.loads(stamp.read_text(encoding="utf-8")) != wanted:
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            stamp.write_text(json.dumps(wanted), encoding="utf-8")
    return folder


def _pip_install(*arguments: str | Path, python: str | Path = sys.executable) -> None:
    """Install packages into an environment, which compiles what it needs of them; skips the test if pip can't."""
    pip = (sys.executable, "-m", "pip", "--python", python, "--quiet", "--disable-pip-version-check", "--no-input")
    done = subprocess.run((*pip, "install", "--no-compile", *arguments), check=False, capture_output=True, text=True)
    assert "ResolutionImpossible" not in done.stderr, done.stderr
    if done.returncode != 0:
        pytest.skip(f"nothing can be installed here: {done.stderr.strip().splitlines()[-1]}")
