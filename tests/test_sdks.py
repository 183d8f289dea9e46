"""What is built on `tee`, with real SDKs, in an environment that has them beside what the package needs."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.support.pip import installed
from tests.support.processes import ROOT, clean_environment

pytestmark = pytest.mark.installs


@pytest.mark.slow
def test_what_meets_real_sdks_passes_its_tests_with_them() -> None:
    path = os.pathsep.join([str(ROOT / "scripts" / "package"), str(installed("sdks"))])
    command = (sys.executable, "-m", "pytest", "-q", "-n", "0", "--timeout=60", "-p", "no:cacheprovider", "--no-cov")
    tests = ("tee/test_sdks.py", "proxy/test_sdks.py", "integrations/test_langchain.py")
    done = subprocess.run(
        (*command, *(ROOT / "tests" / test for test in tests)),
        cwd=ROOT,
        env=clean_environment(PYTHONPATH=path),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\d{2,} passed in", done.stdout, re.MULTILINE), f"some were skipped: {done.stdout}"
