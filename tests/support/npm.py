"""Packages of npm, installed once for this checkout."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.processes import ROOT


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time run the block."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def installed(package: str, version: str) -> Path:
    """The folder in which a package is installed; without it, the test is skipped.

    Args:
        package: its name.
        version: its major version.
    """
    prefix = ROOT / "node_modules" / package  # Git ignores it, and `make clean` removes it
    prefix.mkdir(parents=True, exist_ok=True)
    with locked(prefix / "lock"):  # tests run in several processes
        if not (prefix / "node_modules" / package).exists():
            npm_install(prefix, f"{package}@{version}")
    return prefix


def require_npm() -> None:
    """Skip the test where there is no npm."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("this needs Node.js and npm")


def npm_install(folder: Path, *packages: str) -> None:
    """Install packages into a folder; without any, those that its `package.json` names. Skips the test if npm can't."""
    require_npm()
    npm = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        subprocess.run([*npm, "--fetch-retries=1", *packages], capture_output=True, text=True, timeout=120, check=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"npm can't install here: {str(error.stderr or error).strip()[-200:]}")
