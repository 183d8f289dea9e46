"""Packages of npm, installed once into pytest's cache."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time run the block."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def installed(config: pytest.Config, package: str, version: str) -> Path:
    """The folder in which a package is installed; without it, the test is skipped.

    Args:
        config: of pytest, which keeps it from run to run.
        package: its name.
        version: its major version.
    """
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip(f"{package} needs Node.js and npm")
    if not hasattr(config, "cache"):
        pytest.skip(f"{package} is installed into pytest's cache, which is off")
    prefix = Path(config.cache.mkdir(package))
    with locked(prefix / "lock"):  # tests run in several processes
        if not (prefix / "node_modules" / package).exists():
            npm = ["npm", "install", "--prefix", str(prefix), "--no-audit", "--no-fund", "--loglevel=error"]
            try:
                subprocess.run(
                    [*npm, "--fetch-retries=1", f"{package}@{version}"],
                    capture_output=True,
                    text=True,
                    timeout=60,
                    check=True,
                )
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                pytest.skip(f"npm can't install {package} here: {str(error.stderr or error).strip()[-200:]}")
    return prefix
