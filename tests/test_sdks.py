"""`tee` and the proxy with the SDKs of providers, in an environment that has them beside what the package needs."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.support.pip import installed_sdks
from tests.support.processes import ROOT, clean_environment

pytestmark = pytest.mark.installs


@pytest.mark.slow
def test_tee_and_proxy_pass_their_tests_with_real_sdks() -> None:
    path = os.pathsep.join([str(ROOT / "scripts" / "package"), str(installed_sdks())])
    command = (sys.executable, "-m", "pytest", "-q", "-n", "0", "--timeout=60", "-p", "no:cacheprovider", "--no-cov")
    done = subprocess.run(
        (*command, ROOT / "tests" / "tee" / "test_sdks.py", ROOT / "tests" / "proxy" / "test_sdks.py"),
        cwd=ROOT,
        env=clean_environment(PYTHONPATH=path),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\d{2,} passed in", done.stdout, re.MULTILINE), f"some were skipped: {done.stdout}"
