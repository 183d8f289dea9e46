"""`tee` and the proxy with the SDKs of providers, in an environment that has them beside what the package needs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.processes import ROOT, clean_environment

pytestmark = pytest.mark.installs


@pytest.fixture(scope="module")
def sdks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the SDKs that the project is tested with."""
    folder = tmp_path_factory.mktemp("sdks")
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]["sdks"]
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input")
    done = subprocess.run((*pip, "install", "--target", folder, *wanted), check=False, capture_output=True, text=True)
    assert "ResolutionImpossible" not in done.stderr, done.stderr
    if done.returncode != 0:
        pytest.skip(f"nothing can be installed here: {done.stderr.strip().splitlines()[-1]}")
    return folder


def test_tee_and_proxy_pass_their_tests_with_real_sdks(sdks: Path) -> None:
    command = (sys.executable, "-m", "pytest", "-q", "-n", "0", "--timeout=60", "-p", "no:cacheprovider", "--no-cov")
    done = subprocess.run(
        (*command, ROOT / "tests" / "tee" / "test_sdks.py", ROOT / "tests" / "proxy" / "test_sdks.py"),
        cwd=ROOT,
        env=clean_environment(PYTHONPATH=os.pathsep.join([str(ROOT / "scripts" / "package"), str(sdks)])),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\d{2,} passed in", done.stdout, re.MULTILINE), f"some were skipped: {done.stdout}"
